#!/usr/bin/env bash
# Does `terraform apply` just work? Starts a cloud of its own and takes the configuration in stack/ through its life:
# apply, a plan without changes, changes in place and by replacement, again a plan without changes, import, destroy. A plan
# that finds something to do after an apply is a failure: it means that the cloud answers something else than it was told.
#
# Needs: terraform, and the AWS provider in a directory that is laid out as a filesystem mirror. Without either it says so
# and passes; where SKERRY_REQUIRED lists terraform (or all) it fails. Needs openssl, ssh-keygen, curl, python3 and the aws CLI too.
# Environment: SKERRY (the binary, default bin/skerry), PORT, POOL, TF_MIRROR (a mirror's directory), KEEP=1 (leave the
# cloud running and the work directory in place).
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
SKERRY=$(realpath "${SKERRY:-bin/skerry}") PORT=${PORT:-4596} POOL=${POOL:-127.95.0.0/16} stack=$PWD/test/terraform/stack

skip() {
  echo "SKIPPED: the Terraform test: $*" >&2
  case ,${SKERRY_REQUIRED:-}, in *,terraform,*|*,all,*) exit 1 ;; esac
  exit 0
}
command -v terraform >/dev/null || skip "terraform is not installed"
mirror=
for d in ${TF_MIRROR:-} "$HOME/.terraform.d/plugins" /usr/local/share/terraform/plugins /usr/share/terraform/plugins /opt/tf-plugins; do
  [ -d "$d/registry.terraform.io/hashicorp/aws" ] && { mirror=$d; break; }
done
[ -n "$mirror" ] || skip "the AWS provider is in no mirror (name one with TF_MIRROR)"

D=$(mktemp -d /tmp/skerry-terraform.XXXXXX) W=$D/work; mkdir "$W"
failed=0 passed=0
ok()  { passed=$((passed+1)); echo "ok    $* ($((SECONDS-t0)) s)"; t0=$SECONDS; }
bad() { failed=$((failed+1)); echo "FAIL  $*"; t0=$SECONDS; }
end() {
  local rc=$?
  if [ -n "${KEEP:-}" ]; then echo "kept: $D"; return; fi
  "$SKERRY" down --data-dir "$D/data" --purge >/dev/null || rc=1
  rm -rf "$D"
  exit $rc
}
trap end EXIT

t0=$SECONDS
"$SKERRY" up --data-dir "$D/data" --listen "127.0.0.1:$PORT" --public-pool "$POOL" --egress none --time-scale 20 --detach || { cat "$D/data/skerry.log"; exit 1; }
eval "$("$SKERRY" env --data-dir "$D/data")"
export AWS_DEFAULT_REGION=us-east-1 AWS_DEFAULT_OUTPUT=text AWS_PAGER="" AWS_EC2_METADATA_DISABLED=true
unset AWS_REGION AWS_PROFILE AWS_SESSION_TOKEN
printf 'provider_installation {\n  filesystem_mirror {\n    path = "%s"\n  }\n}\n' "$mirror" >"$D/rc"
export TF_CLI_CONFIG_FILE=$D/rc TF_IN_AUTOMATION=1 CHECKPOINT_DISABLE=1

cp "$stack"/*.tf "$W"; cd "$W" || exit 1
ssh-keygen -q -t ed25519 -N '' -C admin@company.test -f key
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=company.test -addext subjectAltName=DNS:company.test,DNS:*.company.test -keyout tls.key -out tls.crt 2>/dev/null
# What the trust store takes: a bundle before and after, a list, and a client.
s3=$D/data/s3/tfref-certs; mkdir -p "$s3"
authority() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj "/CN=$1" -keyout "$1.key" -out "$1.pem" 2>/dev/null; }
authority ca-1; authority ca-2; cp ca-1.pem "$s3"; cat ca-1.pem ca-2.pem >"$s3/ca-2.pem"
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=client -keyout client.key -out client.csr 2>/dev/null
openssl x509 -req -in client.csr -CA ca-1.pem -CAkey ca-1.key -CAcreateserial -days 2 -extfile <(echo extendedKeyUsage=clientAuth) -out client.pem 2>/dev/null
: >index.txt; echo 01 >number; printf '[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=number\ndefault_md=sha256\ndefault_crl_days=30\n' >ca.cnf
openssl ca -config ca.cnf -gencrl -cert ca-1.pem -keyfile ca-1.key -out "$s3/clients.crl" 2>/dev/null
TF_VAR_public_key=$(cat key.pub) TF_VAR_certificate=$(cat tls.crt) TF_VAR_private_key=$(cat tls.key)
export TF_VAR_public_key TF_VAR_certificate TF_VAR_private_key

tf() { # WHAT ARGUMENTS...: one command that must succeed
  local what=$1; shift
  if timeout 570 terraform "$@" -no-color >out 2>&1; then ok "$what"; else bad "$what"; grep -A8 Error out; return 1; fi; }
same() { # WHAT: a plan finds nothing to do
  timeout 120 terraform plan -no-color -detailed-exitcode >out 2>&1
  case $? in
  0) ok "$1" ;;
  *) bad "$1"; sed -n '/will perform the following/,$p;/^Error/,$p' out ;;
  esac; }
has() { # WHAT PATTERN COMMAND...
  local what=$1 pattern=$2; shift 2
  local got; got=$("$@" 2>&1)
  if grep -q -e "$pattern" <<<"$got"; then ok "$what"; else bad "$what: ${got: -200}"; fi; }
eventually() { # WHAT PATTERN COMMAND...: within a minute
  local what=$1 pattern=$2 i; shift 2
  for i in $(seq 60); do grep -q -e "$pattern" <<<"$("$@" 2>/dev/null)" && { ok "$what"; return; }; sleep 1; done
  bad "$what: $("$@" 2>&1 | tail -c 200)"; }

tf "init" init -input=false || exit 1
tf "apply" apply -auto-approve -input=false || exit 1
same "the next plan finds no changes"
eventually "the load balancer serves" "^hello from" curl -sk --max-time 5 "$(terraform output -raw url)"
eventually "the network load balancer serves" "^hello from" curl -s --max-time 5 "$(terraform output -raw tcp)"
eventually "a client with a certificate is known" "^known client" curl -sk --max-time 5 --cert client.pem --key client.key "$(terraform output -raw mutual)"
if curl -sk --max-time 5 "$(terraform output -raw mutual)" >/dev/null; then bad "a client without one is served"; else ok "a client without one is not"; fi
bastion=$(terraform output -raw bastion_id)
address() { aws ec2 describe-instances --instance-ids "$bastion" --query 'Reservations[0].Instances[0].[PrivateIpAddress,PublicIpAddress,InstanceType]'; }
before=$(address)

cat >terraform.tfvars <<'V'
instance_type       = "t3.small"
bastion_type        = "t3.micro"
greeting            = "goodbye"
desired             = 3
environment         = "production"
admin_cidrs         = ["10.41.0.0/16", "10.42.0.0/16"]
health_path         = "/healthz"
health_interval     = 7
cpu_target          = 60
deletion_protection = true
ca_bundle           = "ca-2.pem"
ignore_expiry       = true
on_unauthenticated  = "deny"
tcp_idle            = 120
V
tf "apply of changes" apply -auto-approve -input=false
same "the plan after it finds no changes"
after=$(address)
if [ "$after" = "${before/t3.nano/t3.micro}" ] && [ "$after" != "$before" ]; then ok "the changed instance has its new type and its addresses"; else bad "the changed instance: '$before' became '$after'"; fi
eventually "the refreshed group serves" "^goodbye from" curl -sk --max-time 5 "$(terraform output -raw url)"
has "deletion protection holds" OperationNotPermitted aws elbv2 delete-load-balancer --load-balancer-arn "$(terraform output -raw lb_arn)"

# What the state forgot comes back by import, and needs nothing then. (Of other resources the provider itself can't read all.)
imports=(aws_vpc.main aws_internet_gateway.main 'aws_subnet.public[0]' 'aws_subnet.public[1]' aws_route_table.public aws_route_table.inline aws_security_group.lb
  aws_security_group.web aws_vpc_security_group_ingress_rule.web_from_lb aws_iam_role.web aws_iam_policy.web aws_iam_role_policy.web aws_iam_instance_profile.web
  aws_eip.bastion aws_lb.web aws_lb.tcp aws_lb_target_group.web aws_lb_target_group.tcp aws_lb_listener.http aws_lb_listener_rule.teapot aws_lb_listener_rule.blog
  aws_lb_listener.mutual aws_lb.edge aws_lb_target_group.edge aws_lb_target_group.grpc
  aws_cloudwatch_metric_alarm.cpu_high aws_autoscaling_policy.cpu aws_autoscaling_policy.step aws_autoscaling_schedule.friday aws_autoscaling_lifecycle_hook.drain)
python3 - "${imports[@]}" <<'P' >imports.tf
import json, re, sys
state = json.load(open("terraform.tfstate"))
for name in sys.argv[1:]:
    kind, rest = name.split(".", 1)
    label, index = re.fullmatch(r"(\w+)(?:\[(\d+)\])?", rest).groups()
    r = next(r for r in state["resources"] if r["mode"] == "managed" and r["type"] == kind and r["name"] == label)
    a = r["instances"][int(index or 0)]["attributes"]
    id = a["id"]
    if "autoscaling" in kind:
        id = a["autoscaling_group_name"] + "/" + (a.get("scheduled_action_name") or a["name"])
    print("import {\n  to = %s\n  id = %s\n}" % (name, json.dumps(id)))
P
terraform state rm "${imports[@]}" >out 2>&1 || cat out
tf "plan of ${#imports[@]} imports" plan -input=false
has "they are imported as they stand" "^Plan: ${#imports[@]} to import, 0 to add, 0 to change, 0 to destroy" cat out
grep -B2 -A30 'will be updated' out | grep -E '# |[~+-] '
tf "import" apply -auto-approve -input=false
rm imports.tf
same "and the plan is empty again"

sed -i 's/^deletion_protection.*/deletion_protection = false/' terraform.tfvars
tf "deletion protection is taken away" apply -auto-approve -input=false
tf "destroy" destroy -auto-approve -input=false
left() {
  aws ec2 describe-vpcs --filters Name=is-default,Values=false --query 'Vpcs[].VpcId'
  aws ec2 describe-instances --filters Name=instance-state-name,Values=pending,running,stopping,stopped,shutting-down --query 'Reservations[].Instances[].InstanceId'
  aws ec2 describe-volumes --query 'Volumes[].VolumeId'
  aws ec2 describe-network-interfaces --query 'NetworkInterfaces[].NetworkInterfaceId'
  aws ec2 describe-addresses --query 'Addresses[].AllocationId'
  aws ec2 describe-security-groups --query "SecurityGroups[?GroupName!='default'].GroupId"
  aws ec2 describe-launch-templates --query 'LaunchTemplates[].LaunchTemplateId'
  aws ec2 describe-key-pairs --query 'KeyPairs[].KeyName'
  aws elbv2 describe-load-balancers --query 'LoadBalancers[].LoadBalancerArn'
  aws elbv2 describe-trust-stores --query 'TrustStores[].TrustStoreArn'
  aws elbv2 describe-target-groups --query 'TargetGroups[].TargetGroupArn'
  aws autoscaling describe-auto-scaling-groups --query 'AutoScalingGroups[].AutoScalingGroupName'
  aws cloudwatch describe-alarms --query 'MetricAlarms[].AlarmName'
  aws acm list-certificates --query 'CertificateSummaryList[].CertificateArn'
  aws iam list-roles --query "Roles[?starts_with(RoleName,'tfref')].RoleName"
  aws iam list-instance-profiles --query 'InstanceProfiles[].InstanceProfileName'
  aws iam list-policies --scope Local --query 'Policies[].Arn'
}
rest=$(left 2>&1 | grep -v '^None$' | tr -s '\n\t' '  ')
if [ -z "${rest// /}" ]; then ok "nothing is left"; else bad "left over: $rest"; fi
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
