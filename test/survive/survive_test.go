// Package survive kills parts of a cloud under load and looks whether anybody notices.
package survive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"

	"skerry/internal/require"
	"skerry/internal/testcloud"
)

const pool = "127.83.0.0/16"

// newCloud starts a cloud, or skips where that can't work.
func newCloud(t *testing.T, pool string, args ...string) *testcloud.Cloud {
	t.Helper()
	binary := require.Binary(t)
	require.Root(t)
	c, err := testcloud.New(binary, pool, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			b, _ := os.ReadFile(c.Dir + "/skerry.log")
			t.Logf("the end of the log: %s", b[max(0, len(b)-8000):])
		}
		if err := c.Down(); err != nil {
			t.Error(err)
		}
	})
	if _, err := c.Up(); err != nil {
		t.Fatal(err)
	}
	return c
}

// nodes resolves a load balancer's name with the cloud's DNS server for this host.
func nodes(t *testing.T, c *testcloud.Cloud, arn string) []string {
	t.Helper()
	out, err := c.ELB.DescribeLoadBalancers(context.Background(), &elb.DescribeLoadBalancersInput{LoadBalancerArns: []string{arn}})
	if err != nil {
		t.Fatal(err)
	}
	server := strings.TrimSuffix(pool, "0.0/16") + "0.1:53"
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, server)
	}}
	addrs, err := r.LookupHost(context.Background(), *out.LoadBalancers[0].DNSName+".")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(addrs)
	return addrs
}

// load asks one node again and again, half of the time on a new connection.
type load struct {
	sent, failed atomic.Int64
	mu           sync.Mutex
	last         string
}

func (l *load) run(ctx context.Context, wg *sync.WaitGroup, node string) {
	kept := &http.Client{Timeout: 6 * time.Second}
	fresh := &http.Client{Timeout: 6 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	wg.Add(1)
	go func() { // ends with ctx
		defer wg.Done()
		for n := 0; ctx.Err() == nil; n++ {
			c := kept
			if n%2 == 1 {
				c = fresh
			}
			l.sent.Add(1)
			if err := get(c, "http://"+node+"/"); err != nil {
				l.failed.Add(1)
				l.mu.Lock()
				l.last = time.Now().Format("15:04:05.000 ") + err.Error()
				l.mu.Unlock()
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
}

func get(c *http.Client, url string) error {
	res, err := c.Get(url)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<16))
	if err != nil {
		return err
	}
	if res.StatusCode != 200 || !bytes.Contains(b, []byte("hello")) {
		return fmt.Errorf("%s: %.80q", res.Status, b)
	}
	return nil
}

func (l *load) check(t *testing.T, when string) {
	t.Helper()
	if n := l.failed.Load(); n > 0 {
		l.mu.Lock()
		defer l.mu.Unlock()
		t.Fatalf("%s: %d of %d requests failed; the last: %s", when, n, l.sent.Load(), l.last)
	}
}

// instances lists the ids of instances in a state.
func instances(t *testing.T, c *testcloud.Cloud, state types.InstanceStateName) []string {
	t.Helper()
	out, err := c.EC2.DescribeInstances(context.Background(), &ec2.DescribeInstancesInput{Filters: []types.Filter{{Name: aws.String("instance-state-name"), Values: []string{string(state)}}}})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, r := range out.Reservations {
		for _, i := range r.Instances {
			ids = append(ids, *i.InstanceId)
		}
	}
	slices.Sort(ids)
	return ids
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestKillsUnderLoad(t *testing.T) {
	c := newCloud(t, pool, "--time-scale", "20")
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	tg, lb, err := c.BuildGroup(ctx)
	if err != nil {
		t.Fatal(err)
	}
	must(c.WaitHealthy(ctx, tg, 2, nil))(t)
	ns := nodes(t, c, lb)
	for end := time.Now().Add(time.Minute); len(ns) != 2 && time.Now().Before(end); ns = nodes(t, c, lb) {
		time.Sleep(20 * time.Millisecond)
	}
	if len(ns) != 2 {
		t.Fatalf("the name has the addresses %v, not one for each of two zones", ns)
	}
	var all load
	for _, n := range ns {
		all.run(ctx, &wg, n)
	}
	time.Sleep(300 * time.Millisecond)
	all.check(t, "before anything")
	before := instances(t, c, types.InstanceStateNameRunning)

	// The control plane dies and stays away: nobody notices.
	if err := c.Kill(""); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	all.check(t, "without a control plane")
	must(c.Up())(t)
	time.Sleep(500 * time.Millisecond)
	all.check(t, "after the control plane came back")
	if after := instances(t, c, types.InstanceStateNameRunning); !slices.Equal(before, after) {
		t.Fatalf("before the kill %v ran, after it %v", before, after)
	}

	// It dies in the middle of launches: they are finished.
	for _, pause := range []time.Duration{0, 15 * time.Millisecond, 40 * time.Millisecond} {
		n := int32(len(instances(t, c, types.InstanceStateNameRunning)) + 1)
		if _, err := c.ASG.SetDesiredCapacity(ctx, &autoscaling.SetDesiredCapacityInput{AutoScalingGroupName: aws.String("web"), DesiredCapacity: &n}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(pause)
		if err := c.Kill(""); err != nil {
			t.Fatal(err)
		}
		must(c.Up())(t)
		must(c.WaitHealthy(ctx, tg, int(n), nil))(t)
		if n == 4 { // the group's maximum
			break
		}
	}
	all.check(t, "after kills in the middle of launches")

	// And in the middle of a termination: it is finished, and the group is whole again.
	victim := instances(t, c, types.InstanceStateNameRunning)[0]
	if _, err := c.ASG.TerminateInstanceInAutoScalingGroup(ctx, &autoscaling.TerminateInstanceInAutoScalingGroupInput{InstanceId: &victim, ShouldDecrementDesiredCapacity: aws.Bool(false)}); err != nil {
		t.Fatal(err)
	}
	if err := c.Kill(""); err != nil {
		t.Fatal(err)
	}
	must(c.Up())(t)
	if err := c.WaitState(ctx, []string{victim}, types.InstanceStateNameTerminated); err != nil {
		t.Fatal(err)
	}
	must(c.WaitHealthy(ctx, tg, 4, []string{victim}))(t)
	all.check(t, "after a kill in the middle of a termination")

	// A zone's data plane dies: its node pauses, the other never notices.
	cancel()
	wg.Wait()
	other := load{}
	ctx2, cancel2 := context.WithCancel(context.Background())
	defer wg.Wait()
	defer cancel2()
	survivor, dead := nodeOf(t, c, testcloud.Region+"b", ns), nodeOf(t, c, testcloud.Region+"a", ns)
	other.run(ctx2, &wg, survivor)
	time.Sleep(200 * time.Millisecond)
	pid := c.PID(testcloud.Region + "a")
	killed := time.Now()
	if err := c.Kill(testcloud.Region + "a"); err != nil {
		t.Fatal(err)
	}
	for get(&http.Client{Timeout: time.Second}, "http://"+dead+"/") != nil {
		if time.Since(killed) > time.Minute {
			t.Fatal("the killed zone's node does not come back")
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Logf("the killed zone's node answered again after %s", time.Since(killed))
	if now := c.PID(testcloud.Region + "a"); now == pid || now == 0 {
		t.Errorf("the zone's process was %d and is %d", pid, now)
	}
	time.Sleep(time.Second)
	other.check(t, "in the other zone")
	cancel2()
	wg.Wait()
	t.Logf("requests sent: %d, failed: %d", all.sent.Load()+other.sent.Load(), all.failed.Load()+other.failed.Load())

	// Down leaves nothing.
	if err := c.Down(); err != nil {
		t.Fatal(err)
	}
	if left := leftovers(c.Dir); len(left) > 0 {
		t.Errorf("left over after down: %v", left)
	}
}

// nodeOf finds the public address of the load balancer's node in a zone.
func nodeOf(t *testing.T, c *testcloud.Cloud, zone string, among []string) string {
	t.Helper()
	out, err := c.EC2.DescribeNetworkInterfaces(context.Background(), &ec2.DescribeNetworkInterfacesInput{Filters: []types.Filter{
		{Name: aws.String("availability-zone"), Values: []string{zone}}, {Name: aws.String("requester-id"), Values: []string{"amazon-elb"}}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range out.NetworkInterfaces {
		if i.Association != nil && slices.Contains(among, aws.ToString(i.Association.PublicIp)) {
			return *i.Association.PublicIp
		}
	}
	t.Fatalf("no node in %s among %v", zone, among)
	return ""
}

// leftovers lists what still carries the cloud's id or directory.
func leftovers(dir string) []string {
	sum := sha256.Sum256([]byte(filepath.Clean(dir)))
	id := hex.EncodeToString(sum[:4])
	var left []string
	look := func(what string, text []byte) {
		for _, line := range strings.Split(string(text), "\n") {
			if strings.Contains(line, id) || strings.Contains(line, dir) {
				left = append(left, what+": "+strings.TrimSpace(line))
			}
		}
	}
	run := func(what string, args ...string) {
		out, _ := exec.Command(args[0], args[1:]...).Output()
		look(what, out)
	}
	run("link", "ip", "-o", "link")
	run("table", "nft", "list", "tables")
	run("route", "ip", "route")
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	look("mount", mounts)
	hosts, _ := os.ReadFile("/etc/hosts")
	look("name", hosts)
	for _, pattern := range []string{"/sys/fs/cgroup/*/*" + id + "*", "/sys/fs/cgroup/*" + id + "*", "/run/*" + id + "*", "/run/skerry/*/*" + id + "*"} {
		m, _ := filepath.Glob(pattern)
		for _, p := range m {
			left = append(left, "file: "+p)
		}
	}
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		b, _ := os.ReadFile(p)
		look("process", bytes.ReplaceAll(b, []byte{0}, []byte{' '}))
	}
	return left
}
