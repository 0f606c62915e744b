#!/usr/bin/env bash
# DynamoDB Local, AWS's own test engine, for the store's contract suite.
#
#   scripts/dynamodb-local.sh install                             download only
#   scripts/dynamodb-local.sh run                                 on port ${PORT:-8000}
#   scripts/dynamodb-local.sh run go test ./functions/store/...   around a command
#
# It needs Java 17 and, for the first run, Maven and Maven Central. Its native SQLite
# exists for Linux on x86-64 (and for macOS), not for Linux on arm64.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
jars=$root/.tools/dynamodb-local
. "$root/scripts/engine.sh"

engine_install() {
  [ ! -e "$jars/.complete" ] || return 0
  rm -rf "$jars"
  mvn --quiet --batch-mode -Dstyle.color=never --file "$root/scripts/dynamodb-local/pom.xml" \
    dependency:copy-dependencies -DoutputDirectory="$jars"
  touch "$jars/.complete"
}

engine_exec() {
  # -disableTelemetry: the engine reports its use to AWS otherwise. It has no option for
  # the address, and listens on all of them, with tables in memory only.
  exec java -Djava.library.path="$jars" -cp "$jars/*" \
    software.amazon.dynamodb.services.local.main.ServerRunner \
    -inMemory -disableTelemetry -port "$1"
}
engine_main MAYFLY_DYNAMODB_LOCAL 8000 "$@"
