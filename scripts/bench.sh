#!/usr/bin/env bash
# Local figures: the system's latencies, and the packet path's cost per packet.
set -euo pipefail
cd "$(dirname "$0")/.."
MAYFLY_BENCH=1 go test -count=1 -v -run Figures ./test/bench | grep -E ' ms |FAIL|_test.go' 
if command -v chromium >/dev/null && command -v node >/dev/null; then
	make -s build
	scripts/setup.sh node
	scripts/netns.sh node test/e2e/join-bench.mjs
else
	echo "Chromium: join to decoded frame  no figure: chromium or node is missing"
fi
go test -run '^$' -bench . -benchmem -benchtime 1s ./roomtask/... 2>/dev/null | grep -E '^(Benchmark|pkg:)'
