#!/usr/bin/env bash
# Builds the programs that the skerry binary carries inside (internal/embedded/files), each only when its sources changed.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go} out=internal/embedded/files
mkdir -p "$out"

# stamp PROGRAM SOURCES...: a sum over everything that the program is made of
stamp() { shift; { "$go" env GOVERSION GOARCH; cat tools/build-embedded.sh go.sum; for f in "$@"; do echo "$f"; cat "$f"; done; } | sha256sum | cut -d' ' -f1; }
fresh() { [ -e "$out/$1" ] && [ "$(cat "$out/.$1.stamp" 2>/dev/null)" = "$2" ]; }
keep()  { chmod 755 "$out/.$1.new"; mv "$out/.$1.new" "$out/$1"; echo "$2" >"$out/.$1.stamp"; echo "built $out/$1 ($(stat -c %s "$out/$1") bytes)"; }
sources() { find "$@" -name '*.go' ! -name '*_test.go' | LC_ALL=C sort; }

s=$(stamp shim $(sources cmd/skerry-shim internal/shim))
if ! fresh skerry-shim "$s"; then
  CGO_ENABLED=1 "$go" build -trimpath -tags 'seccomp netgo osusergo' -ldflags '-s -w -linkmode external -extldflags -static' -o "$out/.skerry-shim.new" ./cmd/skerry-shim
  keep skerry-shim "$s"
fi

s=$(stamp guest $(sources cmd/skerry-guest internal/sigv4))
if ! fresh skerry-guest "$s"; then
  CGO_ENABLED=0 "$go" build -trimpath -ldflags '-s -w' -o "$out/.skerry-guest.new" ./cmd/skerry-guest
  keep skerry-guest "$s"
fi

bb=$(command -v busybox) || { echo "busybox is missing: install busybox-static" >&2; exit 1; }
s=$(stamp busybox "$bb")
if ! fresh busybox "$s" || [ ! -e "$out/busybox.applets" ]; then
  if LC_ALL=C ldd "$bb" 2>&1 | grep -q '=>'; then echo "$bb is not static: install busybox-static" >&2; exit 1; fi
  cp "$bb" "$out/.busybox.new"
  # Its programs, apart from those that the guest is, and from what a container can't do or must not pretend.
  "$bb" --list | grep -vxE 'busybox|init|linuxrc|poweroff|reboot|halt|shutdown|dpkg|dpkg-deb|rpm|rpm2cpio|run-init|switch_root|curl' >"$out/busybox.applets"
  keep busybox "$s"
fi
