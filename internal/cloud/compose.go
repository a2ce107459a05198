package cloud

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"

	"skerry/api"
	"skerry/api/acm"
	"skerry/api/autoscaling"
	"skerry/api/cloudwatch"
	"skerry/api/ec2"
	"skerry/api/elbv2"
	"skerry/api/iam"
	"skerry/api/sts"
	"skerry/internal/access"
	"skerry/internal/balance"
	"skerry/internal/bucket"
	"skerry/internal/compute"
	"skerry/internal/endpoint/acmapi"
	"skerry/internal/endpoint/asgapi"
	"skerry/internal/endpoint/cwapi"
	"skerry/internal/endpoint/ec2api"
	"skerry/internal/endpoint/elbapi"
	"skerry/internal/endpoint/iamapi"
	"skerry/internal/endpoint/stsapi"
	"skerry/internal/fabric"
	"skerry/internal/fault"
	"skerry/internal/gateway"
	"skerry/internal/identity"
	"skerry/internal/metric"
	"skerry/internal/network"
	"skerry/internal/scaling"
	"skerry/internal/scaling/live"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// newMux is the table of all operations of all services.
func newMux(c *control) *api.Mux {
	m := api.NewMux(&ec2.Service, &autoscaling.Service, &elbv2.Service, &cloudwatch.Service, &iam.Service, &sts.Service, &acm.Service)
	engine := &scaling.Engine{Compute: live.Compute{}, Balancer: live.Balancer{}, Alarms: live.Alarms{}, Metrics: live.Metrics{Store: c.metrics}, TimeScale: c.o.TimeScale}
	c.scaler = &scaling.Reconciler{DB: c.db, Engine: engine, Log: c.log, Clock: c.clock}
	c.alarms = &metric.Evaluator{DB: c.db, Store: c.metrics, Clock: c.clock, Log: c.log, TimeScale: c.o.TimeScale, OnAction: c.act}
	(&ec2api.Server{DB: c.db, Console: c.console, Images: newImaging(c), Log: c.log}).Register(m)
	(&asgapi.Server{DB: c.db, Engine: engine}).Register(m)
	(&elbapi.Server{DB: c.db, Buckets: bucket.Dir(filepath.Join(c.o.DataDir, bucket.Name)), Contents: c.contents}).Register(m)
	(&cwapi.Server{DB: c.db, Metrics: c.metrics, Evaluator: c.alarms, TimeScale: c.o.TimeScale}).Register(m)
	(&iamapi.Server{DB: c.db}).Register(m)
	(&stsapi.Server{DB: c.db}).Register(m)
	(&acmapi.Server{UsedBy: func(tx store.Tx, _ scope.Scope, arn string) []string { return balance.CertificateUsers(tx, arn) }}).Register(m)
	return m
}

// compose builds the API from the parts.
func (c *control) compose() {
	c.permissions = &access.Checker{DB: c.db}
	c.contents = elbapi.NewContents(c.db, c.clock)
	o := gateway.Options{Mux: newMux(c), DB: c.db, Clock: c.clock, Log: c.log, Permit: c.permit, Authorize: c.permissions.Authorize}
	o.Credentials = func(id string, r *http.Request) (gateway.Credential, error) { return c.credential(id, r, true) }
	c.handler = c.withContents(gateway.New(o))
	o.Credentials = func(id string, r *http.Request) (gateway.Credential, error) { return c.credential(id, r, false) }
	c.inside = c.withContents(gateway.New(o))
}

// withContents serves trust stores' contents beside the API.
func (c *control) withContents(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == elbapi.ContentPath {
			c.contents.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// credential finds an access key: the root's own, one of the state, or, for a request from this host, a well-known one.
func (c *control) credential(id string, r *http.Request, fromHost bool) (gateway.Credential, error) {
	if c.o.RootKeyFile != "" {
		rootID, secret, err := readRootKey(c.o.RootKeyFile) // read each time: a changed file counts at once
		if err != nil {
			return gateway.Credential{}, err
		}
		if id == rootID {
			return gateway.Credential{AccessKeyID: id, Secret: secret, Principal: gateway.RootOf(gateway.RootAccount)}, nil
		}
	}
	k, err := identity.Lookup(c.db.Read(), id)
	switch f, ok := fault.As(err); {
	case err == nil:
		return gateway.Credential{AccessKeyID: id, Secret: k.Secret, SessionToken: k.SessionToken, Principal: api.Principal(k.Principal)}, nil
	case ok && f.Code == "ExpiredToken":
		return gateway.Credential{}, &gateway.KeyError{Expired: true}
	case !ok:
		return gateway.Credential{}, err
	case fromHost && c.o.RootKeyFile == "":
		return gateway.WellKnown(id, r)
	}
	return gateway.Credential{}, &gateway.KeyError{}
}

// serveInside serves the API inside a VPC until the returned function is called.
func (c *control) serveInside(v network.VPC) (stop func(), err error) {
	lis, err := fabric.ListenIn(c.fabric.VPCNamespace(v.ID), "tcp", fmt.Sprintf("%s:%d", fabric.APIAddr, fabric.APIPort))
	if err != nil {
		return nil, err
	}
	srv := newServer(c.inside)
	go srv.Serve(lis) // ends with stop
	return func() { srv.Close() }, nil
}

// runAlarms evaluates alarms until ctx ends. Their actions are scaling policies, and what EC2 can do to an instance.
func (c *control) runAlarms(ctx context.Context) { c.alarms.Run(ctx) }

// act does an action of an alarm, in the transaction that moved the alarm. Topics are the
// evaluator's business, and what can't be delivered from here (functions) is left to the alarm's history.
func (c *control) act(w *store.WriteTx, a metric.Alarm, old string, v metric.Verdict, arn string) error {
	if scaling.IsPolicyARN(arn) {
		return live.OnAction(c.scaler.Engine)(w, a, old, v, arn)
	}
	id := a.Dimensions["InstanceId"]
	verb, isEC2 := ec2Action(arn)
	if !isEC2 || id == "" {
		return nil
	}
	var err error
	switch verb {
	case "stop":
		_, err = compute.Stop(w, a.Scope, []string{id}, false)
	case "terminate":
		_, err = compute.Terminate(w, a.Scope, []string{id})
	case "reboot", "recover":
		err = compute.Reboot(w, a.Scope, []string{id})
	}
	if _, ok := fault.As(err); ok { // the instance is gone, or protected: the alarm's state stands all the same
		c.log.Warn("an alarm's action was refused", "alarm", a.Name, "action", arn, "err", err)
		return nil
	}
	return err
}

// ec2Action reads the two forms of EC2 actions: arn:aws:automate:REGION:ec2:stop and arn:aws:swf:…/AWS_EC2.InstanceId.Stop/1.0.
func ec2Action(arn string) (verb string, ok bool) {
	if i := strings.Index(arn, ":ec2:"); strings.HasPrefix(arn, "arn:aws:automate:") && i > 0 {
		return arn[i+len(":ec2:"):], true
	}
	if _, rest, found := strings.Cut(arn, "AWS_EC2.InstanceId."); found {
		verb, _, _ = strings.Cut(rest, "/")
		return strings.ToLower(verb), true
	}
	return "", false
}
