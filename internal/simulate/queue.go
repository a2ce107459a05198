package simulate

import "math"

// queue is the service's requests: those that wait, and how long all of them waited.
type queue struct {
	rate     float64 // requests a second that one instance serves
	workers  int
	patience float64 // seconds
	backlog  float64
	requests float64
	unserved float64
	waits    histogram // of all
	step     histogram // of this step
}

// pass lets dt seconds pass, with demand requests a second and n instances.
func (q *queue) pass(dt, demand float64, n int) {
	if dt <= 0 {
		return
	}
	came := demand * dt
	q.requests += came
	power := float64(n) * q.rate
	could := power * dt
	before := q.backlog
	q.backlog = max(0, before+came-could)
	lost := 0.0
	if most := power * q.patience; q.backlog > most {
		lost = min(q.backlog-most, came)
		q.backlog = most
		if n == 0 { // those that waited are gone too
			lost = came + before
			q.backlog = 0
		}
	}
	q.unserved += lost
	in := came - lost
	if in <= 0 || n == 0 {
		return
	}
	if before+q.backlog > 0 { // overloaded, or what was left is being served: the wait follows the queue
		q.record(in, (before+q.backlog)/2/power)
		return
	}
	q.steady(in, demand, n)
}

func (q *queue) record(n, wait float64) {
	q.waits.add(n, wait)
	q.step.add(n, wait)
}

// steady records n requests in a system in balance: some don't wait, the others wait exponentially.
func (q *queue) steady(n, demand float64, instances int) {
	c := float64(instances * q.workers)
	mu := q.rate / float64(q.workers)
	rho := demand / (c * mu)
	if rho >= 0.999 {
		rho = 0.999
	}
	mean := math.Pow(rho, math.Sqrt(2*(c+1))-1) / (c * (1 - rho)) / mu // Sakasegawa 1977
	decay := c * mu * (1 - rho)
	waiting := min(1, mean*decay)
	if waiting < 1e-4 {
		q.record(n, 0)
		return
	}
	q.record(n*(1-waiting), 0)
	const parts = 16 // of equal weight
	for i := range parts {
		w := -math.Log(1-(float64(i)+0.5)/parts) / decay
		q.record(n*waiting/parts, min(w, q.patience))
	}
}

// histogram counts weights by waits, in bins that grow by a tenth from a tenth of a millisecond on.
type histogram struct {
	total float64
	bins  [192]float64
}

const firstBin, binGrowth = 0.0001, 1.1

func (h *histogram) add(n, seconds float64) {
	h.total += n
	i := 0
	if seconds > firstBin {
		i = min(len(h.bins)-1, 1+int(math.Log(seconds/firstBin)/math.Log(binGrowth)))
	}
	h.bins[i] += n
}

// quantile is the wait in seconds that a share p stays below.
func (h *histogram) quantile(p float64) float64 {
	want, sum := h.total*p, 0.0
	for i, n := range h.bins {
		if sum += n; sum >= want && sum > 0 {
			if i == 0 {
				return 0
			}
			return firstBin * math.Pow(binGrowth, float64(i))
		}
	}
	return 0
}

func (h *histogram) reset() { *h = histogram{} }
