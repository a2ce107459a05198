#!/usr/bin/env bash
# The reference architecture, driven by the unmodified aws CLI against a running Skerry, checked from outside.
#
#   bin/skerry up --data-dir D --listen 127.0.0.1:4599 --public-pool 127.99.0.0/16 --egress none --time-scale 20 --detach
#   eval "$(bin/skerry env --data-dir D)"; test/accept/reference.sh
#
# Environment: AWS_ENDPOINT_URL and credentials as `skerry env` prints them. Optional: AMI (an image id; default: the
# newest image named skerry-nano-*), KEEP=1 (leave everything in place). Needs: aws, curl, openssl, python3.
# Prints one line a check, ends with 'N passed, M failed', exit status 1 if any failed.
set -uo pipefail
: "${AWS_ENDPOINT_URL:?run: eval \"\$(skerry env)\"}"
export AWS_PAGER="" AWS_DEFAULT_OUTPUT=text AWS_DEFAULT_REGION=${AWS_DEFAULT_REGION:-us-east-1}
T=$(mktemp -d); tag=ref-$$; exec 3>&1 # 3: the report, also from inside $(…)
ok()  { echo x >>"$T/passed"; echo "ok    $*" >&3; }
bad() { echo x >>"$T/failed"; echo "FAIL  $*" >&3; }
check() { local what=$1; shift; if "$@" >"$T/out" 2>&1; then ok "$what"; else bad "$what: $(tail -c 300 "$T/out" | tr '\n' ' ')"; fi; }
eq()  { [ "$2" = "$3" ] && ok "$1" || bad "$1: wanted '$3', got '$2'"; }
wait_for() { # SECONDS WHAT COMMAND...: until the command succeeds
  local end=$((SECONDS+$1)) what=$2 t0=$SECONDS; shift 2
  while ! "$@" >"$T/out" 2>&1; do [ $SECONDS -ge $end ] && { bad "$what (gave up): $(tail -c 300 "$T/out" | tr '\n' ' ')"; return 1; }; sleep 0.3; done
  ok "$what ($((SECONDS-t0)) s)"; }
q() { aws "$@" 2>"$T/err" || { bad "aws $1 $2: $(tr '\n' ' ' <"$T/err")"; return 1; }; }

# --- network over two zones
VPC=$(q ec2 create-vpc --cidr-block 10.20.0.0/16 --tag-specifications "ResourceType=vpc,Tags=[{Key=Name,Value=$tag}]" --query Vpc.VpcId)
IGW=$(q ec2 create-internet-gateway --query InternetGateway.InternetGatewayId)
q ec2 attach-internet-gateway --vpc-id "$VPC" --internet-gateway-id "$IGW"
RT=$(q ec2 describe-route-tables --filters Name=vpc-id,Values="$VPC" Name=association.main,Values=true --query 'RouteTables[0].RouteTableId')
q ec2 create-route --route-table-id "$RT" --destination-cidr-block 0.0.0.0/0 --gateway-id "$IGW" >/dev/null
SN=()
for z in a b; do
  s=$(q ec2 create-subnet --vpc-id "$VPC" --availability-zone "${AWS_DEFAULT_REGION}$z" --cidr-block 10.20.$((16#$z)).0/24 --query Subnet.SubnetId)
  q ec2 modify-subnet-attribute --subnet-id "$s" --map-public-ip-on-launch; SN+=("$s")
done
LBSG=$(q ec2 create-security-group --group-name "$tag-lb" --description lb --vpc-id "$VPC" --query GroupId)
WEBSG=$(q ec2 create-security-group --group-name "$tag-web" --description web --vpc-id "$VPC" --query GroupId)
for p in 80 443; do q ec2 authorize-security-group-ingress --group-id "$LBSG" --protocol tcp --port $p --cidr 0.0.0.0/0 >/dev/null; done
q ec2 authorize-security-group-ingress --group-id "$WEBSG" --protocol tcp --port 80 --source-group "$LBSG" >/dev/null
check "a duplicate rule is refused by its AWS code" sh -c "aws ec2 authorize-security-group-ingress --group-id $LBSG --protocol tcp --port 80 --cidr 0.0.0.0/0 2>&1 | grep -q InvalidPermission.Duplicate"

# --- image, key, role, launch template with user data
AMI=${AMI:-$(q ec2 describe-images --filters 'Name=name,Values=skerry-nano-*' --query 'sort_by(Images,&CreationDate)[-1].ImageId')}
aws ec2 create-key-pair --key-name "$tag" --key-type ed25519 --query KeyMaterial >"$T/key"; chmod 600 "$T/key"
q iam create-role --role-name "$tag" --assume-role-policy-document '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}' >/dev/null
q iam create-instance-profile --instance-profile-name "$tag" >/dev/null
q iam add-role-to-instance-profile --instance-profile-name "$tag" --role-name "$tag"
cat >"$T/user-data" <<'U'
#!/bin/sh
# a web server that says who it is, and that burns CPU for a while when it is asked to
md=http://169.254.169.254/latest
tok=$(curl -s -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' $md/api/token)
id=$(curl -s -H "X-aws-ec2-metadata-token: $tok" $md/meta-data/instance-id)
az=$(curl -s -H "X-aws-ec2-metadata-token: $tok" $md/meta-data/placement/availability-zone)
role=$(curl -s -H "X-aws-ec2-metadata-token: $tok" $md/meta-data/iam/security-credentials/)
mkdir -p /srv/www/api /srv/www/images /srv/www/admin /srv/www/cgi-bin
for d in . api images admin; do echo "$d $id $az $role" >/srv/www/$d/index.html; done
cat >/srv/www/cgi-bin/burn <<'B'
#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\nburning for %s s\n' "$QUERY_STRING"
( end=$(($(date +%s)+QUERY_STRING)); while [ $(date +%s) -lt $end ]; do i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; done ) </dev/null >/dev/null 2>&1 &
B
chmod +x /srv/www/cgi-bin/burn
echo "user data ran on $id"
if command -v python3 >/dev/null; then cd /srv/www && python3 -m http.server --cgi 80 >/dev/null 2>&1 &
else httpd -p 80 -h /srv/www; fi
U
python3 - "$T" "$AMI" "$tag" "$WEBSG" <<'P'
import base64,json,sys
t,ami,tag,sg=sys.argv[1:]
json.dump({"ImageId":ami,"InstanceType":"t2.micro","KeyName":tag,"SecurityGroupIds":[sg],
 "IamInstanceProfile":{"Name":tag},"MetadataOptions":{"HttpTokens":"required"},"Monitoring":{"Enabled":True},
 "UserData":base64.b64encode(open(t+"/user-data","rb").read()).decode(),
 "TagSpecifications":[{"ResourceType":"instance","Tags":[{"Key":"from","Value":tag}]}]},open(t+"/lt.json","w"))
P
LT=$(q ec2 create-launch-template --launch-template-name "$tag" --launch-template-data "file://$T/lt.json" --query LaunchTemplate.LaunchTemplateId)

# --- load balancers
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=company.test" -addext "subjectAltName=DNS:company.test,DNS:*.company.test" -keyout "$T/tls.key" -out "$T/tls.crt" 2>/dev/null
CERT=$(q acm import-certificate --certificate "fileb://$T/tls.crt" --private-key "fileb://$T/tls.key" --query CertificateArn)
ALB=$(q elbv2 create-load-balancer --name "$tag-alb" --subnets "${SN[@]}" --security-groups "$LBSG" --query 'LoadBalancers[0].LoadBalancerArn')
TG=$(q elbv2 create-target-group --name "$tag-web" --protocol HTTP --port 80 --vpc-id "$VPC" --health-check-interval-seconds 5 --health-check-timeout-seconds 2 --healthy-threshold-count 2 --unhealthy-threshold-count 2 --query 'TargetGroups[0].TargetGroupArn')
q elbv2 modify-target-group-attributes --target-group-arn "$TG" --attributes Key=deregistration_delay.timeout_seconds,Value=5 >/dev/null
q elbv2 create-listener --load-balancer-arn "$ALB" --protocol HTTP --port 80 --default-actions 'Type=redirect,RedirectConfig={Protocol=HTTPS,Port=443,StatusCode=HTTP_301}' >/dev/null
L443=$(q elbv2 create-listener --load-balancer-arn "$ALB" --protocol HTTPS --port 443 --certificates CertificateArn="$CERT" --default-actions Type=forward,TargetGroupArn="$TG" --query 'Listeners[0].ListenerArn')
q elbv2 create-rule --listener-arn "$L443" --priority 10 --conditions Field=path-pattern,Values='/teapot*' --actions 'Type=fixed-response,FixedResponseConfig={StatusCode=418,ContentType=text/plain,MessageBody=short and stout}' >/dev/null
q elbv2 create-rule --listener-arn "$L443" --priority 20 --conditions Field=host-header,Values=blog.company.test --actions '[{"Type":"redirect","RedirectConfig":{"Host":"www.company.test","Path":"/blog/#{path}","StatusCode":"HTTP_302"}}]' >/dev/null
NLB=$(q elbv2 create-load-balancer --name "$tag-nlb" --type network --subnets "${SN[@]}" --query 'LoadBalancers[0].LoadBalancerArn')
NTG=$(q elbv2 create-target-group --name "$tag-tcp" --protocol TCP --port 80 --vpc-id "$VPC" --health-check-interval-seconds 5 --health-check-timeout-seconds 2 --healthy-threshold-count 2 --unhealthy-threshold-count 2 --query 'TargetGroups[0].TargetGroupArn')
q elbv2 create-listener --load-balancer-arn "$NLB" --protocol TCP --port 8080 --default-actions Type=forward,TargetGroupArn="$NTG" >/dev/null
q ec2 authorize-security-group-ingress --group-id "$WEBSG" --protocol tcp --port 80 --cidr 0.0.0.0/0 >/dev/null # client addresses reach targets of an NLB
host_of() { q elbv2 describe-load-balancers --load-balancer-arns "$1" --query 'LoadBalancers[0].DNSName'; }
ALBDNS=$(host_of "$ALB"); NLBDNS=$(host_of "$NLB")

# --- Auto Scaling group
t_asg=$SECONDS
q autoscaling create-auto-scaling-group --auto-scaling-group-name "$tag" --launch-template "LaunchTemplateId=$LT,Version=\$Latest" --min-size 2 --max-size 10 --desired-capacity 2 \
  --vpc-zone-identifier "$(IFS=,; echo "${SN[*]}")" --target-group-arns "$TG" "$NTG" --health-check-type ELB --health-check-grace-period 60 --tags "Key=Name,Value=$tag,PropagateAtLaunch=true"
q autoscaling put-scaling-policy --auto-scaling-group-name "$tag" --policy-name cpu50 --policy-type TargetTrackingScaling --estimated-instance-warmup 60 \
  --target-tracking-configuration '{"PredefinedMetricSpecification":{"PredefinedMetricType":"ASGAverageCPUUtilization"},"TargetValue":50.0}' >/dev/null
q autoscaling put-scheduled-update-group-action --auto-scaling-group-name "$tag" --scheduled-action-name friday --recurrence "0 18 * * 5" --min-size 4 --max-size 10 --desired-capacity 4
asg() { aws autoscaling describe-auto-scaling-groups --auto-scaling-group-names "$tag" --query "AutoScalingGroups[0].$1"; }
in_service() { [ "$(asg "length(Instances[?LifecycleState=='InService'&&HealthStatus=='Healthy'])")" -ge "$1" ]; }
healthy() { [ "$(aws elbv2 describe-target-health --target-group-arn "$1" --query "length(TargetHealthDescriptions[?TargetHealth.State=='healthy'])")" -ge "$2" ]; }
wait_for 120 "two instances in service" in_service 2
wait_for 120 "both healthy behind the ALB" healthy "$TG" 2
wait_for 120 "both healthy behind the NLB" healthy "$NTG" 2
echo "      from create-auto-scaling-group to a healthy pair: $((SECONDS-t_asg)) s"
check "the CLI's waiters find what they poll for" sh -c "aws elbv2 wait load-balancer-exists --load-balancer-arns $ALB $NLB && aws elbv2 wait load-balancer-available --load-balancer-arns $ALB $NLB && aws elbv2 wait target-in-service --target-group-arn $TG && aws ec2 wait instance-status-ok --instance-ids $(asg 'Instances[].InstanceId' | tr '\t' ' ') && aws cloudwatch wait alarm-exists --alarm-names \$(aws cloudwatch describe-alarms --alarm-name-prefix TargetTracking-$tag --query 'MetricAlarms[].AlarmName')"
check "tables are drawn" sh -c "aws ec2 describe-instances --filters Name=tag:from,Values=$tag --query 'Reservations[].Instances[].{Id:InstanceId,Type:InstanceType,State:State.Name,Zone:Placement.AvailabilityZone}' --output table | grep -q '|  running *|  t2.micro *|  $AWS_DEFAULT_REGION'"
pages() { # the first 7 types in pages of 5, then the rest from where that ended
  aws ec2 describe-instance-types --page-size 5 --max-items 7 --output json | python3 -c 'import json,sys; d=json.load(sys.stdin); print(len(d["InstanceTypes"]), d["NextToken"])'; }
read -r first token < <(pages)
eq "pages go on where --max-items stopped" "$((first + $(q ec2 describe-instance-types --page-size 100 --starting-token "$token" --query 'length(InstanceTypes[])' | awk '{n += $1} END {print n}')))" "$(q ec2 describe-instance-types --query 'length(InstanceTypes[])' | awk '{n += $1} END {print n}')"
eq "they stand in two zones" "$(asg 'Instances[].AvailabilityZone' | tr '\t' '\n' | sort -u | wc -l | tr -d ' ')" 2
check "target tracking made its two alarms" sh -c "[ \$(aws cloudwatch describe-alarms --alarm-name-prefix TargetTracking-$tag --query 'length(MetricAlarms)') -eq 2 ]"

# --- traffic
C="curl -sk --max-time 15"
wait_for 30 "the ALB answers by its DNS name" sh -c "$C -f -o /dev/null https://$ALBDNS/"
eq "HTTP is redirected to HTTPS" "$($C -o /dev/null -w '%{http_code} %{redirect_url}' "http://$ALBDNS/x?y=1")" "301 https://$ALBDNS:443/x?y=1"
for p in api images admin; do check "/$p is served" sh -c "$C https://$ALBDNS/$p/ | grep -q '^$p i-'"; done
eq "fixed response by path" "$($C -o /dev/null -w '%{http_code}' "https://$ALBDNS/teapot/1")" 418
eq "redirect by host" "$($C -o /dev/null -w '%{http_code} %{redirect_url}' -H 'Host: blog.company.test' "https://$ALBDNS/p")" "302 https://www.company.test:443/blog/p"
eq "the instance knows its role" "$($C "https://$ALBDNS/" | awk '{print $4}')" "$tag"
spread() { for _ in $(seq 40); do $C "$1" | awk '{print $2}'; done | sort -u | grep -c '^i-'; }
eq "ALB spreads over both" "$(spread "https://$ALBDNS/")" 2
eq "NLB spreads over both" "$(spread "http://$NLBDNS:8080/")" 2
q elbv2 modify-target-group-attributes --target-group-arn "$TG" --attributes Key=stickiness.enabled,Value=true Key=stickiness.type,Value=lb_cookie >/dev/null
wait_for 30 "a sticky client gets the cookie AWSALB" sh -c "$C -o /dev/null -c $T/jar https://$ALBDNS/; grep -qw AWSALB $T/jar"
sticky() { for _ in $(seq 20); do $C -b "$T/jar" -c "$T/jar" "https://$ALBDNS/" | awk '{print $2}'; done | sort -u | wc -l | tr -d ' '; }
eq "and stays on one instance" "$(sticky)" 1
q elbv2 modify-target-group-attributes --target-group-arn "$TG" --attributes Key=stickiness.enabled,Value=false >/dev/null
IP=$(aws ec2 describe-instances --filters "Name=tag:from,Values=$tag" Name=instance-state-name,Values=running --query 'Reservations[0].Instances[0].PublicIpAddress')
check "port 22 is closed by the security group" sh -c "! curl -s --max-time 2 telnet://$IP:22 </dev/null"
q ec2 authorize-security-group-ingress --group-id "$WEBSG" --protocol tcp --port 22 --cidr 0.0.0.0/0 >/dev/null
wait_for 30 "opened, the same port answers as SSH" sh -c "curl -s --max-time 2 telnet://$IP:22 </dev/null | head -c 4 | grep -q SSH-"
check "user data's output is on the console" sh -c "aws ec2 get-console-output --instance-id \$(aws ec2 describe-instances --filters Name=tag:from,Values=$tag Name=instance-state-name,Values=running --query 'Reservations[0].Instances[0].InstanceId') --latest --query Output | grep -q 'user data ran'"

# --- the loop: load makes it grow, a dead instance is replaced, quiet makes it shrink
for ip in $(aws ec2 describe-instances --filters "Name=tag:from,Values=$tag" Name=instance-state-name,Values=running --query 'Reservations[].Instances[].PublicIpAddress'); do
  check "load on $ip" sh -c "$C 'http://$ip/cgi-bin/burn?${BURN_SECONDS:-40}' | grep -q burning"
done
caused() { aws autoscaling describe-scaling-activities --auto-scaling-group-name "$tag" --query 'Activities[].Cause' | grep -q "TargetTracking-$tag.* from 2 to [3-9]"; }
wait_for 120 "load (CPU over 50 %) makes an alarm grow the group" caused
V=$(asg 'Instances[0].InstanceId'); t0=$SECONDS
q ec2 terminate-instances --instance-ids "$V" >/dev/null
gone() { ! asg 'Instances[].InstanceId' | grep -q "$V" && in_service "$(asg DesiredCapacity)"; }
wait_for 120 "a terminated instance is replaced" gone; echo "      replaced after $((SECONDS-t0)) s"
before=$(asg 'length(Instances)')
shrunk() { [ "$(asg DesiredCapacity)" -eq 2 ] && [ "$(asg 'length(Instances)')" -eq 2 ]; }
wait_for 300 "quiet makes it shrink back to 2 (from $before)" shrunk
check "it still serves" sh -c "$C https://$ALBDNS/api/ | grep -q '^api i-'"

# --- and everything goes away again
if [ -z "${KEEP:-}" ]; then
  q autoscaling delete-auto-scaling-group --auto-scaling-group-name "$tag" --force-delete
  nogroup() { [ "$(aws autoscaling describe-auto-scaling-groups --auto-scaling-group-names "$tag" --query 'length(AutoScalingGroups)')" -eq 0 ]; }
  wait_for 120 "the group is deleted with its instances" nogroup
  q elbv2 delete-load-balancer --load-balancer-arn "$ALB"; q elbv2 delete-load-balancer --load-balancer-arn "$NLB"
  q elbv2 delete-target-group --target-group-arn "$TG"; q elbv2 delete-target-group --target-group-arn "$NTG"
  q acm delete-certificate --certificate-arn "$CERT"
  q ec2 delete-launch-template --launch-template-id "$LT" >/dev/null
  q iam remove-role-from-instance-profile --instance-profile-name "$tag" --role-name "$tag"
  q iam delete-instance-profile --instance-profile-name "$tag"; q iam delete-role --role-name "$tag"
  q ec2 delete-key-pair --key-name "$tag" >/dev/null
  noenis() { [ "$(aws ec2 describe-network-interfaces --filters Name=vpc-id,Values="$VPC" --query 'length(NetworkInterfaces)')" -eq 0 ]; }
  wait_for 60 "no network interface is left" noenis
  check "a group in use cannot be deleted" sh -c "aws ec2 delete-security-group --group-id $LBSG 2>&1 | grep -q DependencyViolation"
  q ec2 delete-security-group --group-id "$WEBSG" >/dev/null; q ec2 delete-security-group --group-id "$LBSG" >/dev/null
  for s in "${SN[@]}"; do q ec2 delete-subnet --subnet-id "$s"; done
  q ec2 detach-internet-gateway --vpc-id "$VPC" --internet-gateway-id "$IGW"; q ec2 delete-internet-gateway --internet-gateway-id "$IGW"
  q ec2 delete-vpc --vpc-id "$VPC"
  check "nothing of it is left" sh -c "! aws ec2 describe-vpcs --vpc-ids $VPC"
fi
count() { cat "$T/$1" 2>/dev/null | wc -l | tr -d ' '; }
pass=$(count passed); fail=$(count failed); rm -rf "$T"; echo "$pass passed, $fail failed"; [ "$fail" -eq 0 ]
