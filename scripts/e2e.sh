#!/usr/bin/env bash
# The end-to-end tests in real browsers. Arguments are passed to node --test.
#
# They run in a network namespace of their own when that can be made (as root): its
# one interface leads nowhere, so nothing leaves it. Firefox gathers no loopback
# candidates, so media needs an address that is not 127.0.0.1.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh browsers
scripts/setup.sh node

inside='
set -e
ip link set lo up
ip link add call0 type veth peer name call1
ip addr add 10.77.0.1/24 dev call0
ip link set call0 up
ip link set call1 up
ip route add default dev call0
export MAYFLY_MEDIA_IP=10.77.0.1
exec node --test --test-concurrency=1 "$@"
'
tests=(test/e2e/*.test.mjs)
if [ "$(id -u)" = 0 ] && command -v ip >/dev/null && unshare --net true 2>/dev/null; then
	exec unshare --net bash -c "$inside" e2e "$@" "${tests[@]}"
fi
echo "no network namespace can be made here: media uses this machine's own address"
exec node --test --test-concurrency=1 "$@" "${tests[@]}"
