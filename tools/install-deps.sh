#!/usr/bin/env bash
# Installs with apt what building needs, on Debian and Ubuntu; elsewhere it names what is missing.
#   tools/install-deps.sh [test] [bench] [bench-lb]    what tests, or benches, need as well
set -euo pipefail
declare -A need=( [nft]=nftables [busybox]=busybox-static [ip]=iproute2 [gcc]=gcc )
for what in "$@"; do
  case $what in
    test) need+=( [aws]=awscli [curl]=curl [openssl]=openssl [python3]=python3 [conntrack]=conntrack [ssh]=openssh-client [xz]=xz-utils ) ;;
    bench) need+=( [runc]=runc ) ;;
    bench-lb) need+=( [haproxy]=haproxy [nginx]=nginx-light [wrk]=wrk [h2load]=nghttp2-client [iperf3]=iperf3 [openssl]=openssl [python3]=python3 ) ;;
    *) echo "tools/install-deps.sh: there is no '$what'; test, bench and bench-lb are known" >&2; exit 1 ;;
  esac
done
missing=()
for tool in "${!need[@]}"; do command -v "$tool" >/dev/null || missing+=("${need[$tool]}"); done
[ -e /usr/include/seccomp.h ] || missing+=(libseccomp-dev)
[ -e "$(gcc -print-file-name=libc.a 2>/dev/null)" ] || missing+=(libc6-dev)
[ ${#missing[@]} -eq 0 ] && exit 0
if ! command -v apt-get >/dev/null; then
  echo "skerry needs these packages (Debian's names): ${missing[*]}. Install your system's equivalents and run this again." >&2; exit 1
fi
sudo=""; [ "$(id -u)" = 0 ] || sudo=sudo
echo "installing with apt-get: ${missing[*]}"
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
