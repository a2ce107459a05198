// Package event keeps what is to be told to the outside: events as EventBridge shapes them, and notifications as SNS and SQS
// do. They are written in the transaction of what they tell about, so none is lost or made up, and wait in a table until
// the cloud has delivered them to its sink. Without a sink nothing is written.
//
// The table holds the newest Most records: when a sink does not take them, the oldest are dropped and counted. No
// goroutines. It must not import api, net/http, encoding/xml or os/exec.
package event

import (
	"encoding/json"
	"fmt"
	"time"

	"skerry/internal/scope"
	"skerry/internal/store"
)

// Most bounds the records that wait.
const Most = 10000

// Record is one thing to tell, ready to be sent.
type Record struct {
	Seq   uint64
	Kind  string // EventBridge, SNS, SQS
	Topic string `json:",omitempty"` // of SNS and SQS: the ARN
	Body  json.RawMessage
}

// state is the one row of settings.
type state struct {
	Sink        bool
	First, Next uint64 // of the records that wait
	Dropped     uint64
}

var (
	// Records is the table of what waits, in its order.
	Records = store.NewTable("event", func(r Record) string { return key(r.Seq) })
	states  = store.NewTable("event-state", func(state) string { return "state" })
)

// Tables lists the package's tables.
var Tables = []store.AnyTable{Records, states}

func key(seq uint64) string { return fmt.Sprintf("%020d", seq) }

// SetSink says whether there is a sink. Without one, what waits is dropped.
func SetSink(w *store.WriteTx, on bool) {
	s, _ := states.Get(w, "state")
	if !on {
		for r := range Records.All(w) {
			Records.Delete(w, key(r.Seq))
		}
		s.First = s.Next
	}
	s.Sink = on
	states.Put(w, s)
}

// HasSink tells whether there is a sink.
func HasSink(tx store.Tx) bool {
	s, _ := states.Get(tx, "state")
	return s.Sink
}

func add(w *store.WriteTx, kind, topic string, body any) {
	s, _ := states.Get(w, "state")
	if !s.Sink {
		return
	}
	b, err := json.Marshal(body)
	if err != nil {
		return // only maps and strings come here
	}
	Records.Put(w, Record{Seq: s.Next, Kind: kind, Topic: topic, Body: b})
	s.Next++
	for s.Next-s.First > Most {
		if Records.Delete(w, key(s.First)) {
			s.Dropped++
		}
		s.First++
	}
	states.Put(w, s)
}

// Done forgets the records up to one that was delivered, or given up.
func Done(w *store.WriteTx, upTo uint64) {
	s, _ := states.Get(w, "state")
	for ; s.First <= upTo && s.First < s.Next; s.First++ {
		Records.Delete(w, key(s.First))
	}
	states.Put(w, s)
}

func id(w *store.WriteTx) string {
	a, b := w.Rand().Uint64(), w.Rand().Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", a>>32, a>>16&0xffff, a&0xfff, b>>48&0x3fff|0x8000, b&0xffffffffffff)
}

// Emit tells an event of EventBridge's default bus.
func Emit(w *store.WriteTx, s scope.Scope, source, detailType string, resources []string, detail any) {
	if !HasSink(w) {
		return
	}
	add(w, "EventBridge", "", struct {
		Version    string    `json:"version"`
		ID         string    `json:"id"`
		DetailType string    `json:"detail-type"`
		Source     string    `json:"source"`
		Account    string    `json:"account"`
		Time       time.Time `json:"time"`
		Region     string    `json:"region"`
		Resources  []string  `json:"resources"`
		Detail     any       `json:"detail"`
	}{"0", id(w), detailType, source, s.Account, w.Now().UTC().Truncate(time.Second), s.Region, resources, detail})
}

// Notify sends a message to an SNS topic, or to an SQS queue when the ARN is one's.
func Notify(w *store.WriteTx, target, subject string, message any) {
	if !HasSink(w) {
		return
	}
	text, err := json.Marshal(message)
	if err != nil {
		return
	}
	if len(target) > 12 && target[:12] == "arn:aws:sqs:" {
		add(w, "SQS", target, map[string]string{"MessageId": id(w), "QueueArn": target, "Body": string(text)})
		return
	}
	add(w, "SNS", target, map[string]string{"Type": "Notification", "MessageId": id(w), "TopicArn": target, "Subject": subject, "Message": string(text),
		"Timestamp": w.Now().UTC().Format("2006-01-02T15:04:05.000Z")})
}
