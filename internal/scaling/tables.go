package scaling

import (
	"encoding/json"
	"time"

	"skerry/internal/scope"
	"skerry/internal/store"
)

// Lifecycle states of a member.
const (
	Pending             = "Pending"
	PendingWait         = "Pending:Wait"
	PendingProceed      = "Pending:Proceed"
	InService           = "InService"
	Terminating         = "Terminating"
	TerminatingWait     = "Terminating:Wait"
	TerminatingProceed  = "Terminating:Proceed"
	TerminatingRetained = "Terminating:Retained" // its terminate hook was abandoned, and the group keeps such instances
	Detaching           = "Detaching"
	EnteringStandby     = "EnteringStandby"
	Standby             = "Standby"
)

// Health of a member.
const (
	Healthy   = "Healthy"
	Unhealthy = "Unhealthy"
)

// Processes that can be suspended.
const (
	ProcLaunch            = "Launch"
	ProcTerminate         = "Terminate"
	ProcAddToLoadBalancer = "AddToLoadBalancer"
	ProcAlarmNotification = "AlarmNotification"
	ProcAZRebalance       = "AZRebalance"
	ProcHealthCheck       = "HealthCheck"
	ProcInstanceRefresh   = "InstanceRefresh"
	ProcReplaceUnhealthy  = "ReplaceUnhealthy"
	ProcScheduledActions  = "ScheduledActions"
)

// Processes lists the process types in the order in which AWS describes them.
var Processes = []string{ProcAZRebalance, ProcAddToLoadBalancer, ProcAlarmNotification, ProcHealthCheck, ProcInstanceRefresh, ProcLaunch,
	ProcReplaceUnhealthy, ProcScheduledActions, ProcTerminate}

// TemplateRef names a launch template; Version is a number, $Latest or $Default.
type TemplateRef struct {
	ID      string `json:",omitempty"`
	Name    string `json:",omitempty"`
	Version string `json:",omitempty"`
}

// Override is one entry of a mixed instances policy, as far as launches use it.
type Override struct {
	InstanceType string          `json:",omitempty"`
	ImageID      string          `json:",omitempty"`
	Weight       int             `json:",omitempty"`
	Template     *TemplateRef    `json:",omitempty"`
	Requirements json.RawMessage `json:",omitempty"` // InstanceRequirements, as they were sent
}

// Mixed is a mixed instances policy, as far as launches use it.
type Mixed struct {
	Template     TemplateRef
	Overrides    []Override    `json:",omitempty"`
	Distribution *Distribution `json:",omitempty"` // nil: on demand, prioritized
}

// Attachment is a target group of a group. State is Adding, Added, InService or Removing. One that was named when the
// group was made judges health from the start; a later one only after a member has passed its checks.
type Attachment struct {
	ARN        string
	State      string
	AtCreation bool `json:",omitempty"`
}

// Suspension is a suspended process and why.
type Suspension struct{ Process, Reason string }

// Tag is a tag of a group.
type Tag struct {
	Key, Value string
	Propagate  bool
}

// Backoff holds launches back in a zone after failures.
type Backoff struct {
	Until    time.Time
	Failures int
}

// Failing is a time in which a group has tried to launch and never succeeded.
type Failing struct{ Since, Last time.Time }

// Group is an Auto Scaling group. Its settings are written by requests, Owed, Reasons, Backoff, Cooling and the states of
// its attachments by the loop as well.
type Group struct {
	scope.Scope
	Name, UUID          string
	CreatedAt           time.Time
	Min, Max, Desired   int
	Template            *TemplateRef `json:",omitempty"`
	Mixed               *Mixed       `json:",omitempty"`
	LaunchConfiguration string       `json:",omitempty"`
	Subnets             []string     // as given, in order
	ZoneNames           []string     // zones of the group, in order
	ZonesGiven          bool         `json:",omitempty"` // named by the client, not derived from subnets
	DefaultCooldown     int          // seconds
	DefaultWarmup       *int         `json:",omitempty"` // seconds
	HealthCheckType     string
	GracePeriod         int // seconds
	TerminationPolicies []string
	ProtectNew          bool `json:",omitempty"`
	MaxInstanceLifetime *int `json:",omitempty"` // seconds
	CapacityRebalance   bool `json:",omitempty"`
	ServiceLinkedRole   string
	DeletionProtection  string
	Context             string    `json:",omitempty"`
	PlacementGroup      string    `json:",omitempty"`
	DesiredCapacityType string    `json:",omitempty"`
	MinHealthy          *int      `json:",omitempty"` // instance maintenance policy, percent
	MaxHealthy          *int      `json:",omitempty"`
	BalancedOnly        bool      `json:",omitempty"`
	RetainAbandoned     bool      `json:",omitempty"` // instances whose terminate hook is abandoned
	Warm                *WarmPool `json:",omitempty"`
	Attachments         []Attachment
	Suspended           []Suspension
	Tags                []Tag
	Metrics             []string                   // enabled group metrics
	Documents           map[string]json.RawMessage `json:",omitempty"` // settings stored and returned as they were sent, by member name
	Deleting            bool                       `json:",omitempty"`
	ForceDeleting       bool                       `json:",omitempty"`

	Reasons  []string           `json:",omitempty"` // sentences about the last changes of Desired, until acted on
	Alarms   json.RawMessage    `json:",omitempty"` // the alarm that invoked, for the activities' details
	Owed     int                `json:",omitempty"` // launches that replace unhealthy members
	Backoff  map[string]Backoff `json:",omitempty"` // by zone
	Cooling  int                `json:",omitempty"` // seconds of a simple policy's cooldown that begin when its activity ends
	CoolTill time.Time          `json:",omitempty"`
	HoldIn   time.Time          `json:",omitempty"` // target tracking removes nothing before
	Shrank   *Shrink            `json:",omitempty"` // by a policy, a moment ago
	Balanced time.Time          `json:",omitempty"` // no rebalancing before
	Unpruned int                `json:",omitempty"` // actions since old activities were dropped last
	Failing  *Failing           `json:",omitempty"` // no launch has worked since
}

// ARN names the group.
func (g Group) ARN() string {
	return g.Scope.ARN("autoscaling", "autoScalingGroup:"+g.UUID+":autoScalingGroupName/"+g.Name)
}

// SuspendedProcess tells whether a process is suspended.
func (g Group) SuspendedProcess(p string) bool {
	for _, s := range g.Suspended {
		if s.Process == p {
			return true
		}
	}
	return false
}

// Pause is one hook that a member waits for.
type Pause struct {
	Hook, Token   string
	DefaultResult string
	Deadline      time.Time
	GlobalUntil   time.Time
	Heartbeat     time.Duration // scaled
	Result        string        `json:",omitempty"` // CONTINUE or ABANDON, once known
	TimedOut      bool          `json:",omitempty"`
}

// Member is an instance in a group. Written by the loop, and by the requests about single members.
type Member struct {
	scope.Scope
	ID, Group           string
	Zone, SubnetID      string
	InstanceType        string
	ImageID             string
	Template            *TemplateRef `json:",omitempty"` // the version is a number
	LaunchConfiguration string       `json:",omitempty"`
	Weight              int          `json:",omitempty"`
	State               string
	Health              string
	Cause               string `json:",omitempty"` // why unhealthy: ec2, status, elb, user
	Protected           bool   `json:",omitempty"`
	Spot                bool   `json:",omitempty"`
	LaunchedAt          time.Time
	InServiceAt         time.Time `json:",omitempty"`
	FailingSince        time.Time `json:",omitempty"` // the load balancer's checks
	ActivityID          string    `json:",omitempty"` // under way
	Targets             []string  `json:",omitempty"` // target groups it is registered with
	DrainUntil          time.Time `json:",omitempty"`
	Pauses              []Pause   `json:",omitempty"`
	ProceedTill         time.Time `json:",omitempty"` // its hooks are through: in a Proceed state at least so long
	Adopted             bool      `json:",omitempty"` // came by AttachInstances or out of standby: hooks do not apply
	Abandoned           bool      `json:",omitempty"`
	Ending              bool      `json:",omitempty"` // EC2 is terminating it
	Unlisted            bool      `json:",omitempty"` // came into service while AddToLoadBalancer was suspended
	Refresh             string    `json:",omitempty"` // id of the instance refresh that launched it
	Replacement         bool      `json:",omitempty"` // of an unhealthy member
	Rebalance           bool      `json:",omitempty"` // launched to balance zones
	Reused              bool      `json:",omitempty"` // on its way from the group back into the warm pool
}

// Hook is a lifecycle hook of a group. Timeouts are seconds.
type Hook struct {
	scope.Scope
	Group, Name          string
	Transition           string
	Heartbeat            int
	DefaultResult        string
	NotificationTarget   string `json:",omitempty"`
	NotificationMetadata string `json:",omitempty"`
	Role                 string `json:",omitempty"`
}

// Transitions of hooks.
const (
	LaunchHook    = "autoscaling:EC2_INSTANCE_LAUNCHING"
	TerminateHook = "autoscaling:EC2_INSTANCE_TERMINATING"
)

// Activity statuses that are used.
const (
	StatusPreInService = "PreInService"
	StatusInProgress   = "InProgress"
	StatusDraining     = "WaitingForELBConnectionDraining"
	StatusMidLifecycle = "MidLifecycleAction"
	StatusSuccessful   = "Successful"
	StatusFailed       = "Failed"
	StatusCancelled    = "Cancelled"
)

// Activity is the record of one launch, termination or move.
type Activity struct {
	scope.Scope
	ID, Group, GroupARN string
	Description, Cause  string
	Start               time.Time
	End                 time.Time `json:",omitempty"`
	Status              string
	StatusMessage       string `json:",omitempty"`
	Progress            int
	Details             string
	Deleted             bool `json:",omitempty"` // the group is
}

// Done tells whether the activity has ended.
func (a Activity) Done() bool { return !a.End.IsZero() }

// Policy types.
const (
	SimpleScaling  = "SimpleScaling"
	StepScaling    = "StepScaling"
	TargetTracking = "TargetTrackingScaling"
)

// Step is one step of a step policy; the bounds are relative to the alarm's threshold.
type Step struct {
	Lower, Upper *float64
	Adjustment   int
}

// Dimension is a dimension of a metric.
type Dimension struct{ Name, Value string }

// Tracking is a target tracking configuration.
type Tracking struct {
	Predefined     string          `json:",omitempty"`
	ResourceLabel  string          `json:",omitempty"`
	Namespace      string          `json:",omitempty"` // of a customized metric
	MetricName     string          `json:",omitempty"`
	Dimensions     []Dimension     `json:",omitempty"`
	Statistic      string          `json:",omitempty"`
	Unit           string          `json:",omitempty"`
	Period         int             `json:",omitempty"`
	Queries        json.RawMessage `json:",omitempty"`
	Target         float64
	DisableScaleIn bool
}

// Policy is a scaling policy of a group.
type Policy struct {
	scope.Scope
	Group, Name, UUID string
	Type              string
	Enabled           bool
	AdjustmentType    string      `json:",omitempty"`
	Adjustment        *int        `json:",omitempty"`
	MinMagnitude      *int        `json:",omitempty"`
	MinStep           *int        `json:",omitempty"`
	Cooldown          *int        `json:",omitempty"` // seconds
	Warmup            *int        `json:",omitempty"` // seconds
	Aggregation       string      `json:",omitempty"`
	Steps             []Step      `json:",omitempty"`
	Tracking          *Tracking   `json:",omitempty"`
	Predictive        *Predictive `json:",omitempty"`
	AlarmNames        []string    `json:",omitempty"` // those that target tracking made
}

// ARN names the policy.
func (p Policy) ARN() string {
	return p.Scope.ARN("autoscaling", "scalingPolicy:"+p.UUID+":autoScalingGroupName/"+p.Group+":policyName/"+p.Name)
}

// Scheduled is a scheduled action of a group.
type Scheduled struct {
	scope.Scope
	Group, Name, UUID string
	Start, End        time.Time `json:",omitempty"`
	Recurrence        string    `json:",omitempty"`
	TimeZone          string    `json:",omitempty"`
	Min, Max, Desired *int      `json:",omitempty"`
	Next              time.Time // when it runs next
}

// ARN names the scheduled action.
func (a Scheduled) ARN() string {
	return a.Scope.ARN("autoscaling", "scheduledUpdateGroupAction:"+a.UUID+":autoScalingGroupName/"+a.Group+":scheduledActionName/"+a.Name)
}

// LaunchConfiguration is a launch configuration. Document is the request, stored as it was sent.
type LaunchConfiguration struct {
	scope.Scope
	Name, UUID string
	CreatedAt  time.Time
	Document   json.RawMessage
	Launch     LaunchSpec
}

// LaunchSpec is what a launch configuration says about an instance.
type LaunchSpec struct {
	ImageID, InstanceType, KeyName string
	SecurityGroups                 []string
	UserData                       string // base64
	InstanceProfile                string // name or ARN
	Monitoring                     bool
	PublicIP                       *bool
	HttpTokens, HttpEndpoint       string
	SpotPrice                      string `json:",omitempty"` // the most; empty: on demand
	HopLimit                       int
	EbsOptimized                   *bool           `json:",omitempty"`
	BlockDevices                   json.RawMessage `json:",omitempty"` // EC2's BlockDeviceMappings
}

// ARN names the launch configuration.
func (l LaunchConfiguration) ARN() string {
	return l.Scope.ARN("autoscaling", "launchConfiguration:"+l.UUID+":launchConfigurationName/"+l.Name)
}

// Notification is a notification configuration: one topic and one type. Stored and returned.
type Notification struct {
	scope.Scope
	Group, Topic, Type string
}

// The tables. A group's name holds no colon, so GROUP:NAME is a key without ambiguity. Every table but Groups has the
// index group, whose value is the scope's key of the group's name.
var (
	Groups     = store.NewTable("scaling_group", func(g Group) string { return g.Key(g.Name) })
	Members    = store.NewTable("scaling_member", func(m Member) string { return m.Key(m.ID) }, byGroup(func(m Member) (scope.Scope, string) { return m.Scope, m.Group }))
	Hooks      = store.NewTable("scaling_hook", func(h Hook) string { return h.Key(h.Group + ":" + h.Name) }, byGroup(func(h Hook) (scope.Scope, string) { return h.Scope, h.Group }))
	Activities = store.NewTable("scaling_activity", func(a Activity) string { return a.Key(a.ID) }, byGroup(func(a Activity) (scope.Scope, string) { return a.Scope, a.Group }))
	Policies   = store.NewTable("scaling_policy", func(p Policy) string { return p.Key(p.Group + ":" + p.Name) }, byGroup(func(p Policy) (scope.Scope, string) { return p.Scope, p.Group }),
		store.Index[Policy]{Name: "arn", Keys: func(p Policy) []string { return []string{p.ARN()} }})
	Schedules            = store.NewTable("scaling_schedule", func(a Scheduled) string { return a.Key(a.Group + ":" + a.Name) }, byGroup(func(a Scheduled) (scope.Scope, string) { return a.Scope, a.Group }))
	LaunchConfigurations = store.NewTable("scaling_launch_configuration", func(l LaunchConfiguration) string { return l.Key(l.Name) })
	Notifications        = store.NewTable("scaling_notification", func(n Notification) string { return n.Key(n.Group + ":" + n.Type + ":" + n.Topic) }, byGroup(func(n Notification) (scope.Scope, string) { return n.Scope, n.Group }))
)

// Tables lists the package's tables.
var Tables = []store.AnyTable{Groups, Members, Hooks, Activities, Policies, Schedules, LaunchConfigurations, Notifications}

func byGroup[T any](of func(T) (scope.Scope, string)) store.Index[T] {
	return store.Index[T]{Name: "group", Keys: func(v T) []string { s, g := of(v); return []string{s.Key(g)} }}
}

// of collects the rows of a group.
func of[T any](tx store.Tx, t *store.Table[T], s scope.Scope, group string) []T {
	var out []T
	for v := range t.By(tx, "group", s.Key(group)) {
		out = append(out, v)
	}
	return out
}
