package fabric

import (
	"context"
	"errors"
)

// Counters are an interface's, as the instance sees it: received by it, sent by it.
type Counters struct {
	RxBytes, TxBytes, RxPackets, TxPackets, RxDropped, TxDropped uint64
}

// InterfaceStats returns the counters of every plugged interface of the cloud by interface id.
func (f *Fabric) InterfaceStats(ctx context.Context) (map[string]Counters, error) {
	ids, err := f.List(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]Counters{}
	var errs []error
	for _, id := range ids {
		h, err := handleAt(f.VPCNamespace(id))
		if err != nil {
			if nsInode(f.VPCNamespace(id)) != 0 {
				errs = append(errs, err)
			}
			continue // half made or just removed
		}
		links, err := vpcLinks(h)
		h.Close()
		errs = append(errs, err)
		for _, l := range links {
			if s := l.Attrs().Statistics; s != nil && isInterface(l) && l.Attrs().Alias != "" {
				out[l.Attrs().Alias] = Counters{
					RxBytes: s.TxBytes, TxBytes: s.RxBytes, RxPackets: s.TxPackets, TxPackets: s.RxPackets,
					RxDropped: s.TxDropped, TxDropped: s.RxDropped,
				}
			}
		}
	}
	return out, errors.Join(errs...)
}
