#!/bin/sh
# SPDX-License-Identifier: MIT
# installed_test.sh BUILD_DIR VERSION -- COMPILER...: a program compiled against the installed library alone works.
set -eu
build=$1 version=$2
shift 3
here=$(cd "$(dirname "$0")" && pwd)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

meson install -C "$build" --no-rebuild --quiet --destdir "$root"
pc=$(find "$root" -name liblb.pc)
# Only the installed .pc file is in sight: a user needs the development packages of none of liblb's own dependencies.
export PKG_CONFIG_LIBDIR="${pc%/*}" PKG_CONFIG_PATH='' PKG_CONFIG_SYSROOT_DIR="$root"
[ "$(pkg-config --modversion liblb)" = "$version" ]
flags=$(pkg-config --cflags --libs liblb)

# shellcheck disable=SC2086  # flags are words
"$@" -std=c++20 -Wall -Wextra -Wpedantic -Werror -o "$root/consumer" "$here/consumer.cc" $flags
LD_LIBRARY_PATH=$(dirname "$(find "$root" -name liblb.so)")
export LD_LIBRARY_PATH
printed=$(LB_SCHED_POLICY=shared "$root/consumer")
if [ "$printed" != "liblb $version: served" ]; then
  echo "the consumer printed '$printed'"
  exit 1
fi

if command -v clang++ >/dev/null; then
  # shellcheck disable=SC2046
  echo '#include <lb/lb.hh>' |
    clang++ -std=c++20 -Wall -Wextra -Wpedantic -Werror -fsyntax-only $(pkg-config --cflags liblb) -x c++ -
fi
