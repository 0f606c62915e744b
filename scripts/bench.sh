#!/usr/bin/env bash
# Local figures: what a forwarded packet costs, against the obvious relay of the same
# Pion version; the system's latencies. BENCH=cost or BENCH=system gives one of them;
# COSTFLAGS go to the first (-short, -only 1x100,10x10, -profile out).
set -euo pipefail
cd "$(dirname "$0")/.."
missed=0
# However it ends, it says how long it took.
trap 'echo "bench: $SECONDS s in all"' EXIT
if [ "${BENCH:-cost}" = cost ]; then
	CGO_ENABLED=0 go build -o bin/cost ./test/bench/cost # as a task's image is built
	# shellcheck disable=SC2086 # several flags
	bin/cost ${COSTFLAGS:-} || missed=1
fi
if [ "${BENCH:-system}" = system ]; then
	since=$SECONDS
	MAYFLY_BENCH=1 go test -count=1 -v -run "Figures|IdlePeerConnection" ./test/bench | grep -E ' ms |KB|FAIL|_test.go'
	if command -v chromium >/dev/null && command -v node >/dev/null; then
		make -s build
		scripts/setup.sh node
		scripts/netns.sh node test/e2e/join-bench.mjs
	else
		echo "Chromium: join to decoded frame  no figure: chromium or node is missing"
	fi
	# Only the packages that have one: linking the tests of the others takes longer.
	measured=$(grep -l '^func Benchmark' roomtask/*/*_test.go | xargs -n1 dirname | sort -u | sed 's|^|./|')
	# shellcheck disable=SC2086 # several packages
	go test -run '^$' -bench . -benchmem -benchtime 100ms $measured 2>/dev/null | grep -E '^(Benchmark|pkg:)'
	echo "system: $((SECONDS - since)) s in all"
fi
exit "$missed"
