package survive

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	astypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"skerry/internal/testcloud"
)

// shims finds the processes that hold the cloud's instances, by instance.
func shims(c *testcloud.Cloud) map[string]int {
	out := map[string]int{}
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		cmd, _ := os.ReadFile(p + "/cmdline")
		if !strings.Contains(string(cmd), "skerry-shim") || !strings.Contains(string(cmd), c.Dir) {
			continue
		}
		for _, a := range strings.Split(string(cmd), "\x00") {
			if strings.HasPrefix(a, "i-") {
				out[a], _ = strconv.Atoi(filepath.Base(p))
			}
		}
	}
	return out
}

// eventually looks again and again.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// TestKillsDuringChanges kills the control plane while a warm pool fills, while a refresh replaces a group, and while the
// group is deleted, and an instance's holder: what was begun is finished, and requests notice none of it.
func TestKillsDuringChanges(t *testing.T) {
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
	again := func(pause time.Duration) {
		t.Helper()
		time.Sleep(pause)
		if err := c.Kill(""); err != nil {
			t.Fatal(err)
		}
		must(c.Up())(t)
	}
	var all load
	for _, n := range nodes(t, c, lb) {
		all.run(ctx, &wg, n)
	}
	group := aws.String("web")

	must(c.ASG.PutWarmPool(ctx, &autoscaling.PutWarmPoolInput{AutoScalingGroupName: group}))(t)
	again(20 * time.Millisecond)
	again(200 * time.Millisecond)
	eventually(t, "a warm pool of two stopped instances", func() bool {
		out := must(c.ASG.DescribeWarmPool(ctx, &autoscaling.DescribeWarmPoolInput{AutoScalingGroupName: group}))(t)
		n := 0
		for _, i := range out.Instances {
			if i.LifecycleState == astypes.LifecycleStateWarmedStopped {
				n++
			}
		}
		return n == 2 && len(out.Instances) == 2
	})
	all.check(t, "while the warm pool was filled")

	old := instances(t, c, types.InstanceStateNameRunning)
	r := must(c.ASG.StartInstanceRefresh(ctx, &autoscaling.StartInstanceRefreshInput{AutoScalingGroupName: group,
		Preferences: &astypes.RefreshPreferences{MinHealthyPercentage: aws.Int32(100), MaxHealthyPercentage: aws.Int32(150), InstanceWarmup: aws.Int32(1)}}))(t)
	for _, pause := range []time.Duration{50 * time.Millisecond, 400 * time.Millisecond, time.Second} {
		again(pause)
	}
	eventually(t, "the refresh is over", func() bool {
		out := must(c.ASG.DescribeInstanceRefreshes(ctx, &autoscaling.DescribeInstanceRefreshesInput{AutoScalingGroupName: group, InstanceRefreshIds: []string{*r.InstanceRefreshId}}))(t)
		return out.InstanceRefreshes[0].Status == astypes.InstanceRefreshStatusSuccessful
	})
	eventually(t, "nothing is left of the old ones", func() bool {
		held := shims(c)
		for _, id := range old {
			if held[id] != 0 {
				return false
			}
		}
		return true
	})
	all.check(t, "during the refresh")

	// An instance loses its holder: its requests go to the other one, and it is replaced.
	two := must(c.WaitHealthy(ctx, tg, 2, nil))(t)
	if err := syscall.Kill(shims(c)[two[0]], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := c.WaitHealthy(ctx, tg, 2, two[:1]); err != nil {
		out := must(c.ASG.DescribeScalingActivities(ctx, &autoscaling.DescribeScalingActivitiesInput{AutoScalingGroupName: group}))(t)
		for _, a := range out.Activities[:min(8, len(out.Activities))] {
			t.Log(aws.ToTime(a.StartTime).Format(time.TimeOnly), a.StatusCode, aws.ToString(a.Description), aws.ToString(a.Cause), aws.ToString(a.StatusMessage))
		}
		for _, g := range must(c.ASG.DescribeAutoScalingGroups(ctx, &autoscaling.DescribeAutoScalingGroupsInput{}))(t).AutoScalingGroups {
			for _, i := range g.Instances {
				t.Log(*i.InstanceId, i.LifecycleState, aws.ToString(i.HealthStatus))
			}
		}
		t.Fatal(err)
	}
	if n := all.failed.Load(); n > 2 { // those whose answer had begun
		all.check(t, "when an instance died")
	}
	cancel()
	wg.Wait()
	t.Logf("requests sent: %d, failed: %d", all.sent.Load(), all.failed.Load())

	ctx = context.Background()
	must(c.ASG.DeleteAutoScalingGroup(ctx, &autoscaling.DeleteAutoScalingGroupInput{AutoScalingGroupName: group, ForceDelete: aws.Bool(true)}))(t)
	again(30 * time.Millisecond)
	eventually(t, "the group is gone", func() bool {
		return len(must(c.ASG.DescribeAutoScalingGroups(ctx, &autoscaling.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{*group}}))(t).AutoScalingGroups) == 0
	})
	eventually(t, "its instances are gone", func() bool { return len(shims(c)) == 0 })
	if err := c.Down(); err != nil {
		t.Fatal(err)
	}
	if left := leftovers(c.Dir); len(left) > 0 {
		t.Errorf("left over after down: %v", left)
	}
}
