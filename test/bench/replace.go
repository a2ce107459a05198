package main

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

// benchReplace: from the call of TerminateInstances to a healthy replacement behind the ALB, in real time.
func benchReplace(ctx context.Context) ([]row, error) {
	c, _, err := start("127.94.0.0/16", "--time-scale", "1")
	if err != nil {
		return nil, err
	}
	defer down(c)
	tg, _, err := c.BuildGroup(ctx)
	if err != nil {
		return nil, err
	}
	healthy, err := c.WaitHealthy(ctx, tg, 2, nil)
	if err != nil {
		return nil, err
	}
	var took []time.Duration
	for range 7 {
		start := time.Now()
		victim := healthy[0]
		if _, err := c.EC2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{victim}}); err != nil {
			return nil, err
		}
		if healthy, err = c.WaitHealthy(ctx, tg, 2, []string{victim}); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
	}
	return []row{limitRow("TerminateInstances to the replacement healthy behind the ALB", took, 5*time.Second)}, nil
}
