#!/usr/bin/env bash
# Prints what goes before PATH so that `aws` obeys AWS_ENDPOINT_URL: nothing for a CLI that does by itself (1.29, 2.13 and
# later), else the directory of a two-line wrapper around it.
set -euo pipefail
cd "$(dirname "$0")/.."
real=$(command -v aws) || { echo "the aws CLI is not installed" >&2; exit 1; }
v=$(aws --version 2>&1 | sed -n 's|^aws-cli/\([0-9]*\)\.\([0-9]*\).*|\1 \2|p'); read -r major minor <<<"$v"
if [ "$major" -gt 2 ] || { [ "$major" = 2 ] && [ "$minor" -ge 13 ]; } || { [ "$major" = 1 ] && [ "$minor" -ge 29 ]; }; then exit 0; fi
mkdir -p build/aws
printf '#!/bin/sh\nexec %s ${AWS_ENDPOINT_URL:+--endpoint-url "$AWS_ENDPOINT_URL"} "$@"\n' "$real" >build/aws/aws
chmod +x build/aws/aws
echo "$PWD/build/aws:"
