package scaling

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkDecide is a look at a settled group.
func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := Situation{Now: time.Unix(1e9, 0), Group: settings(0, n), TimeScale: 1, Subnets: []Subnet{{ID: "subnet-za", Zone: "za"}, {ID: "subnet-zb", Zone: "zb"}}}
			s.Group.Desired = n
			for i := range n {
				at := s.Subnets[i%2]
				m := Member{ID: fmt.Sprintf("i-%05d", i), State: InService, Zone: at.Zone, SubnetID: at.ID, Health: Healthy, LaunchedAt: time.Unix(9e8+int64(i), 0)}
				s.Members = append(s.Members, View{Member: m, Instance: Instance{ID: m.ID, State: "running"}})
			}
			if p := Decide(s); len(p.Actions) != 0 {
				b.Fatalf("a settled group plans %v", p.Actions)
			}
			b.ReportAllocs()
			for b.Loop() {
				Decide(s)
			}
		})
	}
}
