#!/usr/bin/env bash
# Auto Scaling by hand: policies, schedules, hooks, standby, protection, refresh, driven by the unmodified aws CLI on nano
# instances against a running Skerry. Run it by hand; it wants a cloud of its own with --time-scale 20:
#
#   bin/skerry up --data-dir D --listen 127.0.0.1:4599 --public-pool 127.99.0.0/16 --egress none --time-scale 20 --detach
#   eval "$(bin/skerry env --data-dir D)"; D=D test/accept/scaling.sh
#
# With up --events-sink file:F, EVENTS=F checks what it tells.
#
# Needs: aws, python3. Prints one line a check, ends with 'N passed, M failed', exit status 1 if any failed.
set -uo pipefail
: "${AWS_ENDPOINT_URL:?run: eval \"\$(skerry env)\"}"
export AWS_PAGER="" AWS_DEFAULT_OUTPUT=text AWS_DEFAULT_REGION=${AWS_DEFAULT_REGION:-us-east-1}
T=$(mktemp -d); R=$AWS_DEFAULT_REGION; G=sc-$$; exec 3>&1
ok()  { echo x >>"$T/passed"; echo "ok    $*" >&3; }
bad() { echo x >>"$T/failed"; echo "FAIL  $*" >&3; }
eq()  { [ "$2" = "$3" ] && ok "$1" || bad "$1: wanted '$3', got '$2'"; }
has() { case "$2" in *"$3"*) ok "$1";; *) bad "$1: wanted '…$3…', got '$2'";; esac; }
wait_for() { # SECONDS WHAT COMMAND...: until the command succeeds
  local end=$((SECONDS+$1)) what=$2 t0=$SECONDS; shift 2
  while ! "$@" >"$T/out" 2>&1; do [ $SECONDS -ge $end ] && { bad "$what (gave up): $(tail -c 300 "$T/out" | tr '\n' ' ')"; return 1; }; sleep 0.2; done
  ok "$what ($((SECONDS-t0)) s)"; }
q()   { aws "$@" 2>"$T/err" || { bad "aws $1 $2: $(tr '\n' ' ' <"$T/err")"; return 1; }; }
refused() { # WHAT TEXT COMMAND...: the command fails and its error has TEXT
  local what=$1 text=$2; shift 2
  if "$@" >"$T/out" 2>&1; then bad "$what: it was accepted"; else has "$what" "$(tr '\n' ' ' <"$T/out")" "$text"; fi; }
a()   { local op=$1; shift; q autoscaling "$op" --auto-scaling-group-name "$G" "$@"; }
asg() { aws autoscaling describe-auto-scaling-groups --auto-scaling-group-names "$G" --query "AutoScalingGroups[0].$1"; }
desired() { asg DesiredCapacity; }
n()   { asg "length(Instances[?LifecycleState=='$1'])"; }
settled() { [ "$(asg "[DesiredCapacity,length(Instances),length(Instances[?LifecycleState=='InService'])]")" = "$1	$1	$1" ]; }
is()  { [ "$(asg "$1")" = "$2" ]; }
resize() { a set-desired-capacity --desired-capacity "$1"; wait_for 20 "resized to $1" settled "$1"; }
cause() { q autoscaling describe-scaling-activities --auto-scaling-group-name "$G" --max-items 20 --query 'Activities[].[Description,Cause]'; }
has_cause() { case "$(cause)" in *"$1"*) ;; *) return 1;; esac; }
in_zone() { asg "length(Instances[?AvailabilityZone=='$R$1'])"; }

AMI=${AMI:-$(q ec2 describe-images --filters 'Name=name,Values=skerry-nano-*' --query 'sort_by(Images,&CreationDate)[-1].ImageId')}
q ec2 create-launch-template --launch-template-name "$G" --launch-template-data "{\"ImageId\":\"$AMI\",\"InstanceType\":\"t3.nano\"}" >/dev/null
a create-auto-scaling-group --launch-template "LaunchTemplateName=$G,Version=\$Latest" --min-size 0 --max-size 10 --desired-capacity 2 --availability-zones "${R}a" "${R}b" --default-cooldown 100
wait_for 20 "two in service" settled 2
eq "one in each zone" "$(in_zone a) $(in_zone b)" "1 1"

# --- policies
policy() { a put-scaling-policy --policy-name "$1" "${@:2}" --query PolicyARN; }
P1=$(policy change --policy-type StepScaling --adjustment-type ChangeInCapacity --step-adjustments MetricIntervalLowerBound=0,MetricIntervalUpperBound=20,ScalingAdjustment=1 MetricIntervalLowerBound=20,ScalingAdjustment=3 --estimated-instance-warmup 20)
policy exact --policy-type StepScaling --adjustment-type ExactCapacity --step-adjustments MetricIntervalLowerBound=0,ScalingAdjustment=6 >/dev/null
policy percent --policy-type StepScaling --adjustment-type PercentChangeInCapacity --min-adjustment-magnitude 2 --step-adjustments MetricIntervalLowerBound=0,ScalingAdjustment=10 >/dev/null
policy out --policy-type SimpleScaling --adjustment-type ChangeInCapacity --scaling-adjustment 1 --cooldown 100 >/dev/null
policy in --policy-type SimpleScaling --adjustment-type PercentChangeInCapacity --scaling-adjustment -50 --cooldown 0 >/dev/null
run() { aws autoscaling execute-policy --auto-scaling-group-name "$G" --policy-name "$@"; }
run change --metric-value 75 --breach-threshold 50 && sleep 0.1; eq "a step: 25 over the threshold adds 3" "$(desired)" 5
wait_for 20 "five in service" settled 5
has "its cause" "$(cause)" "a user request executed policy change changing the desired capacity from 2 to 5."
sleep 2
run exact --metric-value 75 --breach-threshold 50; eq "ExactCapacity" "$(desired)" 6; wait_for 20 "six in service" settled 6
sleep 6 # the six are warm
run percent --metric-value 75 --breach-threshold 50; eq "10 percent of 6, at least 2" "$(desired)" 8; wait_for 20 "eight in service" settled 8
run in; eq "simple: minus 50 percent" "$(desired)" 4; wait_for 20 "four in service" settled 4
run out; refused "a cooldown is honoured when asked" ScalingActivityInProgress run out --honor-cooldown
eq "simple: one more" "$(desired)" 5; wait_for 20 "five in service" settled 5
refused "step policy without a value" ValidationError run change
q cloudwatch put-metric-alarm --alarm-name "$G-high" --namespace "$G" --metric-name m --statistic Average --period 300 --evaluation-periods 1 --threshold 50 --comparison-operator GreaterThanThreshold --alarm-actions "$P1"
q cloudwatch put-metric-data --namespace "$G" --metric-name m --value 60
wait_for 40 "an alarm over real data runs the policy" has_cause "a monitor alarm $G-high in state ALARM triggered policy change changing the desired capacity from 5 to 6."
q cloudwatch delete-alarms --alarm-names "$G-high"
a suspend-processes --scaling-processes AlarmNotification
P2=$(policy down --policy-type SimpleScaling --adjustment-type ExactCapacity --scaling-adjustment 2 --cooldown 0)
q cloudwatch put-metric-alarm --alarm-name "$G-low" --namespace "$G" --metric-name other --statistic Average --period 60 --evaluation-periods 1 --threshold 50 --comparison-operator LessThanThreshold --alarm-actions "$P2" --treat-missing-data ignore
wait_for 15 "six in service" settled 6
q cloudwatch set-alarm-state --alarm-name "$G-low" --state-value ALARM --state-reason test; sleep 1
eq "AlarmNotification suspended: nothing" "$(desired)" 6
a resume-processes; q cloudwatch set-alarm-state --alarm-name "$G-low" --state-value OK --state-reason test
q cloudwatch set-alarm-state --alarm-name "$G-low" --state-value ALARM --state-reason test
wait_for 10 "set-alarm-state runs a simple policy" is DesiredCapacity 2; wait_for 15 "two in service" settled 2
q cloudwatch delete-alarms --alarm-names "$G-low"
eq "balanced" "$(in_zone a) $(in_zone b)" "1 1"

# --- schedules
soon() { date -u -d "+$1 seconds" +%Y-%m-%dT%H:%M:%SZ; }
a put-scheduled-update-group-action --scheduled-action-name once --start-time "$(soon 5)" --min-size 1 --max-size 9 --desired-capacity 3
refused "a start in the past" "Given start time is in the past" aws autoscaling put-scheduled-update-group-action --auto-scaling-group-name "$G" --scheduled-action-name past --start-time 2020-01-01T00:00:00Z --desired-capacity 1
refused "a bad cron" ValidationError aws autoscaling put-scheduled-update-group-action --auto-scaling-group-name "$G" --scheduled-action-name cron --recurrence "61 * * * *" --desired-capacity 1
refused "a bad zone" ValidationError aws autoscaling put-scheduled-update-group-action --auto-scaling-group-name "$G" --scheduled-action-name cron --recurrence "1 * * * *" --time-zone Mars/Base --desired-capacity 1
a put-scheduled-update-group-action --scheduled-action-name cron --recurrence "0 9 * * 1-5" --time-zone Europe/Berlin --desired-capacity 5
eq "a cron's next start is in its zone" "$(aws autoscaling describe-scheduled-actions --auto-scaling-group-name "$G" --scheduled-action-names cron --query "ScheduledUpdateGroupActions[0].StartTime" | sed "s,+00:00$,Z,")" "$(python3 - <<'P'
import datetime,zoneinfo
z=zoneinfo.ZoneInfo("Europe/Berlin"); n=datetime.datetime.now(z); t=n.replace(hour=9,minute=0,second=0,microsecond=0)
while t<=n or t.weekday()>4: t=(t+datetime.timedelta(days=1)).replace(hour=9)
print(t.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"))
P
)"
wait_for 15 "the one-shot action ran" is '[MinSize,MaxSize,DesiredCapacity]' "1	9	3"
has "its cause" "$(cause)" "a scheduled action update of AutoScalingGroup constraints to min: 1, max: 9, desired: 3 changing the desired capacity from 2 to 3."
eq "and is gone" "$(aws autoscaling describe-scheduled-actions --auto-scaling-group-name "$G" --query 'ScheduledUpdateGroupActions[].ScheduledActionName')" cron
wait_for 15 "three in service" settled 3

# --- lifecycle hooks
hook() { a put-lifecycle-hook --lifecycle-hook-name "$1" --lifecycle-transition "autoscaling:EC2_INSTANCE_$2" --heartbeat-timeout "$3" --default-result "$4"; }
hook l LAUNCHING 200 ABANDON
a set-desired-capacity --desired-capacity 4; wait_for 15 "a launch waits for its hook" is "length(Instances[?LifecycleState=='Pending:Wait'])" 1
I=$(asg "Instances[?LifecycleState=='Pending:Wait'].InstanceId|[0]")
a record-lifecycle-action-heartbeat --lifecycle-hook-name l --instance-id "$I"
a complete-lifecycle-action --lifecycle-hook-name l --instance-id "$I" --lifecycle-action-result CONTINUE
wait_for 10 "CONTINUE puts it in service" settled 4
refused "nothing to complete" "No active Lifecycle Action found with instance ID $I" aws autoscaling complete-lifecycle-action --auto-scaling-group-name "$G" --lifecycle-hook-name l --instance-id "$I" --lifecycle-action-result CONTINUE
a set-desired-capacity --desired-capacity 5; wait_for 15 "the next one waits" is "length(Instances[?LifecycleState=='Pending:Wait'])" 1
I=$(asg "Instances[?LifecycleState=='Pending:Wait'].InstanceId|[0]")
a complete-lifecycle-action --lifecycle-hook-name l --instance-id "$I" --lifecycle-action-result ABANDON
wait_for 10 "ABANDON takes it away" is "length(Instances[?InstanceId=='$I'])" 0
has "the abandoned activity says so" "$(aws autoscaling describe-scaling-activities --auto-scaling-group-name "$G" --query 'Activities[].StatusMessage')" "was abandoned"
a set-desired-capacity --desired-capacity 4; a delete-lifecycle-hook --lifecycle-hook-name l
wait_for 15 "four in service" settled 4
hook l LAUNCHING 40 CONTINUE; hook t TERMINATING 200 ABANDON
a set-desired-capacity --desired-capacity 5; wait_for 15 "a heartbeat that runs out with CONTINUE" settled 5
a delete-lifecycle-hook --lifecycle-hook-name l
a set-desired-capacity --desired-capacity 4; wait_for 10 "a termination waits for its hook" is "length(Instances[?LifecycleState=='Terminating:Wait'])" 1
wait_for 30 "a heartbeat that runs out terminates" settled 4
a delete-lifecycle-hook --lifecycle-hook-name t

# --- standby, attach, detach
I=$(asg 'Instances[0].InstanceId')
a enter-standby --instance-ids "$I" --should-decrement-desired-capacity >/dev/null; wait_for 10 "standby" is "Instances[?InstanceId=='$I'].LifecycleState|[0]" Standby
eq "standby with decrement" "$(desired)" 3
has "its cause" "$(cause)" "instance $I was moved to standby in response to a user request, shrinking the capacity from 4 to 3."
a exit-standby --instance-ids "$I" >/dev/null; wait_for 10 "back in service" settled 4
has "its cause" "$(cause)" "instance $I was moved out of standby in response to a user request, increasing the capacity from 3 to 4."
a detach-instances --instance-ids "$I" --should-decrement-desired-capacity >/dev/null; wait_for 10 "detached" settled 3
eq "a detached instance runs, without the group's tag" "$(aws ec2 describe-instances --instance-ids "$I" --query "Reservations[0].Instances[0].[State.Name,length(Tags[?Key=='aws:autoscaling:groupName']||\`[]\`)]")" "running	0"
a attach-instances --instance-ids "$I"; wait_for 10 "attached" settled 4
refused "twice" ValidationError aws autoscaling attach-instances --auto-scaling-group-name "$G" --instance-ids "$I"

# --- protection, health, termination by name
a set-instance-protection --instance-ids $(asg 'Instances[].InstanceId') --protected-from-scale-in
a set-desired-capacity --desired-capacity 3; sleep 1; eq "all protected: nobody goes" "$(desired) $(n InService)" "3 4"
a set-instance-protection --instance-ids "$I" --no-protected-from-scale-in; wait_for 10 "the unprotected one goes" settled 3
eq "it was that one" "$(asg "length(Instances[?InstanceId=='$I'])")" 0
a set-instance-protection --instance-ids $(asg 'Instances[].InstanceId') --no-protected-from-scale-in
I=$(asg 'Instances[0].InstanceId')
q autoscaling set-instance-health --instance-id "$I" --health-status Unhealthy --no-should-respect-grace-period
replaced() { [ "$(asg "length(Instances[?InstanceId=='$I'])")" = 0 ] && settled 3; }
wait_for 15 "an unhealthy one is replaced" replaced
has "its cause" "$(cause)" "an instance was taken out of service in response to a user health-check."
I=$(asg 'Instances[0].InstanceId')
has "terminate without decrement" "$(q autoscaling terminate-instance-in-auto-scaling-group --instance-id "$I" --no-should-decrement-desired-capacity --query Activity.Cause)" "instance $I was taken out of service in response to a user request."
wait_for 15 "is replaced" replaced
I=$(asg 'Instances[0].InstanceId')
has "terminate with decrement" "$(q autoscaling terminate-instance-in-auto-scaling-group --instance-id "$I" --should-decrement-desired-capacity --query Activity.Cause)" "shrinking the capacity from 3 to 2."
wait_for 15 "is not replaced" settled 2
a update-auto-scaling-group --min-size 2
refused "below the minimum" "desiredSize equals minSize (2)" aws autoscaling terminate-instance-in-auto-scaling-group --instance-id "$(asg 'Instances[0].InstanceId')" --should-decrement-desired-capacity
refused "an unknown instance" "No managed instance found for instance ID i-0123456789abcdef0" aws autoscaling terminate-instance-in-auto-scaling-group --instance-id i-0123456789abcdef0 --should-decrement-desired-capacity

# --- template versions, the default termination policy, refresh
q ec2 create-launch-template-version --launch-template-name "$G" --source-version 1 --launch-template-data '{"InstanceType":"t3.micro"}' >/dev/null
resize 4; eq "\$Latest is resolved at each launch" "$(asg 'Instances[].LaunchTemplate.Version' | tr '\t' '\n' | sort | tr '\n' ' ')" "1 1 2 2 "
resize 2; eq "the oldest versions go first" "$(asg 'Instances[].LaunchTemplate.Version')" "2	2"
a update-auto-scaling-group --launch-template "LaunchTemplateName=$G,Version=\$Default"
resize 3; eq "\$Default is version 1" "$(asg 'Instances[].LaunchTemplate.Version' | tr '\t' '\n' | sort | tr '\n' ' ')" "1 2 2 "
a update-auto-scaling-group --launch-template "LaunchTemplateName=$G,Version=2"
refused "a version that isn't there" ValidationError aws autoscaling update-auto-scaling-group --auto-scaling-group-name "$G" --launch-template "LaunchTemplateName=$G,Version=9"
q ec2 create-launch-template-version --launch-template-name "$G" --source-version 1 --launch-template-data '{"InstanceType":"t3.small"}' >/dev/null
a update-auto-scaling-group --launch-template "LaunchTemplateName=$G,Version=3"
RF=$(a start-instance-refresh --preferences '{"MinHealthyPercentage":50,"InstanceWarmup":60}' --query InstanceRefreshId)
refused "one refresh at a time" InstanceRefreshInProgress aws autoscaling start-instance-refresh --auto-scaling-group-name "$G"
refreshed() { [ "$(aws autoscaling describe-instance-refreshes --auto-scaling-group-name "$G" --instance-refresh-ids "$RF" --query 'InstanceRefreshes[0].[Status,PercentageComplete]')" = "Successful	100" ]; }
wait_for 60 "a refresh replaces all" refreshed; eq "by version 3" "$(asg 'Instances[].LaunchTemplate.Version')" "3	3	3"
refused "nothing to cancel" ActiveInstanceRefreshNotFound aws autoscaling cancel-instance-refresh --auto-scaling-group-name "$G"

# --- warm pool
pool() { aws autoscaling describe-warm-pool --auto-scaling-group-name "$G" --query "$1"; }
pooled() { [ "$(pool "length(Instances[?LifecycleState=='$1'])")" = "$2" ]; }
a put-warm-pool --pool-state Stopped --max-group-prepared-capacity 5 --instance-reuse-policy ReuseOnScaleIn=true
wait_for 20 "a warm pool of two stopped instances" pooled Warmed:Stopped 2
eq "they are no part of the group" "$(asg '[length(Instances),WarmPoolSize]')" "3	2"
W=$(pool 'Instances[].InstanceId' | tr '\t' '\n' | sort | tr '\n' ' ')
resize 5; wait_for 10 "the pool is empty" pooled Warmed:Stopped 0
has "they came from the pool" "$(cause)" "Launching a new EC2 instance from warm pool: ${W%% *}"
resize 3; wait_for 20 "scaling in brings two back" pooled Warmed:Stopped 2
eq "stopped" "$(aws ec2 describe-instances --instance-ids $(pool 'Instances[].InstanceId') --query 'Reservations[].Instances[].State.Name')" "stopped	stopped"
refused "Hibernated" "Hibernated is not supported" aws autoscaling put-warm-pool --auto-scaling-group-name "$G" --pool-state Hibernated
refused "a pool with instances is not deleted" ResourceInUse aws autoscaling delete-warm-pool --auto-scaling-group-name "$G"
a delete-warm-pool --force-delete; wait_for 20 "but by force" is WarmPoolConfiguration None

# --- a mix of spot and on demand; an interruption (needs D, the data directory, for skerry fault)
M=$G-mix; m() { aws autoscaling describe-auto-scaling-groups --auto-scaling-group-names "$M" --query "AutoScalingGroups[0].$1"; }
q autoscaling create-auto-scaling-group --auto-scaling-group-name "$M" --min-size 0 --max-size 6 --desired-capacity 4 --availability-zones "${R}a" "${R}b" --capacity-rebalance --mixed-instances-policy \
  "{\"LaunchTemplate\":{\"LaunchTemplateSpecification\":{\"LaunchTemplateName\":\"$G\"},\"Overrides\":[{\"InstanceType\":\"t3.nano\"},{\"InstanceType\":\"t3.micro\"}]},\"InstancesDistribution\":{\"OnDemandBaseCapacity\":1,\"OnDemandPercentageAboveBaseCapacity\":0,\"SpotAllocationStrategy\":\"price-capacity-optimized\"}}"
mixed() { [ "$(m "length(Instances[?LifecycleState=='InService'])")" = 4 ] && [ "$(m 'length(Instances)')" = 4 ]; }
wait_for 20 "four of a mixed policy" mixed
spots() { aws ec2 describe-instances --filters "Name=tag:aws:autoscaling:groupName,Values=$M" Name=instance-lifecycle,Values=spot Name=instance-state-name,Values=running --query 'Reservations[].Instances[].InstanceId'; }
eq "three are spot instances" "$(spots | wc -w | tr -d ' ')" 3
if [ -n "${D:-}" ]; then
  S=$(spots | cut -f1)
  bin/skerry fault spot-interruption --data-dir "$D" "$S" && ok "an interruption is announced"
  moved() { mixed && case "$(m 'Instances[].InstanceId')" in *"$S"*) return 1;; esac; }
  wait_for 30 "the group replaces it before it ends" moved
  has "its cause" "$(q autoscaling describe-scaling-activities --auto-scaling-group-name "$M" --query 'Activities[].Cause')" "spot interruption notice"
fi
q autoscaling delete-auto-scaling-group --auto-scaling-group-name "$M" --force-delete
wait_for 20 "the mixed group is gone" sh -c "[ \$(aws autoscaling describe-auto-scaling-groups --auto-scaling-group-names $M --query 'length(AutoScalingGroups)') = 0 ]"
if [ -n "${EVENTS:-}" ]; then # the file of up --events-sink file:
  a put-notification-configuration --topic-arn "arn:aws:sns:$R:000000000000:t" --notification-types autoscaling:EC2_INSTANCE_LAUNCH
  resize 4; resize 3; sleep 1
  has "a notification of a launch" "$(grep '"kind":"SNS"' "$EVENTS" | tail -1)" 'EC2_INSTANCE_LAUNCH'
  has "and the warning of the interruption" "$(grep -c 'Spot Instance Interruption Warning' "$EVENTS")" 1
else
  refused "notifications without a sink" "events-sink" aws autoscaling put-notification-configuration --auto-scaling-group-name "$G" --topic-arn "arn:aws:sns:$R:000000000000:t" --notification-types autoscaling:EC2_INSTANCE_LAUNCH
fi

# --- suspended processes, pages, deletion
a suspend-processes --scaling-processes Launch; a set-desired-capacity --desired-capacity 4; sleep 1; eq "Launch suspended" "$(asg 'length(Instances)')" 3
a resume-processes; wait_for 15 "resumed" settled 4
eq "pages of activities lose none" "$(aws autoscaling describe-scaling-activities --auto-scaling-group-name "$G" --page-size 7 --query 'Activities[].ActivityId' | tr '\t' '\n' | sort -u | wc -l)" "$(aws autoscaling describe-scaling-activities --auto-scaling-group-name "$G" --query 'Activities[].ActivityId' | tr '\t' '\n' | wc -l)"
refused "a bad token" InvalidNextToken aws autoscaling describe-scaling-activities --auto-scaling-group-name "$G" --starting-token nonsense
refused "a group with instances is not deleted" ResourceInUse aws autoscaling delete-auto-scaling-group --auto-scaling-group-name "$G"
a delete-auto-scaling-group --force-delete
wait_for 20 "the group is deleted with its instances" sh -c "[ \$(aws autoscaling describe-auto-scaling-groups --auto-scaling-group-names $G --query 'length(AutoScalingGroups)') = 0 ]"
eq "and they are" "$(aws ec2 describe-instances --filters "Name=tag:aws:autoscaling:groupName,Values=$G" Name=instance-state-name,Values=pending,running,stopping,stopped --query 'length(Reservations)')" 0
q ec2 delete-launch-template --launch-template-name "$G" >/dev/null
count() { cat "$T/$1" 2>/dev/null | wc -l | tr -d ' '; }
pass=$(count passed); fail=$(count failed); rm -rf "$T"; echo "$pass passed, $fail failed"; [ "$fail" -eq 0 ]
