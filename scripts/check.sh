#!/usr/bin/env bash
# The fast checks: formatting, vet, staticcheck, golangci-lint, unit tests, import rules.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh gotools
unformatted=$(gofmt -l $(git ls-files --cached --others --exclude-standard '*.go'))
[ -z "$unformatted" ] || { echo "gofmt would change: $unformatted"; exit 1; }
go vet ./...
.tools/bin/staticcheck ./...
.tools/bin/golangci-lint run --timeout 5m
go test -short ./...
