package balance

import "strconv"

// groupDefaults are the defaults of target group attributes.
var groupDefaults = map[string]string{
	"deregistration_delay.timeout_seconds": "300",
}

// Attribute is an attribute's value, or its default.
func (g TargetGroup) Attribute(key string) string {
	if v, ok := g.Attributes[key]; ok {
		return v
	}
	return groupDefaults[key]
}

// CheckPort is the port at which a target is checked, as ELB describes it.
func (g TargetGroup) CheckPort(port int32) string {
	if g.Check.Port == "" || g.Check.Port == "traffic-port" {
		return strconv.Itoa(int(port))
	}
	return g.Check.Port
}
