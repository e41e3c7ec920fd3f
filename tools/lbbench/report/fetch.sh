#!/bin/sh
# SPDX-License-Identifier: MIT
# fetch.sh DIRECTORY [NPM OPTION...]: installs the packages that the lock file pins into DIRECTORY/node_modules, once. What it prints is
# for whoever wonders why there is no report page.
set -eu
source=$(dirname "$0")
target=$1
shift
major=$(node -p 'process.versions.node.split(".")[0]')
if [ "$major" -lt 18 ]; then
  echo "node $major is too old, 18 is needed"
  exit 1
fi
mkdir -p "$target"
wanted=$(cat "$source/package-lock.json"; echo "$@")
if [ -f "$target/fetched" ] && [ "$wanted" = "$(cat "$target/fetched")" ]; then exit 0; fi
rm -f "$target/fetched"
cp "$source/package.json" "$source/package-lock.json" "$target/"
cd "$target"
# No scripts: esbuild's only checks what npm has installed, and the others have none.
npm ci --ignore-scripts --no-audit --no-fund --loglevel=error --fetch-retries=1 --fetch-timeout=20000 "$@" 2>&1 </dev/null
printf '%s\n' "$wanted" >fetched
