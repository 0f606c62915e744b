#!/usr/bin/env bash
# Local figures: the system's latencies, and the packet path's cost per packet.
set -euo pipefail
cd "$(dirname "$0")/.."
make -s build
go run ./test/bench
go test -run '^$' -bench . -benchmem -benchtime 1s ./roomtask/... 2>/dev/null | grep -E '^(Benchmark|pkg:)'
