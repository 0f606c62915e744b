#!/usr/bin/env bash
# moto, a second opinion on DynamoDB, for the store's contract suite.
#
#   scripts/moto.sh                                   run on 127.0.0.1:${PORT:-5000}
#   scripts/moto.sh go test ./functions/store/...     run it around a command
#
# It needs moto_server from scripts/requirements.txt, in .tools/venv or on PATH.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/scripts/engine.sh"

server=$root/.tools/venv/bin/moto_server
if [ ! -x "$server" ]; then
  server=$(command -v moto_server) || {
    echo "moto_server not found: python3 -m venv .tools/venv && .tools/venv/bin/pip install -r scripts/requirements.txt" >&2
    exit 1
  }
fi

engine_exec() { exec "$server" -H 127.0.0.1 -p "$1"; }
engine_main MAYFLY_MOTO 5000 "$@"
