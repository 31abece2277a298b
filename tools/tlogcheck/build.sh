#!/bin/sh
# Build tlogcheck without a network: the Go distribution carries golang.org/x/mod/sumdb itself.
# usage: build.sh OUTPUT [GO]
set -eu

go=${2:-go}
here=$(cd "$(dirname "$0")" && pwd)
target=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

carried=$("$go" env GOROOT)/src/cmd/vendor/golang.org/x/mod/sumdb
mkdir -p "$work/mod/sumdb"
cp -R "$carried/note" "$carried/tlog" "$work/mod/sumdb"
printf 'module golang.org/x/mod\n\ngo 1.25\n' >"$work/mod/go.mod"
cp "$here"/*.go "$here/go.mod" "$work"

cd "$work"
export GOFLAGS=-mod=mod GOPROXY=off GOTOOLCHAIN=local GOWORK=off CGO_ENABLED=0
"$go" mod edit -replace golang.org/x/mod=./mod
"$go" build -trimpath -o "$target" .
