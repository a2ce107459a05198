package fabric

import (
	"testing"
)

func TestSecurityGroupsDenyAndAllow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v := twoZones("vpc-1", 1)
	a, b := instance(t, "a", "10.0.0.10", "a", "sg-out"), instance(t, "b", "10.0.1.10", "b", "sg-closed")
	v.Interfaces = []Interface{a, b}
	w.apply(v)
	serve(t, b.NetNS, "10.0.1.10:80", "b")
	serve(t, b.NetNS, "10.0.1.10:81", "b")
	blocked(t, a.NetNS, "10.0.1.10:80", "no rule allows it in")

	v.Interfaces[1].GroupIDs = []string{"sg-web"}
	w.apply(v)
	reaches(t, a.NetNS, "10.0.1.10:80", "b 10.0.0.10")
	blocked(t, a.NetNS, "10.0.1.10:81", "only port 80 is open")

	v.Interfaces[0].GroupIDs = []string{"sg-closed"}
	w.apply(v)
	blocked(t, a.NetNS, "10.0.1.10:80", "no rule allows it out")
}
