#!/usr/bin/env bash
# moto, a second opinion on DynamoDB, for the store's contract suite.
#
#   scripts/moto.sh run                                 on 127.0.0.1:${PORT:-5000}
#   scripts/moto.sh run go test ./functions/store/...   around a command
#
# It needs moto_server from scripts/requirements.txt, in .tools/venv or on PATH.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/scripts/engine.sh"

server=$root/.tools/venv/bin/moto_server
[ -x "$server" ] || server=$(command -v moto_server || true)

engine_install() {
  [ -z "$server" ] || return 0
  echo "moto_server not found: python3 -m venv .tools/venv && .tools/venv/bin/pip install -r scripts/requirements.txt" >&2
  return 1
}

engine_exec() { exec "$server" -H 127.0.0.1 -p "$1"; }
engine_main MAYFLY_MOTO 5000 "$@"
