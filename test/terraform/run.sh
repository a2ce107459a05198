#!/usr/bin/env bash
# Does `terraform apply` just work? Starts a cloud of its own and takes the configuration in stack/ through its life:
# apply, a plan without changes, changes in place and by replacement, again a plan without changes, import, destroy. A plan
# that finds something to do after an apply is a failure: it means that the cloud answers something else than it was told.
#
# Needs: terraform, and the AWS provider in a directory that is laid out as a filesystem mirror. Without either it says so
# and passes; where SKERRY_REQUIRED lists terraform (or all) it fails. Needs openssl, ssh-keygen, curl, python3 and the aws CLI too.
# Environment: SKERRY (the binary, default bin/skerry), PORT, POOL, TF_MIRROR (a mirror's directory), KEEP=1 (leave the
# cloud running and the work directory in place).
cd "$(dirname "$0")/../.." || exit 1
what="the Terraform test" PORT=${PORT:-4596} POOL=${POOL:-127.95.0.0/16} stack=$PWD/test/terraform/stack up=()
. test/terraform/lib.sh

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

# What the state forgot comes back by import, and needs nothing then. (Of other resources the provider itself can't read all: of a
# listener that forwards it takes the group twice, as target_group_arn and as forward, and plans to drop the latter.)
imports=(aws_vpc.main aws_internet_gateway.main 'aws_subnet.public[0]' 'aws_subnet.public[1]' aws_route_table.public aws_route_table.inline aws_security_group.lb
  aws_security_group.web aws_vpc_security_group_ingress_rule.web_from_lb aws_iam_role.web aws_iam_policy.web aws_iam_role_policy.web aws_iam_instance_profile.web
  aws_eip.bastion aws_lb.web aws_lb.tcp aws_lb_target_group.web aws_lb_target_group.tcp aws_lb_listener.http aws_lb_listener_rule.teapot aws_lb_listener_rule.blog
  aws_lb_listener.mutual aws_lb.edge aws_lb_target_group.edge aws_lb_target_group.grpc
  aws_cloudwatch_metric_alarm.cpu_high aws_autoscaling_policy.cpu aws_autoscaling_policy.step aws_autoscaling_schedule.friday aws_autoscaling_lifecycle_hook.drain)
imported "${imports[@]}"

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
