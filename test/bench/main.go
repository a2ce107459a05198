// Command bench measures the control plane and launches against a real cloud, and prints one table with medians.
//
//	go run ./test/bench -skerry bin/skerry [-scaling] [-only REGEXP]
//
// It needs root. Every cloud that it starts has its own directory and public pool, no way out, and is taken down again.
package main

import (
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"skerry/internal/testcloud"
)

const (
	rounds  = 21
	timeout = 2 * time.Minute // of any single wait
)

var (
	binary  = flag.String("skerry", "bin/skerry", "the binary to measure")
	only    = flag.String("only", "", "measure only what matches")
	scaling = flag.Bool("scaling", false, "measure Auto Scaling")
)

// bench measures some rows of the table.
type bench struct {
	name string
	run  func(context.Context) ([]row, error)
}

// row is one line of the table.
type row struct {
	name, measured, wanted string
	ok                     bool
}

func main() {
	flag.Parse()
	match := regexp.MustCompile(*only)
	var rows []row
	failed := false
	benches := []bench{{"start", benchStart}, {"launch", benchLaunch}, {"fifty", benchFifty}, {"replace", benchReplace}, {"sim", benchSim}}
	if *scaling {
		benches = []bench{{"thousand", benchThousand}, {"many", benchMany}, {"alarm", benchAlarm}, {"decide", benchDecide}, {"week", benchWeek}}
	}
	for _, b := range benches {
		if !match.MatchString(b.name) {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*timeout)
		r, err := b.run(ctx)
		cancel()
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", b.name, err)
			failed = true
		}
		rows = append(rows, r...)
	}
	w := 0
	for _, r := range rows {
		w = max(w, len(r.name))
	}
	fmt.Printf("%-*s  %-34s %-12s\n", w, "what", "measured", "wanted")
	for _, r := range rows {
		verdict := "ok"
		if !r.ok {
			verdict = "MISSED"
		}
		fmt.Printf("%-*s  %-34s %-12s %s\n", w, r.name, r.measured, r.wanted, verdict)
	}
	if failed {
		os.Exit(1)
	}
}

// start runs a new cloud; the caller calls down.
func start(pool string, args ...string) (c *testcloud.Cloud, took time.Duration, err error) {
	if c, err = testcloud.New(*binary, pool, args...); err != nil {
		return nil, 0, err
	}
	if took, err = c.Up(); err != nil {
		down(c)
		return nil, 0, err
	}
	return c, took, nil
}

func down(c *testcloud.Cloud) {
	if err := c.Down(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func median(ds []time.Duration) time.Duration {
	if len(ds) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(ds))
	return s[len(s)/2]
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

// limitRow compares a median with what is wanted.
func limitRow(name string, ds []time.Duration, want time.Duration) row {
	m := median(ds)
	return row{name, fmt.Sprintf("p50 %s (max %s, n %d)", ms(m), ms(slices.Max(ds)), len(ds)), "<= " + want.String(), m <= want}
}

// benchStart: an empty directory to ready, and what the idle control plane holds in memory.
func benchStart(ctx context.Context) ([]row, error) {
	var ready []time.Duration
	var rss []int
	for range 7 {
		c, took, err := start("127.91.0.0/16")
		if err != nil {
			return nil, err
		}
		if _, err := c.EC2.DescribeRegions(ctx, &ec2.DescribeRegionsInput{}); err != nil {
			down(c)
			return nil, err
		}
		ready = append(ready, took)
		time.Sleep(time.Second)
		rss = append(rss, c.ResidentMiB())
		down(c)
	}
	slices.Sort(rss)
	r := rss[len(rss)/2]
	return []row{limitRow("up on an empty directory to ready", ready, 500*time.Millisecond),
		{"resident memory of the idle control plane", fmt.Sprintf("p50 %d MiB (n %d)", r, len(rss)), "<= 80 MB", float64(r)*1.048576 <= 80}}, nil
}

// stampCommand prints the time in microseconds with what the nano image has.
const (
	stampCommand = "echo first-line $(adjtimex | grep tv_)"
	stampScript  = "#!/bin/sh\n" + stampCommand + "\n"
)

var stampRE = regexp.MustCompile(`first-line time.tv_sec: +(\d+) time.tv_usec: +(\d+)`)

func stamp(text []byte) (time.Time, bool) {
	m := stampRE.FindSubmatch(text)
	if m == nil {
		return time.Time{}, false
	}
	s, _ := strconv.ParseInt(string(m[1]), 10, 64)
	us, _ := strconv.ParseInt(string(m[2]), 10, 64)
	return time.Unix(s, us*1000), true
}

func run(ctx context.Context, c *testcloud.Cloud, image string, n int32) ([]string, error) {
	out, err := c.EC2.RunInstances(ctx, &ec2.RunInstancesInput{ImageId: &image, InstanceType: types.InstanceTypeT2Nano, MinCount: &n, MaxCount: &n,
		UserData: aws.String(base64.StdEncoding.EncodeToString([]byte(stampScript)))})
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, i := range out.Instances {
		ids = append(ids, *i.InstanceId)
	}
	return ids, nil
}

// firstLine waits for the stamp of the user data on the console and returns it.
func firstLine(ctx context.Context, c *testcloud.Cloud, id string) (time.Time, error) {
	for end := time.Now().Add(timeout); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		out, err := c.EC2.GetConsoleOutput(ctx, &ec2.GetConsoleOutputInput{InstanceId: &id, Latest: aws.Bool(true)})
		if err != nil {
			return time.Time{}, err
		}
		text, _ := base64.StdEncoding.DecodeString(aws.ToString(out.Output))
		if at, ok := stamp(text); ok {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("%s: no first line of user data", id)
}

// benchLaunch: one at a time, from the call of RunInstances to the first line of user data, beside the runc binary.
func benchLaunch(ctx context.Context) ([]row, error) {
	c, _, err := start("127.92.0.0/16")
	if err != nil {
		return nil, err
	}
	defer down(c)
	image, err := c.Image(ctx)
	if err != nil {
		return nil, err
	}
	var ours, theirs []time.Duration
	for i := range rounds + 2 {
		start := time.Now()
		ids, err := run(ctx, c, image, 1)
		if err != nil {
			return nil, err
		}
		first, err := firstLine(ctx, c, ids[0])
		if err != nil {
			return nil, err
		}
		if err := c.Terminate(ctx, ids); err != nil {
			return nil, err
		}
		r, err := runcOnce(ctx, c.Dir)
		if err != nil {
			return nil, err
		}
		if i >= 2 { // the first ones warm the caches and start the zone's data plane
			ours, theirs = append(ours, first.Sub(start)), append(theirs, r)
		}
	}
	ratio := float64(median(ours)) / float64(median(theirs))
	return []row{limitRow("RunInstances to the first line of user data", ours, 100*time.Millisecond),
		{"the runc binary starting the same root file system", fmt.Sprintf("p50 %s (n %d)", ms(median(theirs)), len(theirs)), "", true},
		{"ratio to runc", fmt.Sprintf("%.2f", ratio), "<= 1.5", ratio <= 1.5}}, nil
}

// benchFifty: one call for fifty instances until all of them run.
func benchFifty(ctx context.Context) ([]row, error) {
	c, _, err := start("127.93.0.0/16")
	if err != nil {
		return nil, err
	}
	defer down(c)
	image, err := c.Image(ctx)
	if err != nil {
		return nil, err
	}
	var took []time.Duration
	for range 3 {
		start := time.Now()
		ids, err := run(ctx, c, image, 50)
		if err != nil {
			return nil, err
		}
		if err := c.WaitState(ctx, ids, types.InstanceStateNameRunning); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
		if err := c.Terminate(ctx, ids); err != nil {
			return nil, err
		}
	}
	return []row{limitRow("50 instances by one call, all running", took, 5*time.Second)}, nil
}

// benchSim: the control plane alone, with a thousand records.
func benchSim(ctx context.Context) ([]row, error) {
	c, _, err := start("127.95.0.0/16", "--driver", "sim")
	if err != nil {
		return nil, err
	}
	defer down(c)
	image, err := c.Image(ctx)
	if err != nil {
		return nil, err
	}
	var ids []string
	for range 10 {
		more, err := run(ctx, c, image, 100)
		if err != nil {
			return nil, err
		}
		ids = append(ids, more...)
	}
	if err := c.WaitState(ctx, ids[900:], types.InstanceStateNameRunning); err != nil {
		return nil, err
	}
	var sweep []time.Duration
	for range 11 {
		start, n := time.Now(), 0
		p := ec2.NewDescribeInstancesPaginator(c.EC2, &ec2.DescribeInstancesInput{MaxResults: aws.Int32(100)})
		for p.HasMorePages() {
			page, err := p.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, r := range page.Reservations {
				n += len(r.Instances)
			}
		}
		if n != 1000 {
			return nil, fmt.Errorf("described %d of 1000 instances", n)
		}
		sweep = append(sweep, time.Since(start))
	}
	var ready []time.Duration
	for range 5 {
		if err := c.Kill(""); err != nil {
			return nil, err
		}
		took, err := c.Up()
		if err != nil {
			return nil, err
		}
		ready = append(ready, took)
	}
	return []row{limitRow("1,000 sim instances described in pages of 100", sweep, 300*time.Millisecond),
		limitRow("up after kill -9 with 1,000 sim instances to ready", ready, 2*time.Second)}, nil
}
