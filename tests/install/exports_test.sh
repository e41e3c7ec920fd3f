#!/bin/sh
# SPDX-License-Identifier: MIT
# exports_test.sh LIBRARY MAJOR.MINOR: the soname is right, and nothing but lb:: is exported.
set -eu
library=$1 version=$2

soname=$(readelf -d "$library" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
if [ "$soname" != "liblb.so.$version" ]; then
  echo "soname is '$soname', not 'liblb.so.$version'"
  exit 1
fi

symbols=$(nm -D --defined-only -C "$library" | cut -d' ' -f3-)
foreign=$(printf '%s\n' "$symbols" | grep -Ev '^(lb::|(typeinfo|typeinfo name|vtable|VTT) for lb::|LIBLB_[0-9.]+$)' || true)
if [ -n "$foreign" ]; then
  printf 'exported, but not in namespace lb:\n%s\n' "$foreign"
  exit 1
fi
if printf '%s\n' "$symbols" | grep -F '::Impl::'; then
  echo 'exported, but internal'
  exit 1
fi
for name in 'lb::run(' 'lb::Cluster::create(' 'lb::Worker::listen(' 'lb::Listener::accept('; do
  if ! printf '%s\n' "$symbols" | grep -qF "$name"; then
    echo "not exported: $name"
    exit 1
  fi
done
