#!/usr/bin/env bash
# Everything there is to test, step by step. It installs what it may; what it could
# not try is listed at the end, and is a failure when CI=true.
set -uo pipefail
cd "$(dirname "$0")/.."
mkdir -p out
rm -rf out/logs
mkdir -p out/logs
export MAYFLY_LOGS=$PWD/out/logs # of the programs that tests start
: >out/skipped.txt
passed=0 failed=0 summary=()

# step NAME COMMAND...: runs it, with its output shown and kept.
step() {
	local name=$1 begin=$SECONDS status; shift
	printf '\n=== %s\n' "$name"
	"$@" 2>&1 | tee "out/test-$name.log"
	status=${PIPESTATUS[0]}
	if [ "$status" = 0 ]; then
		passed=$((passed + 1)); summary+=("ok    $name  $((SECONDS - begin)) s")
	else
		failed=$((failed + 1)); summary+=("FAIL  $name  $((SECONDS - begin)) s  (out/test-$name.log)")
	fi
	grep -h '^skip: ' "out/test-$name.log" >>out/skipped.txt || true
}
# have WHAT: whether setup got it.
have() { ! grep -q "^skip: $1" out/skipped.txt; }

setup() { scripts/setup.sh all || [ $? = 3 ]; }

engines() { # the store's contract, ECS's requests and whole flows on engines that nobody here wrote
	local run=()
	have "DynamoDB Local" && run+=(scripts/dynamodb-local.sh run)
	have "cfn-lint, sam and moto" && run+=(scripts/moto.sh run)
	[ ${#run[@]} -gt 0 ] || return 0
	"${run[@]}" go test -p 1 -count=1 ./functions/store/... ./functions/fleet/... ./functions/names ./test/engines
}
templates() { have "cfn-lint, sam and moto" || return 0; scripts/templates.sh; }
web() { have node || return 0; (cd web && npm run --silent check && npm test --silent); }
image() { have buildah || return 0; scripts/image.sh && MAYFLY_IMAGE=1 go test -count=1 -run TestRoomInTheImage ./test/system; }
e2e() { have chromium && have firefox-esr && have node || return 0; scripts/e2e.sh; }
unit() { go test $(go list ./... | grep -v /test/system); }
system() { go test -count=1 ./test/system; } # alone: it has times to keep
firewalls() { have nft || return 0; MAYFLY_FIREWALL=1 go test -v -count=1 ./test/firewall && MAYFLY_FIREWALL=1 go test -count=1 -run Coturn ./roomtask/transport ./test/system; }
race() { # pure packages start no goroutine, and are slow under it
	CGO_ENABLED=1 go test -race -short $(go list ./shared/... ./functions/... ./infra/... ./roomtask/... | grep -vE '/roomtask/(bwe|alloc|rtpx|speaker)$')
}

step setup setup
step build make -s build
step check scripts/check.sh
step unit unit
step system system
step firewalls firewalls
if command -v gcc >/dev/null; then step race race; else echo "skip: race detector: install gcc" >>out/skipped.txt; fi
step web web
step engines engines
step templates templates
step image image
step e2e e2e
step canary scripts/canary.sh

printf '\n=== summary\n'
printf '%s\n' "${summary[@]}"
if [ -s out/skipped.txt ]; then
	echo; echo "Not tried on this machine:"; sort -u out/skipped.txt
	if [ "${CI:-}" = true ]; then failed=$((failed + 1)); echo "a skip is a failure when CI=true"; fi
fi
printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
