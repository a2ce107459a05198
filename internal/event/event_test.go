package event

import (
	"encoding/json"
	"slices"
	"testing"

	"skerry/internal/scope"
	"skerry/internal/store"
)

func TestWhatWaitsIsBoundedAndInOrder(t *testing.T) {
	db, err := store.Open("", store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	update := func(fn func(w *store.WriteTx)) {
		t.Helper()
		if err := db.Update(func(w *store.WriteTx) error { fn(w); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	here := scope.Scope{Account: "000000000000", Region: "us-east-1"}
	rows := func() []Record { return slices.Collect(Records.All(db.Read())) }
	update(func(w *store.WriteTx) {
		Emit(w, here, "aws.ec2", "x", nil, nil)
		Notify(w, "arn:aws:sns:r:a:t", "s", "m")
	})
	if len(rows()) != 0 {
		t.Fatal("something waits without a sink")
	}
	update(func(w *store.WriteTx) {
		SetSink(w, true)
		for n := range Most + 5 {
			Emit(w, here, "aws.ec2", "x", []string{"r"}, map[string]int{"n": n})
		}
		Notify(w, "arn:aws:sqs:r:a:q", "s", "m")
	})
	all := rows()
	var e struct{ Detail struct{ N int } }
	if err := json.Unmarshal(all[0].Body, &e); err != nil || len(all) != Most || e.Detail.N != 6 || all[Most-1].Kind != "SQS" {
		t.Fatalf("%d records, the first %s, the last %+v", len(all), all[0].Body, all[len(all)-1])
	}
	update(func(w *store.WriteTx) { Done(w, all[2].Seq) })
	if got := rows(); len(got) != Most-3 || got[0].Seq != all[3].Seq {
		t.Fatalf("%d left", len(got))
	}
	update(func(w *store.WriteTx) { SetSink(w, false) })
	if len(rows()) != 0 {
		t.Fatal("something waits without a sink")
	}
}
