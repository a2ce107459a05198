#!/usr/bin/env bash
# Installs what building and testing need, on Debian and Ubuntu; elsewhere it names what is missing.
set -euo pipefail
declare -A need=( [nft]=nftables [busybox]=busybox-static [ip]=iproute2 [gcc]=gcc [curl]=curl [openssl]=openssl [python3]=python3 [conntrack]=conntrack )
missing=()
for tool in "${!need[@]}"; do command -v "$tool" >/dev/null || missing+=("${need[$tool]}"); done
[ -e /usr/include/seccomp.h ] || missing+=(libseccomp-dev)
[ -e "$(gcc -print-file-name=libc.a 2>/dev/null)" ] || missing+=(libc6-dev)
command -v aws >/dev/null || missing+=(awscli)
[ ${#missing[@]} -eq 0 ] && exit 0
if ! command -v apt-get >/dev/null; then
  echo "skerry needs these packages (Debian's names): ${missing[*]}. Install your system's equivalents and run this again." >&2; exit 1
fi
sudo=""; [ "$(id -u)" = 0 ] || sudo=sudo
echo "installing with apt-get: ${missing[*]}"
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
