#!/usr/bin/env bash
# What configurations hold beyond the reference architecture: wide/ on a cloud whose instances are simulated, through apply, a plan
# without changes, changes in place, again a plan without changes, and destroy.
#
# What it needs and what it can be told is what run.sh needs, but for curl.
cd "$(dirname "$0")/../.." || exit 1
what="Terraform's wide test" PORT=${PORT:-4594} POOL=${POOL:-127.92.0.0/16} stack=$PWD/test/terraform/wide up=(--driver sim)
. test/terraform/lib.sh

ssh-keygen -q -t rsa -b 2048 -N '' -C wide -f key
for n in one two three; do
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj "/CN=$n.test" -addext "subjectAltName=DNS:$n.test" -keyout "$n.key" -out "$n.crt" 2>/dev/null
done
python3 - <<'P' >certificates.auto.tfvars.json
import json
print(json.dumps({"public_key": open("key.pub").read().strip(), "certificates": [{"body": open(n + ".crt").read(), "key": open(n + ".key").read()} for n in ("one", "two", "three")]}))
P

tf "init" init -input=false || exit 1
tf "apply" apply -auto-approve -input=false || exit 1
same "the next plan finds no changes"
has "what was looked up is what was made" '"10.70.0.0/16 3 10.70.0.0/24 1 t3.small 1 3 HTTPS 2 t3.micro 9 1 true true"' terraform output facts

echo 'level = 2' >terraform.tfvars
tf "apply of changes" apply -auto-approve -input=false
same "the plan after it finds no changes"
has "what was looked up has changed" '"10.70.0.0/16 3 10.70.0.0/24 1 t3.medium 1 3 HTTPS 2 t3.micro 9 1 true true"' terraform output facts

tf "destroy" destroy -auto-approve -input=false
left() {
  aws ec2 describe-vpcs --filters Name=is-default,Values=false --query 'Vpcs[].VpcId'
  aws ec2 describe-instances --filters Name=instance-state-name,Values=pending,running,stopping,stopped,shutting-down --query 'Reservations[].Instances[].InstanceId'
  aws ec2 describe-network-interfaces --query 'NetworkInterfaces[].NetworkInterfaceId'
  aws ec2 describe-volumes --query 'Volumes[].VolumeId'
  aws ec2 describe-addresses --query 'Addresses[].AllocationId'
  aws elbv2 describe-load-balancers --query 'LoadBalancers[].LoadBalancerArn'
  aws elbv2 describe-target-groups --query 'TargetGroups[].TargetGroupArn'
  aws cloudwatch describe-alarms --query '[MetricAlarms,CompositeAlarms][].AlarmName'
  aws iam list-users --query 'Users[].UserName'
  aws iam list-groups --query 'Groups[].GroupName'
  aws iam list-policies --scope Local --query 'Policies[].Arn'
}
rest=$(left 2>&1 | grep -v '^None$' | tr -s '\n\t' '  ')
if [ -z "${rest// /}" ]; then ok "nothing is left"; else bad "left over: $rest"; fi
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
