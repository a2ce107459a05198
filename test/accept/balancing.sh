#!/usr/bin/env bash
# Load balancing from end to end on real instances: routing, every kind of rule, errors, health, network load balancers,
# metrics.
# Environment as for reference.sh; the cloud should run with --time-scale 20. Optional: AMI, KEEP=1, SKERRY_DATA (the cloud's
# data directory: trust stores and access logs are tried too), SKERRY_CA=PREFIX (PREFIX.pem and PREFIX.key, an authority that the
# cloud trusts because it was started with SSL_CERT_FILE=PREFIX.pem: a user logs in at an OpenID provider on an instance).
# Needs: aws, curl, openssl, python3, ssh, go (for the program on the targets, test/accept/target).
set -uo pipefail
: "${AWS_ENDPOINT_URL:?run: eval \"\$(skerry env)\"}"
export AWS_PAGER="" AWS_DEFAULT_OUTPUT=text AWS_DEFAULT_REGION=${AWS_DEFAULT_REGION:-us-east-1}
here=$(cd "$(dirname "$0")" && pwd)
T=$(mktemp -d); tag=bal-$$; exec 3>&1 # 3: the report, also from inside $(…)
ok()  { echo x >>"$T/passed"; echo "ok    $*" >&3; }
bad() { echo x >>"$T/failed"; echo "FAIL  $*" >&3; }
check() { local what=$1; shift; if "$@" >"$T/out" 2>&1; then ok "$what"; else bad "$what: $(tail -c 300 "$T/out" | tr '\n' ' ')"; fi; }
eq()  { [ "$2" = "$3" ] && ok "$1" || bad "$1: wanted '$3', got '$2'"; }
wait_for() { # SECONDS WHAT COMMAND...: until the command succeeds
  local end=$((SECONDS+$1)) what=$2 t0=$SECONDS; shift 2
  while ! "$@" >"$T/out" 2>&1; do [ $SECONDS -ge $end ] && { bad "$what (gave up): $(tail -c 300 "$T/out" | tr '\n' ' ')"; return 1; }; sleep 0.3; done
  ok "$what ($((SECONDS-t0)) s)"; }
q() { aws "$@" 2>"$T/err" || { bad "aws $1 $2: $(tr '\n' ' ' <"$T/err")"; return 1; }; }
lb() { q elbv2 "$@"; }
get() { curl -sk --max-time 8 "$@"; }
code() { get -o /dev/null -w '%{http_code}' "$@"; }
between() { [ "$2" -ge "$3" ] && [ "$2" -le "$4" ] && ok "$1 ($2)" || bad "$1: $2 is not between $3 and $4"; }

# --- two instances in two of the default VPC's zones
VPC=$(q ec2 describe-vpcs --filters Name=is-default,Values=true --query 'Vpcs[0].VpcId')
subnet() { q ec2 describe-subnets --filters Name=vpc-id,Values="$VPC" Name=availability-zone,Values="$AWS_DEFAULT_REGION$1" --query 'Subnets[0].SubnetId'; }
SNA=$(subnet a) SNB=$(subnet b) SNC=$(subnet c)
LBSG=$(q ec2 create-security-group --group-name "$tag-lb" --description lb --vpc-id "$VPC" --query GroupId)
SG=$(q ec2 create-security-group --group-name "$tag-web" --description web --vpc-id "$VPC" --query GroupId)
open() { q ec2 authorize-security-group-ingress --group-id "$1" --protocol "$2" --port "$3" --cidr 0.0.0.0/0 >/dev/null; }
close() { q ec2 revoke-security-group-ingress --group-id "$1" --protocol "$2" --port "$3" --cidr 0.0.0.0/0 >/dev/null; }
open "$LBSG" tcp 80; open "$LBSG" tcp 443; open "$SG" tcp 80; open "$SG" udp 90; open "$SG" tcp 91; open "$SG" tcp 92; open "$SG" tcp 93; open "$SG" tcp 22
AMI=${AMI:-$(q ec2 describe-images --filters 'Name=name,Values=skerry-nano-*' --query 'sort_by(Images,&CreationDate)[-1].ImageId')}
aws ec2 create-key-pair --key-name "$tag" --key-type ed25519 --query KeyMaterial >"$T/key"; chmod 600 "$T/key"
instance() { q ec2 run-instances --image-id "$AMI" --instance-type t2.micro --key-name "$tag" --security-group-ids "$SG" --subnet-id "$1" --query 'Instances[0].InstanceId'; }
(cd "$here/target" && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$T/target" .) || bad "the targets' program does not build"
IA=$(instance "$SNA") IB=$(instance "$SNB")
facts() { q ec2 describe-instances --instance-ids "$1" --query 'Reservations[0].Instances[0].[PublicIpAddress,PrivateIpAddress]'; }
on() { local ip=$1; shift; ssh -i "$T/key" -o IdentitiesOnly=yes -o BatchMode=yes -o ConnectTimeout=3 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "ec2-user@$ip" "$@"; }
q ec2 wait instance-running --instance-ids "$IA" "$IB"
read -r PUBA PRIA < <(facts "$IA"); read -r PUBB PRIB < <(facts "$IB")
up() { on "$1" 'cat >/tmp/target && chmod +x /tmp/target' <"$T/target" && on "$1" "sudo sh -c '/tmp/target $2 >/tmp/log 2>&1 </dev/null &'"; }
wait_for 20 "target a is set up by SSH" up "$PUBA" a
wait_for 20 "target b is set up by SSH" up "$PUBB" b

# --- an ALB: every target group's fate before and after it is used
quick=(--health-check-interval-seconds 5 --health-check-timeout-seconds 2 --healthy-threshold-count 2 --unhealthy-threshold-count 2)
group() { lb create-target-group --name "$tag-$1" --protocol HTTP --port 80 --vpc-id "$VPC" --health-check-path /health "${quick[@]}" "${@:2}" --query 'TargetGroups[0].TargetGroupArn'; }
TGA=$(group a) TGB=$(group b) TG=$(group ab) NONE=$(group none)
lb register-targets --target-group-arn "$TGA" --targets Id="$IA"; lb register-targets --target-group-arn "$TGB" --targets Id="$IB"
lb register-targets --target-group-arn "$TG" --targets Id="$IA" Id="$IB"
state() { aws elbv2 describe-target-health --target-group-arn "$1" ${2:+--targets Id=$2} --query 'TargetHealthDescriptions[0].TargetHealth.[State,Reason,Description]' | tr '\t' '|'; }
is() { local s; s=$(state "$1" "$2"); echo "$s"; [[ $s == $3 ]]; }
eq "a group that no listener uses" "$(state "$TG")" "unused|Target.NotInUse|Target group is not configured to receive traffic from the load balancer"
ALB=$(lb create-load-balancer --name "$tag-alb" --subnets "$SNA" "$SNB" --security-groups "$LBSG" --query 'LoadBalancers[0].LoadBalancerArn')
DNS=$(lb describe-load-balancers --load-balancer-arns "$ALB" --query 'LoadBalancers[0].DNSName')
forward() { echo "Type=forward,TargetGroupArn=$1"; }
L=$(lb create-listener --load-balancer-arn "$ALB" --protocol HTTP --port 80 --default-actions "$(forward "$TG")" --query 'Listeners[0].ListenerArn')
wait_for 20 "a is healthy" is "$TG" "$IA" 'healthy|*'; wait_for 20 "b is healthy" is "$TG" "$IB" 'healthy|*'
wait_for 10 "the ALB answers" get -f "http://$DNS/"

# --- what the target sees
get -H 'X-Forwarded-For: 9.9.9.9' -H 'X-Forwarded-Proto: gopher' "http://$DNS/head?a=%20b" >"$T/head"
check "X-Forwarded-For is appended to" grep -qiE '^X-Forwarded-For: 9\.9\.9\.9, [0-9.]+.?$' "$T/head"
check "X-Forwarded-Proto is the true one" grep -qi '^X-Forwarded-Proto: http.\?$' "$T/head"
check "X-Forwarded-Port is the listener's" grep -qi '^X-Forwarded-Port: 80.\?$' "$T/head"
check "X-Amzn-Trace-Id is made" grep -qiE '^X-Amzn-Trace-Id: Root=1-[0-9a-f]{8}-[0-9a-f]{24}.?$' "$T/head"
check "the path arrives as sent" grep -q '^GET /head?a=%20b HTTP/1.1' "$T/head"
check "a trace id is kept" sh -c "curl -s -H 'X-Amzn-Trace-Id: Root=1-67891233-abcdef012345678912345678' http://$DNS/head | grep -qiE '^X-Amzn-Trace-Id: Self=1-.*;Root=1-67891233-abcdef012345678912345678'"

# --- errors
eq "a target that closes is a 502" "$(code "http://$DNS/close")" 502
eq "a target that talks nonsense is a 502" "$(code "http://$DNS/garbage")" 502
eq "the page is AWS's" "$(get "http://$DNS/close" | tr -d '\r' | sed -n 2p)" "<head><title>502 Bad Gateway</title></head>"
eq "a target's own 500 passes" "$(code "http://$DNS/status?500")" 500
lb modify-load-balancer-attributes --load-balancer-arn "$ALB" --attributes Key=idle_timeout.timeout_seconds,Value=2 >/dev/null; sleep 1
eq "a target that is too slow is a 504" "$(code "http://$DNS/slow?4")" 504
eq "one that is just in time is not" "$(code "http://$DNS/slow?1")" 200
lb modify-load-balancer-attributes --load-balancer-arn "$ALB" --attributes Key=idle_timeout.timeout_seconds,Value=60 >/dev/null

# --- rules: every condition, and their order
fixed() { echo "Type=fixed-response,FixedResponseConfig={StatusCode=2$1,ContentType=text/plain,MessageBody=rule $1}"; }
rule() { lb create-rule --listener-arn "$L" --priority "$1" --conditions "$2" --actions "${3:-$(fixed "$1")}" --query 'Rules[0].RuleArn'; }
rule 30 '[{"Field":"host-header","HostHeaderConfig":{"Values":["*.Example.test"]}}]' >/dev/null
rule 31 '[{"Field":"path-pattern","PathPatternConfig":{"Values":["/p/?/*"]}}]' >/dev/null
rule 32 '[{"Field":"http-header","HttpHeaderConfig":{"HttpHeaderName":"X-Kind","Values":["*blue*"]}}]' >/dev/null
rule 33 '[{"Field":"http-request-method","HttpRequestMethodConfig":{"Values":["PUT"]}}]' >/dev/null
rule 34 '[{"Field":"query-string","QueryStringConfig":{"Values":[{"Key":"v","Value":"2*"},{"Value":"beta"}]}}]' >/dev/null
rule 35 '[{"Field":"source-ip","SourceIpConfig":{"Values":["203.0.113.0/24"]}}]' >/dev/null
rule 36 '[{"Field":"path-pattern","PathPatternConfig":{"Values":["/from"]}},{"Field":"source-ip","SourceIpConfig":{"Values":["0.0.0.0/0"]}}]' >/dev/null
LAST=$(rule 37 '[{"Field":"path-pattern","PathPatternConfig":{"Values":["/p/*"]}}]')
rule 40 '[{"Field":"path-pattern","PathPatternConfig":{"Values":["/none"]}}]' "$(forward "$NONE")" >/dev/null
rule 41 '[{"Field":"path-pattern","PathPatternConfig":{"Values":["/old/*"]}}]' '[{"Type":"redirect","RedirectConfig":{"Path":"/new/#{path}","Query":"q=1&#{query}","StatusCode":"HTTP_302"}}]' >/dev/null
WEIGHTED=$(rule 42 '[{"Field":"path-pattern","PathPatternConfig":{"Values":["/weighted"]}}]' "[{\"Type\":\"forward\",\"ForwardConfig\":{\"TargetGroups\":[{\"TargetGroupArn\":\"$TGA\",\"Weight\":80},{\"TargetGroupArn\":\"$TGB\",\"Weight\":20}]}}]")
check "a priority in use is refused" sh -c "aws elbv2 create-rule --listener-arn $L --priority 31 --conditions Field=path-pattern,Values=/x --actions $(forward "$TG") 2>&1 | grep -q PriorityInUse"
sleep 1
eq "host-header, whatever its case" "$(code -H 'Host: www.example.TEST:80' "http://$DNS/")" 230
eq "a wildcard host is no bare domain" "$(code -H 'Host: example.test' "http://$DNS/")" 200
eq "path-pattern" "$(code "http://$DNS/p/x/y/z")" 231
eq "paths have a case" "$(code "http://$DNS/P/x/y")" 200
eq "http-header" "$(code -H 'x-kind: Dark BLUE' "http://$DNS/")" 232
eq "http-request-method" "$(code -X PUT -d x "http://$DNS/")" 233
eq "query-string by key" "$(code "http://$DNS/?a=1&V=21")" 234
eq "query-string by value" "$(code "http://$DNS/?x=Beta")" 234
eq "source-ip of others does not match" "$(code "http://$DNS/")" 200
eq "two conditions of a rule" "$(code "http://$DNS/from")" 236
eq "the lower priority number wins" "$(get "http://$DNS/p/xx")+$(get "http://$DNS/p/x/")" "rule 37+rule 31"
lb set-rule-priorities --rule-priorities "RuleArn=$LAST,Priority=5" >/dev/null; sleep 1
eq "set-rule-priorities turns it round" "$(get "http://$DNS/p/x/")" "rule 37"
eq "no targets is a 503" "$(code "http://$DNS/none")" 503
eq "redirect" "$(get -o /dev/null -w '%{http_code} %{redirect_url}' "http://$DNS/old/x?z=2")" "302 http://$DNS:80/new/old/x?q=1&z=2"

# --- weights and stickiness
wait_for 20 "the weighted groups are healthy" sh -c "aws elbv2 describe-target-health --target-group-arn $TGA | grep -qw healthy && aws elbv2 describe-target-health --target-group-arn $TGB | grep -qw healthy"
tally() { get "$@" "http://$DNS/weighted?[1-200]" | grep -c '^a '; }
between "80 % of 200 requests go to a" "$(tally)" 140 180
sticky() { lb modify-rule --rule-arn "$WEIGHTED" --actions "[{\"Type\":\"forward\",\"ForwardConfig\":{\"TargetGroups\":[{\"TargetGroupArn\":\"$TGA\",\"Weight\":$1},{\"TargetGroupArn\":\"$TGB\",\"Weight\":$2}],\"TargetGroupStickinessConfig\":{\"Enabled\":true,\"DurationSeconds\":60}}}]" >/dev/null; sleep 1; }
sticky 0 100
eq "weight 0 gets nothing" "$(tally -c "$T/jar")" 0
check "the cookie is AWSALBTG" grep -qw AWSALBTG "$T/jar"
sticky 100 1
eq "a client with the cookie stays with its group" "$(tally -b "$T/jar")" 0

# --- TLS: certificates by name, HTTP/2, WebSocket
cert() { # NAME ALTERNATIVES: makes and imports a certificate
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=$1" -addext "subjectAltName=$2" -keyout "$T/tls.key" -out "$T/tls.crt" 2>/dev/null
  q acm import-certificate --certificate "fileb://$T/tls.crt" --private-key "fileb://$T/tls.key" --query CertificateArn; }
C1=$(cert default.test DNS:default.test) C2=$(cert wild.test 'DNS:*.wild.test') C3=$(cert exact.test DNS:exact.test,DNS:a.wild.test)
LS=$(lb create-listener --load-balancer-arn "$ALB" --protocol HTTPS --port 443 --certificates CertificateArn="$C1" --default-actions "$(forward "$TG")" --query 'Listeners[0].ListenerArn')
for C in "$C2" "$C3"; do lb add-listener-certificates --listener-arn "$LS" --certificates CertificateArn="$C" >/dev/null; done
shown() { if [ -n "$1" ]; then set -- -servername "$1"; else set -- -noservername; fi; openssl s_client -connect "$DNS:443" "$@" </dev/null 2>/dev/null | openssl x509 -noout -subject 2>/dev/null | sed 's/.*= *//'; }
wait_for 10 "HTTPS answers" get -f "https://$DNS/"
for pair in b.wild.test=wild.test exact.test=exact.test a.wild.test=exact.test wild.test=default.test x.y.wild.test=default.test other.test=default.test =default.test; do
  eq "the certificate for '${pair%%=*}'" "$(shown "${pair%%=*}")" "${pair#*=}"
done
check "the list of certificates shows the default" sh -c "aws elbv2 describe-listener-certificates --listener-arn $LS --query 'Certificates[?IsDefault].CertificateArn' | grep -q '$C1'"
eq "HTTP/2 by ALPN" "$(get --http2 -o /dev/null -w '%{http_version} %{http_code}' "https://$DNS/")" "2 200"
eq "HTTP/1.1 to who wants it" "$(get --http1.1 -o /dev/null -w '%{http_version} %{http_code}' "https://$DNS/")" "1.1 200"
check "many streams on one HTTP/2 connection" sh -c "[ \$(curl -skZ --http2 --max-time 10 'https://$DNS/?[1-50]' | grep -c '^[ab] ') -eq 50 ]"
check "over TLS X-Forwarded-Proto says https, the port 443" sh -c "curl -sk https://$DNS/head | tr -d '\r' | grep -iE '^X-Forwarded-(Proto: https|Port: 443)$' | grep -c . | grep -qx 2"
cat >"$T/ws.py" <<'P'
import socket,ssl,sys
host,port,tls=sys.argv[1],int(sys.argv[2]),sys.argv[3:]==["tls"]
s=socket.create_connection((host,port),5)
if tls:
    c=ssl.create_default_context(); c.check_hostname=False; c.verify_mode=ssl.CERT_NONE; s=c.wrap_socket(s,server_hostname=host)
s.sendall(f"GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
f=s.makefile("rb"); assert b" 101 " in f.readline()
head=b""
while (l:=f.readline()) not in (b"\r\n",b""): head+=l
assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head, head
for n in (1,5,1000):
    s.sendall(b"\x82"+b"x"*n); assert f.read(n+1)==b"\x82"+b"x"*n
P
check "WebSocket through HTTP" python3 "$T/ws.py" "$DNS" 80
check "WebSocket through HTTPS" python3 "$T/ws.py" "$DNS" 443 tls

# --- mutual TLS: passthrough, and with the cloud's data directory at hand (SKERRY_DATA) a trust store
authority() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=$1" -keyout "$T/$1.key" -out "$T/$1.pem" 2>/dev/null; }
client() { # CA NAME SERIAL
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$2" -keyout "$T/$2.key" -out "$T/$2.csr" 2>/dev/null
  openssl x509 -req -in "$T/$2.csr" -CA "$T/$1.pem" -CAkey "$T/$1.key" -set_serial "$3" -days 2 -extfile <(echo extendedKeyUsage=clientAuth) -out "$T/$2.pem" 2>/dev/null; }
authority ca; authority other; client ca good 17; client ca gone 18; client other stranger 19
with() { get --cert "$T/$1.pem" --key "$T/$1.key" "${@:2}"; }
header() { tr -d '\r' | sed -n "s/^$1: //Ip"; }
lb modify-listener --listener-arn "$LS" --mutual-authentication Mode=passthrough >/dev/null; sleep 1
check "passthrough: the target gets the chain of anybody" sh -c "curl -sk --cert $T/stranger.pem --key $T/stranger.key https://$DNS/head | grep -qi '^X-Amzn-Mtls-Clientcert: -----BEGIN%20CERTIFICATE'"
eq "passthrough: a client without one is served" "$(code "https://$DNS/head")" 200
if [ -n "${SKERRY_DATA:-}" ]; then
  mkdir -p "$SKERRY_DATA/s3/certs"; cp "$T/ca.pem" "$SKERRY_DATA/s3/certs/"
  TS=$(lb create-trust-store --name "$tag" --ca-certificates-bundle-s3-bucket certs --ca-certificates-bundle-s3-key ca.pem --query 'TrustStores[0].TrustStoreArn')
  eq "a trust store's bundle can be had again" "$(get "$(lb get-trust-store-ca-certificates-bundle --trust-store-arn "$TS" --query Location)" | sha256sum)" "$(sha256sum <"$T/ca.pem")"
  check "no such bundle" sh -c "aws elbv2 create-trust-store --name x --ca-certificates-bundle-s3-bucket certs --ca-certificates-bundle-s3-key none 2>&1 | grep -q CaCertificatesBundleNotFound"
  lb modify-listener --listener-arn "$LS" --mutual-authentication "Mode=verify,TrustStoreArn=$TS" >/dev/null
  wait_for 10 "verify: a client without a certificate is turned away" sh -c "! curl -sk --max-time 3 https://$DNS/"
  eq "a client with one is served" "$(with good -o /dev/null -w '%{http_code}' "https://$DNS/")" 200
  eq "its subject reaches the target" "$(with good "https://$DNS/head" | header X-Amzn-Mtls-Clientcert-Subject)" "CN=good"
  eq "another authority's is turned away" "$(with stranger -o /dev/null -w '%{http_code}' "https://$DNS/")" 000
  printf '01\n' >"$T/number"; printf 'R\t400101000000Z\t250101000000Z\t12\tunknown\t/CN=gone\n' >"$T/index"; printf '[ca]\ndefault_ca=d\n[d]\ndatabase=%s\ncrlnumber=%s\ndefault_md=sha256\ndefault_crl_days=2\n' "$T/index" "$T/number" >"$T/ca.cnf"
  openssl ca -config "$T/ca.cnf" -gencrl -cert "$T/ca.pem" -keyfile "$T/ca.key" -out "$SKERRY_DATA/s3/certs/list.crl" 2>/dev/null
  eq "a client is served until it is revoked" "$(with gone -o /dev/null -w '%{http_code}' "https://$DNS/")" 200
  eq "a revocation list" "$(lb add-trust-store-revocations --trust-store-arn "$TS" --revocation-contents S3Bucket=certs,S3Key=list.crl --query 'TrustStoreRevocations[0].[RevocationId,NumberOfRevokedEntries]')" "$(printf '1\t1')"
  wait_for 10 "a revoked client is turned away" sh -c "! curl -sk --max-time 3 --cert $T/gone.pem --key $T/gone.key https://$DNS/"
  eq "the others are not" "$(with good -o /dev/null -w '%{http_code}' "https://$DNS/")" 200
  check "a trust store in use stays" sh -c "aws elbv2 delete-trust-store --trust-store-arn $TS 2>&1 | grep -q TrustStoreInUse"
fi
lb modify-listener --listener-arn "$LS" --mutual-authentication Mode=off >/dev/null
wait_for 5 "switched off, all are served" get -f "https://$DNS/"
[ -z "${TS:-}" ] || check "and the trust store goes" aws elbv2 delete-trust-store --trust-store-arn "$TS"

# --- authentication, tokens, transforms, attributes of a listener
oidc='{"Type":"authenticate-oidc","Order":1,"AuthenticateOidcConfig":{"Issuer":"https://idp.test","AuthorizationEndpoint":"https://idp.test/authorize","TokenEndpoint":"https://idp.test/token","UserInfoEndpoint":"https://idp.test/userinfo","ClientId":"web","ClientSecret":"hidden"}}'
secure() { lb create-rule --listener-arn "$LS" --priority "$1" --conditions Field=path-pattern,Values="$2" --actions "[$3,{\"Type\":\"forward\",\"Order\":2,\"TargetGroupArn\":\"$TG\"}]" --query 'Rules[0].RuleArn'; }
AUTH=$(secure 60 /user "$oidc"); secure 61 /token '{"Type":"jwt-validation","Order":1,"JwtValidationConfig":{"Issuer":"idp","JwksEndpoint":"https://idp.test/keys"}}' >/dev/null
lb create-rule --listener-arn "$LS" --priority 62 --conditions '[{"Field":"path-pattern","PathPatternConfig":{"RegexValues":["^/v[0-9]+/"]}}]' --actions "$(forward "$TG")" \
  --transforms '[{"Type":"url-rewrite","UrlRewriteConfig":{"Rewrites":[{"Regex":"^/v[0-9]+/(.*)$","Replace":"/$1"}]}}]' >/dev/null
check "the client secret does not come back" sh -c "! aws elbv2 describe-rules --rule-arns $AUTH --output json | grep -q hidden"
sleep 1
check "an unknown user is sent to the provider" sh -c "curl -sk -o /dev/null -w '%{http_code} %{redirect_url}' https://$DNS/user | grep -q '^302 https://idp.test/authorize?.*client_id=web'"
eq "a request without a token is a 401" "$(code "https://$DNS/token")" 401
check "a path is rewritten for the target" sh -c "curl -sk https://$DNS/v2/head?a=1 | grep -q '^GET /head?a=1 HTTP/1.1'"
lb modify-listener-attributes --listener-arn "$LS" --attributes Key=routing.http.response.strict_transport_security.header_value,Value=max-age=60 Key=routing.http.response.server.enabled,Value=false >/dev/null; sleep 1
check "a listener sets a response header" sh -c "curl -skI https://$DNS/ | grep -qi '^strict-transport-security: max-age=60'"
check "and hides the server" sh -c "! curl -skI https://$DNS/token | grep -qi '^server:'"
check "a group of gRPC needs HTTPS" sh -c "g=\$(aws elbv2 create-target-group --name $tag-grpc --protocol HTTP --protocol-version GRPC --port 80 --vpc-id $VPC --query 'TargetGroups[0].TargetGroupArn'); aws elbv2 modify-listener --listener-arn $L --default-actions Type=forward,TargetGroupArn=\$g 2>&1 | grep -q InvalidLoadBalancerAction; r=\$?; aws elbv2 delete-target-group --target-group-arn \$g; exit \$r"

# --- target groups of HTTP/2 and gRPC
H2TG=$(lb create-target-group --name "$tag-h2" --protocol HTTP --protocol-version HTTP2 --port 92 --vpc-id "$VPC" --health-check-path /health "${quick[@]}" --query 'TargetGroups[0].TargetGroupArn')
GRTG=$(lb create-target-group --name "$tag-grpc" --protocol HTTP --protocol-version GRPC --port 92 --vpc-id "$VPC" "${quick[@]}" --query 'TargetGroups[0].TargetGroupArn')
eq "gRPC's checks by default" "$(lb describe-target-groups --target-group-arns "$GRTG" --query 'TargetGroups[0].[HealthCheckPath,Matcher.GrpcCode]')" "$(printf '/AWS.ALB/healthcheck\t12')"
for g in "$H2TG" "$GRTG"; do lb register-targets --target-group-arn "$g" --targets Id="$IA" Id="$IB"; done
lb create-rule --listener-arn "$LS" --priority 70 --conditions Field=path-pattern,Values=/echo.Echo/* --actions "$(forward "$GRTG")" >/dev/null
lb create-rule --listener-arn "$LS" --priority 71 --conditions Field=host-header,Values=two.test --actions "$(forward "$H2TG")" >/dev/null
for g in "$H2TG" "$GRTG"; do for i in "$IA" "$IB"; do wait_for 20 "a target of ${g#*$tag-} is healthy" is "$g" "$i" 'healthy|*'; done; done
two() { get --http2 -H 'Host: two.test' "$@"; }
eq "an HTTP/2 target sees HTTP/2" "$(two "https://$DNS/head?x" | head -n 1)" "GET /head?x HTTP/2.0"
head -c 300000 /dev/zero | tr '\0' x >"$T/big"
eq "and a body, which comes back" "$(two --data-binary "@$T/big" -o /dev/null -w '%{http_code} %{size_download}' "https://$DNS/echo")" "200 300000"
eq "an HTTP/1.1 client is a 464" "$(code --http1.1 -H 'Host: two.test' "https://$DNS/")" 464
eq "100 requests on one connection" "$(two "https://$DNS/?[1-100]" | grep -c '^[ab] ')" 100
printf '\0\0\0\0\5hello' >"$T/call"
call() { get --http2 -H 'content-type: application/grpc' -H 'te: trailers' --data-binary "@$T/call" "$@" | tr -d '\r\0'; }
eq "a gRPC call comes back" "$(call "https://$DNS/echo.Echo/Say")" "$(printf '\5hello')"
check "with its status in the trailer" sh -c "curl -ski --http2 -H 'content-type: application/grpc' -H 'te: trailers' --data-binary @$T/call https://$DNS/echo.Echo/Say | tr -d '\0' | grep -qi 'grpc-status: 0'"
check "an unknown method is the target's answer" sh -c "curl -ski --http2 -H 'content-type: application/grpc' -H 'te: trailers' --data-binary @$T/call https://$DNS/echo.Echo/None | tr -d '\0' | grep -qi 'grpc-status: 12'"
eq "no POST for gRPC is a 464" "$(code --http2 -H 'content-type: application/grpc' "https://$DNS/echo.Echo/Say")" 464
eq "gRPC to a group of HTTP/1.1 is a 464" "$(code --http2 -H 'content-type: application/grpc' -H 'te: trailers' --data-binary "@$T/call" "https://$DNS/")" 464

# --- a user logs in at a provider, which runs on an instance
if [ -n "${SKERRY_CA:-}" ]; then
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=idp -keyout "$T/idp.key" -out "$T/idp.csr" 2>/dev/null
  openssl x509 -req -in "$T/idp.csr" -CA "$SKERRY_CA.pem" -CAkey "$SKERRY_CA.key" -set_serial 2 -days 2 -extfile <(echo "subjectAltName=IP:$PUBA,IP:$PRIA") -out "$T/idp.pem" 2>/dev/null
  on "$PUBA" 'cat >/tmp/idp.pem' <"$T/idp.pem"; on "$PUBA" 'cat >/tmp/idp.key' <"$T/idp.key"
  on "$PUBA" "sudo sh -c '/tmp/target idp :93 https://$PUBA:93/ https://$DNS/oauth2/idpresponse /tmp/idp.pem /tmp/idp.key >/tmp/idp.log 2>&1 </dev/null & echo \$! >/tmp/idp.pid'"
  wait_for 10 "the provider answers" get --cacert "$SKERRY_CA.pem" -f "https://$PUBA:93/.well-known/openid-configuration"
  lb modify-rule --rule-arn "$AUTH" --actions "[{\"Type\":\"authenticate-oidc\",\"Order\":1,\"AuthenticateOidcConfig\":{\"Issuer\":\"https://$PUBA:93/\",\"AuthorizationEndpoint\":\"https://$PUBA:93/auth\",\"TokenEndpoint\":\"https://$PRIA:93/oauth/token\",\"UserInfoEndpoint\":\"https://$PRIA:93/userinfo\",\"ClientId\":\"web\",\"ClientSecret\":\"hidden\",\"Scope\":\"openid email\"}},{\"Type\":\"forward\",\"Order\":2,\"TargetGroupArn\":\"$TG\"}]" \
    --conditions 'Field=path-pattern,Values=["/user*","/head*"]' >/dev/null; sleep 1
  browse() { get -b "$T/browser" -c "$T/browser" "$@"; }
  browse -L -o /dev/null -w '%{url_effective}' "https://$DNS/head?who" >"$T/page"
  check "an unknown user lands on the provider's page" grep -q "^https://$PUBA:93/login/username.authRequestID=" "$T/page"
  browse -L -d "id=$(sed 's/.*authRequestID=//' "$T/page")&username=test-user@${PUBA}&password=verysecure" "https://$PUBA:93/login/username" | tr -d '\r' >"$T/home"
  eq "logged in, the browser is where it wanted to go" "$(head -n 1 "$T/home")" "GET /head?who HTTP/1.1"
  eq "the target knows who it is" "$(header X-Amzn-Oidc-Identity <"$T/home")" id1
  check "and has an access token" grep -qiE '^X-Amzn-Oidc-Accesstoken: .{20}' "$T/home"
  header X-Amzn-Oidc-Data <"$T/home" >"$T/jwt"
  eq "the user's claims are signed" "$(browse "https://$DNS/oauth2/idpresponse/keys/$(cut -d. -f1 "$T/jwt" | base64 -d | sed 's/.*"kid":"\([^"]*\)".*/\1/')" >"$T/data.pem"; python3 - "$T" <<'P'
import base64,subprocess,sys
t=sys.argv[1]; h,c,s=open(t+"/jwt").read().strip().split(".")
r=base64.urlsafe_b64decode(s); i=lambda b: (lambda b: b"\2"+bytes([len(b)])+b)((b"\0" if b[0]>127 else b"")+b)
der=i(r[:32].lstrip(b"\0"))+i(r[32:].lstrip(b"\0")); open(t+"/sig","wb").write(b"\x30"+bytes([len(der)])+der); open(t+"/signed","w").write(h+"."+c)
print(subprocess.run(["openssl","dgst","-sha256","-verify",t+"/data.pem","-signature",t+"/sig",t+"/signed"],capture_output=True,text=True).stdout.strip(), "test-user@zitadel.ch" in base64.urlsafe_b64decode(c).decode())
P
)" "Verified OK True"
  eq "the session is in Secure cookies" "$(grep -c 'TRUE.*AWSELBAuthSessionCookie-0' "$T/browser")" 1
  eq "it holds without the provider" "$(on "$PUBA" 'sudo kill $(cat /tmp/idp.pid)'; browse -o /dev/null -w '%{http_code}' "https://$DNS/user")" 200
  eq "a stranger still has to log in" "$(code "https://$DNS/user")" 302
  eq "and a login ends there" "$(code "https://$DNS/oauth2/idpresponse?code=x&state=y")" 401
fi

if [ -n "${SKERRY_DATA:-}" ]; then
  lb modify-load-balancer-attributes --load-balancer-arn "$ALB" --attributes Key=access_logs.s3.enabled,Value=true Key=access_logs.s3.bucket,Value=logs >/dev/null; sleep 1
  get -A "logged agent" "https://$DNS/status?404" >/dev/null
  wait_for 60 "the access log has a request" sh -c "find $SKERRY_DATA/s3/logs -name '*.log.gz' | xargs zcat 2>/dev/null | grep -q 'logged agent'"
  lb modify-load-balancer-attributes --load-balancer-arn "$ALB" --attributes Key=access_logs.s3.enabled,Value=false Key=health_check_logs.s3.enabled,Value=true Key=health_check_logs.s3.bucket,Value=logs >/dev/null
  wait_for 20 "the health check log has checks" sh -c "find $SKERRY_DATA/s3/logs -name 'health_check_log_*.log.gz' | xargs zcat 2>/dev/null | grep -q '^http .* $tag-ab PASS 200 - app/[^ ]* [0-9.]*$'"
  lb modify-load-balancer-attributes --load-balancer-arn "$ALB" --attributes Key=health_check_logs.s3.enabled,Value=false >/dev/null
fi

# --- changes under load: nothing fails
load() { # until $T/stop exists; prints codes
  while [ ! -e "$T/stop" ]; do get -o /dev/null -w '%{http_code}\n' "http://$DNS/[1-50]"; done >"$T/codes"; }
load & pid=$!
R=$(rule 50 '[{"Field":"path-pattern","PathPatternConfig":{"Values":["/7*"]}}]' "$(forward "$TGA")")
lb modify-rule --rule-arn "$R" --actions "$(forward "$TGB")" >/dev/null
lb modify-listener --listener-arn "$L" --default-actions "$(forward "$TGA")" >/dev/null
lb modify-listener --listener-arn "$L" --default-actions "$(forward "$TG")" >/dev/null
lb delete-rule --rule-arn "$R"
lb delete-listener --listener-arn "$LS"
sleep 1; touch "$T/stop"; wait $pid
eq "no request failed while rules and listeners changed (of $(wc -l <"$T/codes"))" "$(grep -vc '^200' "$T/codes")" 0
check "a deleted listener does not answer" sh -c "! curl -sk --max-time 2 https://$DNS/"

# --- draining
lb modify-target-group-attributes --target-group-arn "$TGA" --attributes Key=deregistration_delay.timeout_seconds,Value=120 >/dev/null
lb modify-rule --rule-arn "$WEIGHTED" --actions "$(forward "$TG")" >/dev/null
lb modify-target-group-attributes --target-group-arn "$TG" --attributes Key=deregistration_delay.timeout_seconds,Value=120 >/dev/null; sleep 1
for i in 1 2 3 4; do get -w '%{http_code}\n' "http://$DNS/slow?4" >"$T/slow$i" & slow[i]=$!; done; sleep 0.5
lb deregister-targets --target-group-arn "$TG" --targets Id="$IA"
eq "a deregistered target drains" "$(state "$TG" "$IA")" "draining|Target.DeregistrationInProgress|Target deregistration is in progress"
eq "it gets no new requests" "$(get "http://$DNS/[1-40]" | grep -c '^a ')" 0
wait "${slow[@]}"
eq "its running requests finish" "$(cat "$T"/slow? | grep -c 200)+$(cat "$T"/slow? | sort -u | tr '\n' ' ')" "4+200 a b "
wait_for 20 "after the delay it is not registered" is "$TG" "$IA" 'unused|Target.NotRegistered|Target is not registered to the target group'
lb modify-target-group-attributes --target-group-arn "$TG" --attributes Key=deregistration_delay.timeout_seconds,Value=20 >/dev/null
lb register-targets --target-group-arn "$TG" --targets Id="$IA"

# --- health
wait_for 20 "registered again, a is healthy" is "$TG" "$IA" 'healthy|*'
get "http://$PUBA/health/set?503"
wait_for 20 "a wrong code" is "$TG" "$IA" 'unhealthy|Target.ResponseCodeMismatch|Health checks failed with these codes: \[503\]'
eq "the unhealthy one gets nothing" "$(get "http://$DNS/[1-40]" | grep -c '^a ')" 0
get "http://$PUBA/health/set?200"; wait_for 20 "it recovers" is "$TG" "$IA" 'healthy|*'
close "$SG" tcp 80
wait_for 20 "a security group that shuts the ALB out" is "$TG" "$IB" 'unhealthy|Target.Timeout|Request timed out'
open "$SG" tcp 80; wait_for 20 "opened, b is healthy" is "$TG" "$IB" 'healthy|*'; wait_for 20 "and a" is "$TG" "$IA" 'healthy|*'
on "$PUBA" 'sudo killall target'
wait_for 20 "a port that nobody listens on" is "$TG" "$IA" 'unhealthy|Target.FailedHealthChecks|Health checks failed'
wait_for 20 "target a comes back" up "$PUBA" a; wait_for 20 "and is healthy" is "$TG" "$IA" 'healthy|*'
close "$LBSG" tcp 80
wait_for 5 "the ALB's security group closes its port" sh -c "! curl -s --max-time 2 http://$DNS/"
open "$LBSG" tcp 80; wait_for 5 "and opens it" get -f "http://$DNS/"
IC=$(instance "$SNC"); q ec2 wait instance-running --instance-ids "$IC"
lb register-targets --target-group-arn "$TG" --targets Id="$IC"
eq "a zone that is not enabled" "$(state "$TG" "$IC")" "unused|Target.NotInUse|Target is in an Availability Zone that is not enabled for the load balancer"
q ec2 terminate-instances --instance-ids "$IC" >/dev/null

# --- ip targets, the internal scheme, names inside the VPC
IPTG=$(group ip --target-type ip); lb register-targets --target-group-arn "$IPTG" --targets Id="$PRIA"
check "a public address is no ip target" sh -c "aws elbv2 register-targets --target-group-arn $IPTG --targets Id=8.8.8.8 2>&1 | grep -q ValidationError"
INT=$(lb create-load-balancer --name "$tag-int" --scheme internal --subnets "$SNA" "$SNB" --security-groups "$LBSG" --query 'LoadBalancers[0].LoadBalancerArn')
IDNS=$(lb describe-load-balancers --load-balancer-arns "$INT" --query 'LoadBalancers[0].DNSName')
lb create-listener --load-balancer-arn "$INT" --protocol HTTP --port 80 --default-actions "$(forward "$IPTG")" >/dev/null
check "an internal name says so" grep -q '^internal-' <<<"$IDNS"
wait_for 20 "an ip target is healthy" is "$IPTG" "$PRIA" 'healthy|*'
wait_for 10 "an instance reaches the internal ALB by its name" on "$PUBB" "curl -s --max-time 3 http://$IDNS/ | grep '^a '"
wait_for 10 "and the internet-facing one" on "$PUBB" "curl -s --max-time 3 http://$DNS/ | grep '^[ab] '"
check "from outside the internal one is out of reach" sh -c "! curl -s --max-time 2 http://$IDNS/"

# --- a network load balancer
ngroup() { lb create-target-group --name "$tag-$1" --vpc-id "$VPC" "${quick[@]}" "${@:2}" --query 'TargetGroups[0].TargetGroupArn'; }
NTG=$(ngroup tcp --protocol TCP --port 80) UTG=$(ngroup udp --protocol UDP --port 90 --health-check-protocol TCP --health-check-port 80)
for g in "$NTG" "$UTG"; do lb register-targets --target-group-arn "$g" --targets Id="$IA" Id="$IB"; done
NLB=$(lb create-load-balancer --name "$tag-nlb" --type network --subnets "$SNA" "$SNB" --query 'LoadBalancers[0].LoadBalancerArn')
NDNS=$(lb describe-load-balancers --load-balancer-arns "$NLB" --query 'LoadBalancers[0].DNSName')
NL=$(lb create-listener --load-balancer-arn "$NLB" --protocol TCP --port 8080 --default-actions "$(forward "$NTG")" --query 'Listeners[0].ListenerArn')
lb create-listener --load-balancer-arn "$NLB" --protocol UDP --port 9090 --default-actions "$(forward "$UTG")" >/dev/null
for i in "$IA" "$IB"; do wait_for 20 "NLB: $i is healthy over TCP" is "$NTG" "$i" 'healthy|*'; wait_for 20 "NLB: and for UDP" is "$UTG" "$i" 'healthy|*'; done
wait_for 10 "the NLB answers" get -f "http://$NDNS:8080/"
# The host's name for it leads to a front before the zones' addresses; those are what the zones' nodes have.
mapfile -t NIP < <(q ec2 describe-network-interfaces --filters Name=description,Values="ELB net/$tag-nlb/*" --query 'NetworkInterfaces[].Association.PublicIp' | tr '\t' '\n')
eq "it has an address a zone" "${#NIP[@]}" 2
through() { local ip; ip=$(get "http://$1:8080/?[1-30]" -H 'Connection: close' | awk '{print $1}' | sort -u | tr '\n' ' '); echo "${ip% }"; }
each() { for ip in "${NIP[@]}"; do through "$ip"; done | sort | tr '\n' '/'; }
eq "without cross-zone each address leads to its own zone" "$(each)" "a/b/"
lb modify-load-balancer-attributes --load-balancer-arn "$NLB" --attributes Key=load_balancing.cross_zone.enabled,Value=true >/dev/null; sleep 1.5
eq "with it to all" "$(each)" "a b/a b/"
seen() { get "http://${NIP[0]}:8080/" | awk '{print $2}' | cut -d: -f1; }
direct() { get "http://$PUBA/" | awk '{print $2}' | cut -d: -f1; }
eq "the client's address is preserved" "$(seen)" "$(direct)"
eq "also for UDP" "$(python3 - "$NDNS" <<'P'
import socket,sys
who,frm,ok=set(),set(),0
for i in range(30):
    s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.settimeout(2); s.connect((sys.argv[1],9090))
    try: s.send(b"n%d"%i); a=s.recv(2048).decode().split()
    except OSError: continue
    who.add(a[0]); frm.add(a[1].split(":")[0]); ok+=a[2]=="n%d"%i
print(ok,"".join(sorted(who)),*frm)
P
)" "30 ab $(direct)"
lb modify-target-group-attributes --target-group-arn "$NTG" --attributes Key=preserve_client_ip.enabled,Value=false >/dev/null; sleep 1
check "switched off the target sees the NLB" sh -c "[ '$(seen)' != '$(direct)' ]"
on "$PUBA" 'sudo killall target'
wait_for 20 "NLB: a target that is gone is unhealthy" is "$NTG" "$IA" 'unhealthy|Target.FailedHealthChecks|*'
eq "all goes to the other" "$(each | tr '/' '\n' | grep . | sort -u | tr '\n' '/')" "b/"
wait_for 20 "target a comes back again" up "$PUBA" a; wait_for 20 "NLB: and is healthy" is "$NTG" "$IA" 'healthy|*'
lb deregister-targets --target-group-arn "$NTG" --targets Id="$IB"; sleep 1
eq "NLB: a deregistered target gets no new flows" "$(each | tr '/' '\n' | grep . | sort -u | tr '\n' '/')" "a/"

# --- its listeners that the process serves, its security groups and addresses
PTG=$(ngroup proxy --protocol TCP --port 91) TTG=$(ngroup tls --protocol TCP --port 80) STG=$(ngroup sg --protocol TCP --port 80)
lb modify-target-group-attributes --target-group-arn "$PTG" --attributes Key=proxy_protocol_v2.enabled,Value=true >/dev/null
for g in "$PTG" "$TTG" "$STG"; do lb register-targets --target-group-arn "$g" --targets Id="$IA" Id="$IB"; done
lb create-listener --load-balancer-arn "$NLB" --protocol TCP --port 8091 --default-actions "$(forward "$PTG")" >/dev/null
lb create-listener --load-balancer-arn "$NLB" --protocol TLS --port 8443 --certificates CertificateArn="$C1" --alpn-policy HTTP1Only --default-actions "$(forward "$TTG")" >/dev/null
lb modify-target-group-attributes --target-group-arn "$TTG" --attributes Key=target_health_state.unhealthy.connection_termination.enabled,Value=false >/dev/null
for g in "$PTG" "$TTG"; do wait_for 20 "NLB: a target behind the process is healthy" is "$g" "$IA" 'healthy|*'; done
first() { python3 -c 'import socket,sys
s=socket.create_connection((sys.argv[1],8091),3); s.settimeout(3); s.send(b"hello"); print(s.recv(999).decode())' "${NIP[0]}"; }
begins() { [[ $(first) == [ab]\ *\ 0d0a0d0a000d0a515549540a2111* ]]; }
wait_for 10 "a target gets PROXY protocol version 2" begins
tls() { get -o /dev/null -w '%{http_version} ' "https://$NDNS:8443/"; get "https://$NDNS:8443/" | awk '{print $2}' | cut -d: -f1; }
eq "a TLS listener answers, and its targets see the client" "$(tls)" "1.1 $(direct)"
check "it shows its certificate" sh -c "openssl s_client -connect $NDNS:8443 -alpn h2,http/1.1 </dev/null 2>/dev/null | grep -q 'ALPN protocol: http/1.1'"
EIP=$(q ec2 allocate-address --query '[AllocationId,PublicIp]'); read -r EID EADDR <<<"$EIP"
SNLB=$(lb create-load-balancer --name "$tag-static" --type network --security-groups "$LBSG" --subnet-mappings SubnetId="$SNA",AllocationId="$EID" --query 'LoadBalancers[0].LoadBalancerArn')
for p in 80 8081; do lb create-listener --load-balancer-arn "$SNLB" --protocol TCP --port $p --default-actions "$(forward "$STG")" >/dev/null; done
wait_for 20 "NLB with a security group: a target is healthy" is "$STG" "$IA" 'healthy|*'
wait_for 10 "it answers at its elastic address" get -f "http://$EADDR/"
check "its security group keeps the other port shut" sh -c "! curl -s --max-time 2 http://$EADDR:8081/"
wait_for 10 "an instance finds a zone's node by its name" on "$PUBB" "curl -s --max-time 3 http://${AWS_DEFAULT_REGION}a.$NDNS:8080/ | grep '^a '"

# --- metrics
for m in RequestCount HTTPCode_Target_2XX_Count HTTPCode_Target_5XX_Count HTTPCode_ELB_502_Count HTTPCode_ELB_503_Count HTTPCode_ELB_504_Count HTTP_Fixed_Response_Count HTTP_Redirect_Count TargetResponseTime ProcessedBytes HealthyHostCount UnHealthyHostCount ActiveConnectionCount NewConnectionCount RequestCountPerTarget; do
  wait_for 10 "AWS/ApplicationELB $m" sh -c "[ \$(aws cloudwatch list-metrics --namespace AWS/ApplicationELB --metric-name $m --dimensions Name=LoadBalancer,Value=${ALB#*loadbalancer/} --query 'length(Metrics)') -ge 1 ]"
done
for m in HealthyHostCount UnHealthyHostCount NewFlowCount NewFlowCount_TCP NewFlowCount_UDP NewFlowCount_TLS ProcessedBytes ProcessedBytes_TLS ProcessedPackets PeakPacketsPerSecond; do
  wait_for 10 "AWS/NetworkELB $m" sh -c "[ \$(aws cloudwatch list-metrics --namespace AWS/NetworkELB --metric-name $m --dimensions Name=LoadBalancer,Value=${NLB#*loadbalancer/} --query 'length(Metrics)') -ge 1 ]"
done
check "RequestCount has the requests" sh -c "[ \$(aws cloudwatch get-metric-statistics --namespace AWS/ApplicationELB --metric-name RequestCount --statistics Sum --period 3600 --start-time \$(date -u -d -1hour +%FT%TZ) --end-time \$(date -u -d +1hour +%FT%TZ) --dimensions Name=LoadBalancer,Value=${ALB#*loadbalancer/} --query 'sum(Datapoints[].Sum)' | cut -d. -f1) -ge 1000 ]"

# --- and everything goes away again
if [ -z "${KEEP:-}" ]; then
  q ec2 terminate-instances --instance-ids "$IA" "$IB" >/dev/null
  for b in "$ALB" "$INT" "$NLB" "$SNLB"; do lb delete-load-balancer --load-balancer-arn "$b"; done
  for g in "$TGA" "$TGB" "$TG" "$NONE" "$H2TG" "$GRTG" "$IPTG" "$NTG" "$UTG" "$PTG" "$TTG" "$STG"; do lb delete-target-group --target-group-arn "$g"; done
  for c in "$C1" "$C2" "$C3"; do q acm delete-certificate --certificate-arn "$c"; done
  q ec2 delete-key-pair --key-name "$tag" >/dev/null
  q ec2 wait instance-terminated --instance-ids "$IA" "$IB" "$IC"
  wait_for 20 "the elastic address is free again" sh -c "aws ec2 release-address --allocation-id $EID"
  wait_for 20 "the security groups are free again" sh -c "aws ec2 delete-security-group --group-id $LBSG && aws ec2 delete-security-group --group-id $SG"
fi
count() { cat "$T/$1" 2>/dev/null | wc -l | tr -d ' '; }
pass=$(count passed); fail=$(count failed); rm -rf "$T"; echo "$pass passed, $fail failed"; [ "$fail" -eq 0 ]
