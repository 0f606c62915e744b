#!/usr/bin/env bash
# Runs a command with real browsers: in a network namespace of its own when that can
# be made (as root), whose one interface leads nowhere, so that nothing leaves it.
# Firefox gathers no loopback candidates, so media needs an address that is not 127.0.0.1.
set -euo pipefail
inside='
set -e
ip link set lo up
ip link add call0 type veth peer name call1
ip addr add 10.77.0.1/24 dev call0
ip link set call0 up
ip link set call1 up
ip route add default dev call0
export MAYFLY_MEDIA_IP=10.77.0.1
exec "$@"
'
if [ "$(id -u)" = 0 ] && command -v ip >/dev/null && unshare --net true 2>/dev/null; then
	exec unshare --net bash -c "$inside" netns "$@"
fi
echo "no network namespace can be made here: media uses this machine's own address" >&2
exec "$@"
