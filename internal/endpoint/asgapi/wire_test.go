package asgapi

import (
	"math/rand/v2"
	"net/http/httptest"
	"regexp"
	"testing"
	"time"

	"skerry/api"
	as "skerry/api/autoscaling"
	"skerry/internal/balance"
	"skerry/internal/compute"
	"skerry/internal/event"
	"skerry/internal/gateway"
	"skerry/internal/metric"
	"skerry/internal/scaling/live"
	"skerry/internal/store"
	"skerry/internal/wiretest"
)

// unfailing operations take nothing that could be wrong.
var unfailing = map[string]bool{"DescribeAccountLimits": true, "DescribeAdjustmentTypes": true, "DescribeAutoScalingNotificationTypes": true, "DescribeLifecycleHookTypes": true,
	"DescribeMetricCollectionTypes": true, "DescribeScalingProcessTypes": true, "DescribeTerminationPolicyTypes": true}

// unserved operations always refuse: there is nothing that they could work on.
var unserved = map[string]bool{"AttachLoadBalancers": true, "DetachLoadBalancers": true}

// TestWire plays the conversations of testdata/wire: each operation with a success and an error.
func TestWire(t *testing.T) {
	m := api.NewMux(&as.Service)
	(&Server{}).Register(m)
	good, bad := wiretest.Run(t, m, peer)
	for _, h := range m.Handlers() {
		if good[h.Name] == unserved[h.Name] || bad[h.Name] == unfailing[h.Name] {
			t.Errorf("%s: success %t, error %t", h.Name, good[h.Name], bad[h.Name])
		}
	}
}

// peer is a cloud in which time stands still but for the step "pass DURATION". The step "sink" gives it a sink of
// events, "history" two days of a group's load, "run NAME" an instance beside its groups, "end ID" ends one.
func peer(t *testing.T, seed [32]byte) *wiretest.Peer {
	c := newCloudWith(t, rand.NewChaCha8(seed))
	metrics, err := metric.Open(t.TempDir(), metric.Options{Clock: func() time.Time { return c.now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { metrics.Close() })
	c.Engine.Metrics, c.Engine.TimeScale = live.Metrics{Store: metrics}, 1
	m := api.NewMux(&as.Service)
	c.Register(m)
	srv := httptest.NewServer(gateway.New(gateway.Options{Mux: m, DB: c.DB, Credentials: gateway.WellKnown}))
	t.Cleanup(srv.Close)
	p := &wiretest.Peer{URL: srv.URL, Region: here.Region, Service: "autoscaling", Version: "2011-01-01",
		IDs:   map[string]*regexp.Regexp{"i": regexp.MustCompile(`\bi-[0-9a-f]{17}\b`), "sg": regexp.MustCompile(`\bsg-[0-9a-f]{17}\b`), "id": regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)},
		Names: map[string]string{"subnetA": c.subnets[0], "subnetB": c.subnets[1], "template": c.lt, "image": c.image, "tg": c.tg}}
	c.update(func(w *store.WriteTx) error {
		g, _ := balance.TargetGroups.Get(w, here.Key(c.tg))
		g.ARN, g.Name, g.ID = here.ARN("elasticloadbalancing", "targetgroup/api/fedcba9876543210"), "api", "fedcba9876543210"
		balance.TargetGroups.Put(w, g)
		p.Names["tgB"] = g.ARN
		return nil
	})
	p.Do = func(words []string) {
		switch words[0] {
		case "pass":
			d, err := time.ParseDuration(words[1])
			if err != nil {
				t.Fatal(err)
			}
			c.run(d)
		case "sink":
			c.update(func(w *store.WriteTx) error { event.SetSink(w, true); return nil })
		case "history":
			var data []metric.Datum
			for h := 1; h <= 48; h++ {
				data = append(data, metric.Datum{Namespace: "AWS/EC2", Name: "CPUUtilization", Dimensions: map[string]string{"AutoScalingGroupName": words[1]}, Unit: "Percent",
					Timestamp: c.now.Add(-time.Duration(h) * time.Hour), Value: 9000})
			}
			if err := metrics.Put(here, data); err != nil {
				t.Fatal(err)
			}
		case "run":
			c.update(func(w *store.WriteTx) error {
				r, err := compute.Launch(w, compute.LaunchParams{Scope: here, MinCount: 1, MaxCount: 1, Spec: compute.LaunchSpec{ImageID: c.image, InstanceType: "t3.small", SubnetID: c.subnets[0],
					UserData: "IyEvYmluL3NoCg==", Monitoring: &compute.EnabledSpec{Enabled: true}}})
				if err != nil {
					return err
				}
				p.Names[words[1]] = r.Instances[0].ID
				compute.MarkRunning(w, here, r.Instances[0].ID)
				return nil
			})
		case "end":
			c.update(func(w *store.WriteTx) error {
				_, err := compute.Terminate(w, here, []string{p.Names[words[1]]})
				return err
			})
		default:
			t.Fatalf("no step %s", words[0])
		}
	}
	return p
}
