#!/usr/bin/env bash
# DynamoDB Local, AWS's own test engine, for the store's contract suite.
#
#   scripts/dynamodb-local.sh fetch                             download only
#   scripts/dynamodb-local.sh                                   run on 127.0.0.1:${PORT:-8000}
#   scripts/dynamodb-local.sh go test ./functions/store/...     run it around a command
#
# It needs Java 17 and, for the first run, Maven and Maven Central. Its native SQLite
# exists for Linux on x86-64 (and for macOS), not for Linux on arm64.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
jars=$root/.tools/dynamodb-local
. "$root/scripts/engine.sh"

if [ ! -e "$jars/.complete" ]; then
  rm -rf "$jars"
  mvn --quiet --batch-mode -Dstyle.color=never --file "$root/scripts/dynamodb-local/pom.xml" \
    dependency:copy-dependencies -DoutputDirectory="$jars"
  touch "$jars/.complete"
fi
if [ "${1-}" = fetch ]; then
  exit 0
fi

engine_exec() {
  # -disableTelemetry: the engine reports its use to AWS otherwise. It has no option for
  # the address, and listens on all of them, with tables in memory only.
  exec java -Djava.library.path="$jars" -cp "$jars/*" \
    software.amazon.dynamodb.services.local.main.ServerRunner \
    -inMemory -disableTelemetry -port "$1"
}
engine_main MAYFLY_DYNAMODB_LOCAL 8000 "$@"
