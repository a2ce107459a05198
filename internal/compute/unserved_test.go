package compute

import (
	"slices"
	"testing"

	"skerry/internal/scope"
	"skerry/internal/store"
)

func TestUnserved(t *testing.T) {
	t.Parallel()
	doc := `{"ImageId":"ami-1","imageid":"x","MinCount":1,"EnablePrimaryIpv6":false,"Ipv6AddressCount":2,"CpuOptions":{"AmdSevSnp":"enabled","CoreCount":1},
		"NetworkInterfaces":[{"DeviceIndex":0,"AssociateCarrierIpAddress":false,"Ipv6Prefixes":[]},{"EnaQueueCount":3}],"NetworkPerformanceOptions":{"BandwidthWeighting":""},"InstanceRequirements":{"VCpuCount":{"Min":1}}}`
	if got, want := Unserved([]byte(doc), "MinCount"), []string{"CpuOptions.AmdSevSnp", "Ipv6AddressCount", "NetworkInterfaces.EnaQueueCount"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made := 0
	once := func(s scope.Scope, op, token string, params any) (id string, err error) {
		err = w.db.Update(func(tx *store.WriteTx) error {
			id, err = Once(tx, s, op, token, params, func() (string, error) { made++; return "id-" + string(rune('0'+made)), nil })
			return err
		})
		return id, err
	}
	for _, c := range []struct {
		s              scope.Scope
		op, token, arg string
		id, code       string
	}{
		{w.s, "A", "t", "x", "id-1", ""}, {w.s, "A", "t", "x", "id-1", ""}, {w.s, "A", "t", "y", "", "IdempotentParameterMismatch"}, {w.s, "B", "t", "x", "id-2", ""}, {w.s.In("us-east-1"), "A", "t", "x", "id-3", ""},
		{w.s, "A", "", "x", "id-4", ""}, {w.s, "A", "", "x", "id-5", ""},
	} {
		id, err := once(c.s, c.op, c.token, c.arg)
		if id != c.id || code(err) != c.code {
			t.Errorf("%+v: %s %v", c, id, err)
		}
	}
}
