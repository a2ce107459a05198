#!/usr/bin/env bash
# Key pairs log in for real: ed25519 and RSA keys of create-key-pair, an imported one, over the public address of an
# instance. Another key doesn't.
# Environment as for reference.sh. Optional: AMI (default: the newest skerry-nano-*), USERS (default ec2-user; who is tried).
# Needs: aws, ssh, ssh-keygen.
set -uo pipefail
: "${AWS_ENDPOINT_URL:?run: eval \"\$(skerry env)\"}"
export AWS_PAGER="" AWS_DEFAULT_OUTPUT=text AWS_DEFAULT_REGION=${AWS_DEFAULT_REGION:-us-east-1}
T=$(mktemp -d) tag=ssh-$$ rc=0 ids=()
trap 'end' EXIT
end() {
  for k in ed25519 rsa own; do aws ec2 delete-key-pair --key-name "$tag-$k" >/dev/null; done
  [ ${#ids[@]} -eq 0 ] || aws ec2 terminate-instances --instance-ids "${ids[@]}" >/dev/null
  for _ in $(seq 60); do aws ec2 delete-security-group --group-id "$SG" >/dev/null 2>&1 && break; sleep 0.5; done
  rm -rf "$T"
}
ok()  { echo "ok    $*"; }
bad() { echo "FAIL  $*"; rc=1; }
login() { ssh -i "$1" -o IdentitiesOnly=yes -o BatchMode=yes -o ConnectTimeout=5 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "$2" "${@:3}"; }

AMI=${AMI:-$(aws ec2 describe-images --filters 'Name=name,Values=skerry-nano-*' --query 'sort_by(Images,&CreationDate)[-1].ImageId')}
SG=$(aws ec2 create-security-group --group-name "$tag" --description ssh --query GroupId)
aws ec2 authorize-security-group-ingress --group-id "$SG" --protocol tcp --port 22 --cidr 0.0.0.0/0 >/dev/null
for k in ed25519 rsa; do aws ec2 create-key-pair --key-name "$tag-$k" --key-type $k --query KeyMaterial >"$T/$k"; done
ssh-keygen -q -t ed25519 -N '' -f "$T/own"
aws ec2 import-key-pair --key-name "$tag-own" --public-key-material "fileb://$T/own.pub" >/dev/null
chmod 600 "$T"/*
for k in ed25519 rsa own; do
  id=$(aws ec2 run-instances --image-id "$AMI" --instance-type t2.micro --key-name "$tag-$k" --security-group-ids "$SG" --query 'Instances[0].InstanceId') || exit 1
  ids+=("$id")
done
n=0
for k in ed25519 rsa own; do
  id=${ids[n]}; n=$((n+1)) ip=None
  for u in ${USERS:-ec2-user}; do
    t0=$SECONDS got=
    until [ "$got" = "$u" ] || [ $((SECONDS-t0)) -gt 90 ]; do
      [ "$ip" != None ] || ip=$(aws ec2 describe-instances --instance-ids "$id" --query 'Reservations[0].Instances[0].PublicIpAddress')
      got=$(login "$T/$k" "$u@$ip" id -un 2>"$T/err" </dev/null) || sleep 0.3
    done
    if [ "$got" = "$u" ]; then ok "$k logs in as $u at $ip ($((SECONDS-t0)) s)"; else bad "$k, $u at $ip: '$got' $(tail -n 2 "$T/err")"; continue; fi
    [ "$(login "$T/$k" "$u@$ip" sudo -n id -u 2>/dev/null </dev/null)" = 0 ] && ok "$u may use sudo" || bad "$u may not use sudo"
    for o in ed25519 rsa own; do
      [ $o = $k ] || ! login "$T/$o" "$u@$ip" true 2>/dev/null </dev/null || bad "$o logs in where $k is the key"
    done
  done
done
exit $rc
