// Package metric keeps what the cloud measures and judges it: a durable store of metrics, and the alarms over them.
//
// Vocabulary, all of it CloudWatch's: a metric is a namespace, a name and the exact set of its dimensions; a datum is one
// published value (or several, or a statistic set) of a metric; a point is the aggregate of a metric over one period.
//
// The store (store.go, block.go) aggregates on writing: data of one metric that fall into the same minute, or the same
// second for high-resolution data, become one count, sum, minimum and maximum. That is CloudWatch's own meaning of a
// metric, and the reason why the store is not a general time series database, which refuses a second sample at the same
// time. How the values are spread is kept in bins (distribution.go), for percentiles. What Put has returned for is on disk.
// docs/format/metrics.md has the format.
//
// A composite alarm is one whose rule looks at the states of others (composite.go, rule.go), and whose actions another one may
// suppress (suppress.go); it moves in the transaction that moves them.
//
// Metric math is read by expression.go and computed by math.go, over lists of queries that read one another (formula.go) and
// metrics that a search finds (search.go).
//
// Alarms are rows of the table Alarms, changed by transactions of the caller. Evaluate is pure: alarm, points and time
// in, state and reason out. Evaluator.Step evaluates what is due; Evaluator.Run calls it from its caller's goroutine.
// What changes in an alarm is told as an event, and to the topics among its actions (notify.go). The package starts no goroutine.
//
// It must not import api, net/http, encoding/xml or os/exec.
package metric
