package cloud

import (
	"context"
	"time"

	"skerry/api"
)

// usageEvery is how often the last uses of keys and roles are stored.
const usageEvery = 30 * time.Second

// permit notes the use of the caller's key and asks the caller's policies.
func (c *control) permit(call *api.Call, h *api.Handler, in any) error {
	region := call.Region
	if r := call.Keys["aws:requestedregion"]; len(r) == 1 { // of a global service, the one that was signed for
		region = r[0]
	}
	c.usage.Note(call.Principal.AccessKeyID, region, h.Service.SigningName, call.Now)
	return c.permissions.Permit(call, h, in)
}

// keepUsage stores when keys and roles were used last, until ctx ends and once more then.
func (c *control) keepUsage(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-time.After(usageEvery):
		case <-ctx.Done():
		}
		if err := c.usage.Flush(c.db); err != nil {
			c.log.Error("the last uses of keys could not be stored", "err", err)
		}
	}
}
