package zone

import "context"

type nodes struct{}

func newNodes(o Options, rep *reporter, c *checker) *nodes    { return &nodes{} }
func (n *nodes) apply(ctx context.Context, d Desired) []error { return nil }
func (n *nodes) healthChanged(group string)                   {}
func (n *nodes) stats() []BalancerStats                       { return nil }
func (n *nodes) stop(ctx context.Context)                     {}
