package scaling

import (
	"encoding/json"
	"time"

	"skerry/internal/scope"
	"skerry/internal/store"
)

// Instance is what the package needs to know about an EC2 instance.
type Instance struct {
	ID, State      string // pending, running, stopping, stopped, shutting-down, terminated
	ImageID        string
	InstanceType   string
	SubnetID, Zone string
	VpcID          string
	Reason         string // code of the state reason, and its message
	LaunchTime     time.Time
	Spot           bool
	AtRisk         bool // its interruption is announced, or likely
	Interrupting   bool // it is announced
	Detailed       bool // its metrics come every minute
	// ImpairedSince is when its status checks began to fail; zero is that they pass.
	ImpairedSince time.Time
}

// Subnet is where instances of a zone go.
type Subnet struct{ ID, Zone, VpcID string }

// Template is a launch template's version, resolved.
type Template struct {
	ID, Name     string
	Version      int
	InstanceType string
	ImageID      string
	Spot         bool            // it asks for spot instances
	Requirements json.RawMessage // InstanceRequirements, instead of a type
}

// LaunchRequest asks for one instance.
type LaunchRequest struct {
	Group         string
	Template      *TemplateRef // or
	Configuration *LaunchSpec
	InstanceType  string // overrides, when not empty
	ImageID       string
	SubnetID      string
	Spot          bool // a spot instance, for MaxPrice or whatever it costs
	MaxPrice      string
	Tags          map[string]string // of the instance, in place of the template's where they meet
}

// Compute is what the package needs of EC2. Functions that take a *store.WriteTx work inside the caller's transaction.
// Errors are *fault.Error with EC2's code and message.
type Compute interface {
	Market
	// Instance finds an instance; a terminated one may be found for a while.
	Instance(tx store.Tx, s scope.Scope, id string) (Instance, bool)
	// Resolve finds a launch template's version; an empty Version means the default one.
	Resolve(tx store.Tx, s scope.Scope, ref TemplateRef) (Template, error)
	// CheckLaunch tells why Launch would fail, but for a want of capacity. It changes nothing.
	CheckLaunch(w *store.WriteTx, s scope.Scope, r LaunchRequest) error
	// Launch writes a pending instance.
	Launch(w *store.WriteTx, s scope.Scope, r LaunchRequest) (Instance, error)
	// Terminate starts the termination whatever protection the instance has; a terminated instance is a success.
	Terminate(w *store.WriteTx, s scope.Scope, id string) error
	// Stop begins to stop a running instance, Start to start a stopped one.
	Stop(w *store.WriteTx, s scope.Scope, id string) error
	Start(w *store.WriteTx, s scope.Scope, id string) error
	// SetGroup writes or clears the instance's tag aws:autoscaling:groupName, and its record's group.
	SetGroup(w *store.WriteTx, s scope.Scope, id, group string) error
	// Subnet finds a subnet.
	Subnet(tx store.Tx, s scope.Scope, id string) (Subnet, error)
	// DefaultSubnet finds the default subnet of a zone, making the default VPC when it is not there yet.
	DefaultSubnet(w *store.WriteTx, s scope.Scope, zone string) (Subnet, error)
	// Tables are those whose changes the loop looks at.
	Tables() []store.AnyTable
}

// TargetState is a target's health as ELB describes it: initial, healthy, unhealthy, unused, draining, unavailable, or
// empty for a target that is not registered.
type TargetState string

// Balancer is what the package needs of Elastic Load Balancing.
type Balancer interface {
	// Check refuses a target group that does not exist, or whose targets are not instances.
	Check(tx store.Tx, s scope.Scope, targetGroupARN string) error
	// Register adds an instance at the group's port; one that is there already is a success.
	Register(w *store.WriteTx, s scope.Scope, targetGroupARN, instanceID string) error
	// Deregister starts draining; a target or group that is gone is a success.
	Deregister(w *store.WriteTx, s scope.Scope, targetGroupARN, instanceID string) error
	// Health tells a target's state.
	Health(tx store.Tx, s scope.Scope, targetGroupARN, instanceID string) TargetState
	// Delay is how long a deregistered target drains, not scaled; 0 when nothing flows to it.
	Delay(tx store.Tx, s scope.Scope, targetGroupARN, instanceID string) time.Duration
	// Tables are those whose changes the loop looks at.
	Tables() []store.AnyTable
}

// AlarmSpec is an alarm that target tracking makes.
type AlarmSpec struct {
	Name, Description     string
	Namespace, MetricName string
	Dimensions            []Dimension
	Statistic, Unit       string
	Period, Evaluations   int // seconds, periods
	Threshold             float64
	Comparison            string          // GreaterThanThreshold, LessThanThreshold
	Action                string          // the policy's ARN
	Queries               json.RawMessage // metric math, in place of the metric
}

// Alarms is what the package needs of CloudWatch.
type Alarms interface {
	Put(w *store.WriteTx, s scope.Scope, a AlarmSpec) error
	// Delete removes alarms; one that is gone is a success.
	Delete(w *store.WriteTx, s scope.Scope, names []string) error
	// CheckMath refuses metric math (the API's JSON) that an alarm of the period can't evaluate.
	CheckMath(queries json.RawMessage, period int) error
	// State is OK, ALARM, INSUFFICIENT_DATA, or empty for no such alarm.
	State(tx store.Tx, s scope.Scope, name string) string
	// Value is the metric's in the newest period that the alarm has judged; false when it is not known.
	Value(tx store.Tx, s scope.Scope, name string) (float64, bool)
	// ByAction lists the names of the alarms that have the ARN among their actions.
	ByAction(tx store.Tx, s scope.Scope, arn string) []string
}

// Engine is the package's transitions with what they depend on. Its methods work inside the caller's transaction and keep
// nothing, so it is safe for concurrent use.
type Engine struct {
	Compute   Compute
	Balancer  Balancer
	Alarms    Alarms
	Metrics   Metrics // nil: no predictive scaling
	TimeScale int     // divides every wait that is AWS's policy; 0 is 1
}

// scaled is a wait of AWS's, in seconds, as it is lived here.
func (e *Engine) scaled(seconds int) time.Duration {
	return e.scale(time.Duration(seconds) * time.Second)
}

func (e *Engine) scale(d time.Duration) time.Duration {
	if e.TimeScale > 1 {
		return d / time.Duration(e.TimeScale)
	}
	return d
}

// bootGrace is what a time scale leaves of a health check grace period: a machine boots as fast as it can, whatever the
// scale, and must not be replaced for that.
const bootGrace = 30 * time.Second

// grace is a group's health check grace period as it is lived here.
func (e *Engine) grace(g Group) time.Duration {
	real := time.Duration(g.GracePeriod) * time.Second
	return max(e.scale(real), min(real, bootGrace))
}
