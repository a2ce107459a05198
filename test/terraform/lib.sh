# What the Terraform tests have in common; they source it. It wants: what (the test's name), stack (the directory of the
# configuration), PORT, POOL, and up (further arguments of skerry up).
set -uo pipefail
SKERRY=$(realpath "${SKERRY:-bin/skerry}")

skip() {
  echo "SKIPPED: $what: $*" >&2
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
"$SKERRY" up --data-dir "$D/data" --listen "127.0.0.1:$PORT" --public-pool "$POOL" --egress none --time-scale 20 "${up[@]}" --detach || { cat "$D/data/skerry.log"; exit 1; }
eval "$("$SKERRY" env --data-dir "$D/data")"
export AWS_DEFAULT_REGION=us-east-1 AWS_DEFAULT_OUTPUT=text AWS_PAGER="" AWS_EC2_METADATA_DISABLED=true
unset AWS_REGION AWS_PROFILE AWS_SESSION_TOKEN
printf 'provider_installation {\n  filesystem_mirror {\n    path = "%s"\n  }\n}\n' "$mirror" >"$D/rc"
export TF_CLI_CONFIG_FILE=$D/rc TF_IN_AUTOMATION=1 CHECKPOINT_DISABLE=1

cp "$stack"/*.tf "$W"; cd "$W" || exit 1

tf() { # WHAT ARGUMENTS...: one command that must succeed
  local what=$1; shift
  if timeout 570 terraform "$@" -no-color >out 2>&1; then ok "$what"; else bad "$what"; grep -A8 Error out; return 1; fi; }
same() { # WHAT: a plan finds nothing to do
  timeout 300 terraform plan -no-color -detailed-exitcode >out 2>&1
  case $? in
  0) ok "$1" ;;
  *) bad "$1"; sed -n '/will perform the following/,$p;/^Changes to Outputs/,$p;/^Error/,$p' out ;;
  esac; }
has() { # WHAT PATTERN COMMAND...
  local what=$1 pattern=$2; shift 2
  local got; got=$("$@" 2>&1)
  if grep -q -e "$pattern" <<<"$got"; then ok "$what"; else bad "$what: $(tail -c 200 <<<"$got")"; fi; }
eventually() { # WHAT PATTERN COMMAND...: within a minute
  local what=$1 pattern=$2 i; shift 2
  for i in $(seq 60); do grep -q -e "$pattern" <<<"$("$@" 2>/dev/null)" && { ok "$what"; return; }; sleep 1; done
  bad "$what: $("$@" 2>&1 | tail -c 200)"; }
imported() { # RESOURCES...: what the state forgot comes back by import, and needs nothing then
  python3 - "$@" <<'P' >imports.tf
import json, re, sys
state = json.load(open("terraform.tfstate"))
for name in sys.argv[1:]:
    kind, rest = name.split(".", 1)
    label, index = re.fullmatch(r"(\w+)(?:\[(\d+)\])?", rest).groups()
    r = next(r for r in state["resources"] if r["mode"] == "managed" and r["type"] == kind and r["name"] == label)
    a = r["instances"][int(index or 0)]["attributes"]
    id = a["id"]
    if kind in ("aws_autoscaling_policy", "aws_autoscaling_schedule", "aws_autoscaling_lifecycle_hook"):
        id = a["autoscaling_group_name"] + "/" + (a.get("scheduled_action_name") or a["name"])
    print("import {\n  to = %s\n  id = %s\n}" % (name, json.dumps(id)))
P
  terraform state rm "$@" >out 2>&1 || cat out
  tf "plan of $# imports" plan -input=false
  has "they are imported as they stand" "^Plan: $# to import, 0 to add, 0 to change, 0 to destroy" cat out
  grep -B2 -A30 'will be updated' out | grep -E '# |[~+-] '
  tf "import" apply -auto-approve -input=false
  rm imports.tf
  same "and the plan is empty again"; }
