#!/usr/bin/env bash
# Starts a cloud of its own, runs the reference architecture against it, takes it down and looks for leftovers.
set -uo pipefail
cd "$(dirname "$0")/../.."
D=$(mktemp -d /tmp/skerry-accept.XXXXXX); port=${PORT:-4599}; pool=${POOL:-127.99.0.0/16}
before=$(ip netns list | sort; ip -o link | awk -F': ' '{print $2}' | sort; nft list tables | sort)
cleanup() { bin/skerry down --data-dir "$D" --purge; }
trap cleanup EXIT
bin/skerry up --data-dir "$D" --listen "127.0.0.1:$port" --public-pool "$pool" --egress none --time-scale 20 --detach || { cat "$D/skerry.log"; exit 1; }
eval "$(bin/skerry env --data-dir "$D")"
test/accept/reference.sh; rc=$?
[ $rc -eq 0 ] || tail -n 60 "$D/skerry.log"
trap - EXIT; cleanup || rc=1
after=$(ip netns list | sort; ip -o link | awk -F': ' '{print $2}' | sort; nft list tables | sort)
if [ "$before" != "$after" ]; then echo "left over after down:"; diff <(echo "$before") <(echo "$after"); rc=1; fi
if pgrep -f "data-dir $D" >/dev/null; then echo "processes left over:"; pgrep -af "data-dir $D"; rc=1; fi
if grep -q "$D" /proc/self/mounts; then echo "mounts left over:"; grep "$D" /proc/self/mounts; rc=1; fi
exit $rc
