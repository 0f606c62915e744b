#!/usr/bin/env bash
# The end-to-end tests in real browsers. Arguments are passed to node --test.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh browsers
scripts/setup.sh node
exec scripts/netns.sh node --test --test-concurrency=1 "$@" test/e2e/*.test.mjs
