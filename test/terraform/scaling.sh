#!/usr/bin/env bash
# The life of Auto Scaling's resources under Terraform: scaling/ on a cloud whose instances are simulated, through apply,
# plans without changes, changes in place, refreshes and replacement, import, and destroy with and without force_delete.
#
# What it needs and what it can be told is what run.sh needs, but for openssl, ssh-keygen and curl.
cd "$(dirname "$0")/../.." || exit 1
what="Terraform's Auto Scaling test" PORT=${PORT:-4597} POOL=${POOL:-127.94.0.0/16} stack=$PWD/test/terraform/scaling events=$(mktemp) up=(--driver sim --events-sink "file:$events")
. test/terraform/lib.sh
trap 'rm -f "$events"; end' EXIT

refreshes() { aws autoscaling describe-instance-refreshes --auto-scaling-group-name asg-web --query 'InstanceRefreshes[].Status'; }
groups() { aws autoscaling describe-auto-scaling-groups --query "AutoScalingGroups[?AutoScalingGroupName=='$1'].$2"; }

tf "init" init -input=false || exit 1
tf "apply" apply -auto-approve -input=false || exit 1
same "the next plan finds no changes"
has "the group is what was asked for" "^2$" terraform output web
has "groups are found by their tags" "^2$" terraform output named
has "the launch configuration is found" true terraform output old_image
has "the topic heard of the group" TEST_NOTIFICATION cat "$events"

cat >terraform.tfvars <<'V'
desired   = 3
prepared  = 2
percent   = 0
target    = 60
heartbeat = 45
V
tf "apply of changes in place" apply -auto-approve -input=false
same "the plan after it finds no changes"
has "no refresh was begun" '^$' refreshes
has "the group has grown" "^3$" groups asg-web DesiredCapacity
echo 'triggered = "two"' >>terraform.tfvars
tf "apply of a tag that triggers a refresh" apply -auto-approve -input=false
same "the plan after it finds no changes"
has "a refresh was begun" . refreshes
echo 'greeting = "goodbye"' >>terraform.tfvars
tf "apply of a template that triggers another, and of a new launch configuration" apply -auto-approve -input=false
same "the plan after it finds no changes"
eventually "the refresh ends well" Successful refreshes
has "the one before it is cancelled or done" "Cancelled\|Successful" refreshes

imported aws_autoscaling_policy.{simple,step,network,custom,math,ahead,ahead_of_load} aws_autoscaling_schedule.night aws_autoscaling_lifecycle_hook.hook \
  aws_launch_configuration.old aws_autoscaling_group_tag.team
# A group's settings that are the provider's alone, such as its timeouts, come with the apply that follows its import.
terraform state rm aws_autoscaling_group.mixed >out 2>&1 || cat out
tf "import of a group" import -input=false aws_autoscaling_group.mixed asg-mixed
tf "its apply" apply -auto-approve -input=false
same "and the plan is empty again"

tf "destroy" destroy -auto-approve -input=false
left() {
  aws autoscaling describe-auto-scaling-groups --query 'AutoScalingGroups[].AutoScalingGroupName'
  aws autoscaling describe-launch-configurations --query 'LaunchConfigurations[].LaunchConfigurationName'
  aws autoscaling describe-policies --query 'ScalingPolicies[].PolicyName'
  aws autoscaling describe-scheduled-actions --query 'ScheduledUpdateGroupActions[].ScheduledActionName'
  aws cloudwatch describe-alarms --query 'MetricAlarms[].AlarmName'
  aws ec2 describe-instances --filters Name=instance-state-name,Values=pending,running,stopping,stopped,shutting-down --query 'Reservations[].Instances[].InstanceId'
  aws elbv2 describe-target-groups --query 'TargetGroups[].TargetGroupArn'
}
rest=$(left 2>&1 | grep -v '^None$' | tr -s '\n\t' '  ')
if [ -z "${rest// /}" ]; then ok "nothing is left"; else bad "left over: $rest"; fi
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
