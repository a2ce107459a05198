package compute

import (
	"slices"
	"strconv"
	"time"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// InterruptionNotice is how long before its end a spot instance is told.
const InterruptionNotice = 2 * time.Minute

// Spot is what a spot instance has beyond an instance on demand.
type Spot struct {
	RequestID     string
	MaxPrice      string    `json:",omitempty"` // as it was bid
	RecommendedAt time.Time `json:",omitempty"` // of the rebalance recommendation
	NoticedAt     time.Time `json:",omitempty"` // of the interruption notice
	EndsAt        time.Time `json:",omitempty"` // it is terminated
	Cancelled     bool      `json:",omitempty"` // the request; the instance goes on
}

// CancelSpotRequests cancels the requests that spot instances came from, which leaves the instances alone. It returns the ids
// that no instance came from; then nothing is changed.
func CancelSpotRequests(w *store.WriteTx, s scope.Scope, ids []string) (missing []string) {
	found := map[string]Instance{}
	for i := range Instances.Prefix(w, s.Prefix()) {
		if i.Spot != nil && slices.Contains(ids, i.Spot.RequestID) {
			found[i.Spot.RequestID] = i
		}
	}
	for _, id := range ids {
		if _, ok := found[id]; !ok {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 {
		return missing
	}
	for _, i := range found {
		sp := *i.Spot
		sp.Cancelled = true
		i.Spot = &sp
		Instances.Put(w, i)
	}
	return nil
}

// checkSpot checks a launch's market options, and tells whether it is one of spot instances.
func (l *launch) checkSpot() error {
	o := l.p.Spec.InstanceMarketOptions
	if o == nil || o.MarketType == "" {
		return nil
	}
	no := func(what string) error {
		return fault.New(fault.Unsupported, "UnsupportedOperation", "%s is not supported.", what)
	}
	if o.MarketType != "spot" {
		return no("InstanceMarketOptions.MarketType=" + o.MarketType)
	}
	l.spot = &Spot{}
	s := o.SpotOptions
	if s == nil {
		return nil
	}
	switch {
	case s.SpotInstanceType != "" && s.SpotInstanceType != "one-time":
		return no("SpotOptions.SpotInstanceType=" + s.SpotInstanceType)
	case s.InstanceInterruptionBehavior != "" && s.InstanceInterruptionBehavior != "terminate":
		return no("SpotOptions.InstanceInterruptionBehavior=" + s.InstanceInterruptionBehavior)
	case s.BlockDurationMinutes != 0:
		return no("SpotOptions.BlockDurationMinutes")
	case s.ValidUntil != "":
		return no("SpotOptions.ValidUntil")
	}
	if s.MaxPrice == "" {
		return nil
	}
	bid, err := strconv.ParseFloat(s.MaxPrice, 64)
	if err != nil || bid <= 0 {
		return fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter price is invalid. \"%s\" is an invalid spot instance price", s.MaxPrice, s.MaxPrice)
	}
	if price := l.typ.SpotPrice(l.subnet.AvailabilityZone); bid < price {
		return fault.New(fault.Capacity, "SpotMaxPriceTooLow", "Your Spot request price of %s is lower than the minimum required Spot request fulfillment price of %s.",
			s.MaxPrice, strconv.FormatFloat(price, 'f', 4, 64))
	}
	l.spot.MaxPrice = s.MaxPrice
	return nil
}

// spotInstance finds a live spot instance.
func spotInstance(tx store.Tx, s scope.Scope, id string) (Instance, error) {
	i, err := GetInstance(tx, s, id)
	switch {
	case err != nil:
		return i, err
	case i.Spot == nil:
		return i, fault.New(fault.State, "UnsupportedOperation", "The instance '%s' is not a Spot Instance.", id)
	case i.State != Running && i.State != Pending:
		return i, fault.New(fault.State, "IncorrectInstanceState", "The instance '%s' is %s.", id, i.State)
	}
	return i, nil
}

// Recommend tells a spot instance that it is at an elevated risk of interruption. Repeating it changes nothing.
func Recommend(w *store.WriteTx, s scope.Scope, id string) (Instance, error) {
	i, err := spotInstance(w, s, id)
	if err != nil || !i.Spot.RecommendedAt.IsZero() {
		return i, err
	}
	sp := *i.Spot
	sp.RecommendedAt = w.Now()
	i.Spot = &sp
	Instances.Put(w, i)
	i.tell(w, "EC2 Instance Rebalance Recommendation", map[string]string{"instance-id": id})
	return i, nil
}

// Interrupt announces the end of a spot instance; EndInterrupted ends it. An earlier announcement stands.
func Interrupt(w *store.WriteTx, s scope.Scope, id string, notice time.Duration) (Instance, error) {
	i, err := spotInstance(w, s, id)
	if err != nil || !i.Spot.EndsAt.IsZero() {
		return i, err
	}
	sp := *i.Spot
	sp.NoticedAt, sp.EndsAt = w.Now(), w.Now().Add(notice)
	i.Spot = &sp
	Instances.Put(w, i)
	i.tell(w, "EC2 Spot Instance Interruption Warning", map[string]string{"instance-id": id, "instance-action": "terminate"})
	return i, nil
}

// EndInterrupted terminates the spot instances whose announced end has come, and tells when the next one's does.
func EndInterrupted(w *store.WriteTx) (next time.Time) {
	for _, state := range []string{Running, Pending} {
		for i := range Instances.By(w, "state", state) {
			switch {
			case i.Spot == nil || i.Spot.EndsAt.IsZero():
			case !w.Now().Before(i.Spot.EndsAt):
				const code = "Server.SpotInstanceTermination"
				i.StateTransitionReason = code
				i.become(w, ShuttingDown, code, code+": Spot instance termination")
			case next.IsZero() || i.Spot.EndsAt.Before(next):
				next = i.Spot.EndsAt
			}
		}
	}
	return next
}

// NextInterruption tells when the next announced end comes; zero is never.
func NextInterruption(tx store.Tx) (next time.Time) {
	for _, state := range []string{Running, Pending} {
		for i := range Instances.By(tx, "state", state) {
			if i.Spot != nil && !i.Spot.EndsAt.IsZero() && (next.IsZero() || i.Spot.EndsAt.Before(next)) {
				next = i.Spot.EndsAt
			}
		}
	}
	return next
}

// oneTime refuses to stop or start a spot instance.
func (i Instance) oneTime(verb string) error {
	if i.Spot == nil {
		return nil
	}
	return fault.New(fault.Unsupported, "UnsupportedOperation", "You can't %s the Spot Instance '%s' because it is associated with a one-time Spot Instance request. You can only %s Spot Instances associated with persistent Spot Instance requests.", verb, i.ID, verb)
}
