package zone

import "context"

type checker struct {
	changed func(group string)
	health  *reporter
}

func newChecker(ctx context.Context, o Options, rep *reporter) *checker { return &checker{health: rep} }
func (c *checker) stop()                                                {}
