#!/usr/bin/env bash
# Starts clouds of its own, runs the reference architecture against each, takes them down and looks for leftovers.
#   test/accept/run.sh            one cloud
#   test/accept/run.sh two        two clouds side by side, in two regions
# Environment: PORT and POOL of the single cloud, AMI (an image id, or debian: built first), AWS_DEFAULT_REGION.
set -uo pipefail
cd "$(dirname "$0")/../.."

# left_over ID DIR: prints what still carries the id or the directory of a cloud that was taken down
left_over() {
  { ip netns list; ip -o link; nft list tables; ip route; cat /proc/self/mountinfo; cat /etc/hosts; ls -d /sys/fs/cgroup/*"$1"* /sys/fs/cgroup/*/*"$1"* /run/*"$1"* 2>/dev/null; } 2>/dev/null | grep -F -e "$1" -e "$2"
  pgrep -af -- "--data-dir[ =]$2"
}

# run NAME PORT POOL REGION: one cloud from up to down
run() {
  local D rc id left
  D=$(mktemp -d "/tmp/skerry-accept-$1.XXXXXX"); id=$(printf %s "$D" | sha256sum | cut -c1-8)
  bin/skerry up --data-dir "$D" --listen "127.0.0.1:$2" --public-pool "$3" --egress none --time-scale 20 --detach || { cat "$D/skerry.log"; return 1; }
  (
    eval "$(bin/skerry env --data-dir "$D")"; export AWS_DEFAULT_REGION=$4
    if [ "${AMI:-}" = debian ]; then AMI=$(bin/skerry image build debian --data-dir "$D" | tail -n 1 | cut -d' ' -f1); export AMI; fi
    test/accept/reference.sh
  ); rc=$?
  [ $rc -eq 0 ] || grep -v 'msg=request' "$D/skerry.log" | tail -n 60
  bin/skerry down --data-dir "$D" --purge || rc=1
  left=$(left_over "$id" "$D")
  if [ -n "$left" ]; then echo "left over after down:"; echo "$left"; rc=1; fi
  return $rc
}

if [ "${1:-}" = two ]; then
  run a 4597 127.97.0.0/16 us-east-1 > >(sed 's/^/a  /') 2>&1 & a=$!
  run b 4598 127.96.0.0/16 eu-west-1 > >(sed 's/^/b  /') 2>&1 & b=$!
  wait $a; ra=$?; wait $b; rb=$?
  exit $((ra || rb))
fi
run one "${PORT:-4599}" "${POOL:-127.99.0.0/16}" "${AWS_DEFAULT_REGION:-us-east-1}"
