package compute

import (
	"testing"
	"time"

	"skerry/internal/store"
)

func TestASpotInstancesLife(t *testing.T) {
	w := newWorld(t)
	spot := func(o *SpotMarketSpec) LaunchSpec {
		return LaunchSpec{InstanceType: "t3.nano", InstanceMarketOptions: &MarketSpec{MarketType: "spot", SpotOptions: o}}
	}
	for code, o := range map[string]*SpotMarketSpec{"SpotMaxPriceTooLow": {MaxPrice: "0.0001"}, "InvalidParameterValue": {MaxPrice: "x"}, "UnsupportedOperation": {SpotInstanceType: "persistent"}} {
		_, err := w.try(1, spot(o))
		w.wants(code, err, code)
	}
	i := w.launch(1, spot(&SpotMarketSpec{MaxPrice: "1"}))[0]
	if i.Spot == nil || i.Spot.RequestID == "" || i.Spot.MaxPrice != "1" || i.ShutdownBehavior != "terminate" {
		t.Fatalf("instance %+v", i)
	}
	w.write(func(tx *store.WriteTx) error {
		MarkRunning(tx, i.Scope, i.ID)
		_, err := Stop(tx, i.Scope, []string{i.ID}, false)
		w.wants("stop", err, "UnsupportedOperation")
		return nil
	})
	w.write(func(tx *store.WriteTx) error {
		if _, err := Recommend(tx, i.Scope, i.ID); err != nil {
			return err
		}
		_, err := Interrupt(tx, i.Scope, i.ID, InterruptionNotice)
		return err
	})
	i = w.get(i.ID)
	if i.Spot.RecommendedAt.IsZero() || i.Spot.EndsAt.Sub(i.Spot.NoticedAt) != 2*time.Minute {
		t.Fatalf("spot %+v", i.Spot)
	}
	w.pass(time.Minute)
	w.write(func(tx *store.WriteTx) error {
		if next := EndInterrupted(tx); !next.Equal(i.Spot.EndsAt) || !NextInterruption(tx).Equal(next) {
			t.Errorf("the next end is %v", next)
		}
		return nil
	})
	w.pass(time.Minute)
	w.write(func(tx *store.WriteTx) error { EndInterrupted(tx); return nil })
	if i = w.get(i.ID); i.State != ShuttingDown || i.StateReasonCode != "Server.SpotInstanceTermination" {
		t.Fatalf("after the notice %+v", i)
	}
}
