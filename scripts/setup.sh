#!/usr/bin/env bash
# Installs what the tests need: `setup.sh all`, or one of: gotools browsers networks buildah node python dynamodb.
# Idempotent, and quick when there is nothing to do. What it could not install is
# named on stdout as "skip: <what>: <how to get it>", with exit code 3.
set -uo pipefail
cd "$(dirname "$0")/.."
mkdir -p .tools/bin out
export CGO_ENABLED=0

STATICCHECK=honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOLANGCI=github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK=golang.org/x/vuln/cmd/govulncheck@v1.8.0
missing=0

skip() { echo "skip: $1: $2"; missing=1; }

gotool() { # package@version
	local name=${1##*/}; name=${name%@*}
	local stamp=.tools/bin/.$name-${1##*@}
	[ -x ".tools/bin/$name" ] && [ -e "$stamp" ] && return 0
	if GOBIN="$PWD/.tools/bin" go install "$1" >"out/setup-$name.log" 2>&1; then
		rm -f .tools/bin/."$name"-*; touch "$stamp"
	else
		skip "$name" "go install $1 failed, see out/setup-$name.log"
	fi
}

gotools() { gotool "$STATICCHECK"; gotool "$GOLANGCI"; gotool "$GOVULNCHECK"; }

apt() { # command, packages
	command -v "$1" >/dev/null && return 0
	if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
		[ -e out/.apt-updated ] || { apt-get update >out/setup-apt.log 2>&1 && touch out/.apt-updated; }
		DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ${*:2} >>out/setup-apt.log 2>&1
	fi
	command -v "$1" >/dev/null || skip "$1" "apt-get install ${*:2} (as root)"
}

browsers() { apt chromium chromium; apt firefox-esr firefox-esr; apt ip iproute2; apt pgrep procps; }
networks() { apt ip iproute2; apt nft nftables; apt curl curl; apt turnutils_uclient coturn; }
image() { apt buildah buildah; }

node_dir() {
	[ -f "$1/package.json" ] || return 0
	[ -e "$1/node_modules/.stamp" ] && [ "$1/node_modules/.stamp" -nt "$1/package-lock.json" ] && return 0
	if ! command -v npm >/dev/null; then skip "node ($1)" "install Node.js 20 or later with npm"; return; fi
	(cd "$1" && npm ci --no-audit --no-fund --ignore-scripts) >"out/setup-npm.log" 2>&1 && touch "$1/node_modules/.stamp" ||
		skip "node modules of $1" "cd $1 && npm ci (see out/setup-npm.log)"
}
node() { node_dir web; node_dir test/e2e; }

python() {
	local stamp=.tools/venv/.stamp
	[ -e "$stamp" ] && [ "$stamp" -nt scripts/requirements.txt ] && return 0
	if python3 -m venv .tools/venv >out/setup-python.log 2>&1 &&
		.tools/venv/bin/pip install -q -r scripts/requirements.txt >>out/setup-python.log 2>&1; then
		touch "$stamp"
	else
		skip "cfn-lint, sam and moto" "python3 -m venv .tools/venv && .tools/venv/bin/pip install -r scripts/requirements.txt"
	fi
}

dynamodb() { scripts/dynamodb-local.sh install >out/setup-dynamodb.log 2>&1 ||
	skip "DynamoDB Local" "Java 17 and Maven, then scripts/dynamodb-local.sh install (see out/setup-dynamodb.log)"; }

case "${1:-all}" in
all) gotools; browsers; networks; image; node; python; dynamodb ;;
gotools | browsers | networks | node | python | dynamodb) "$1" ;;
buildah) image ;;
*) echo "usage: $0 all|gotools|browsers|networks|buildah|node|python|dynamodb" >&2; exit 2 ;;
esac
[ $missing = 0 ] || exit 3
