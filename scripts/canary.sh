#!/usr/bin/env bash
# Looks through everything that a run of the suite has printed and logged, out/test-*.log
# and the programs' own logs in out/logs, for what no log may hold: tickets, resume
# secrets, SDP, ICE passwords and canaries. An API key of the stand-in is in its banner,
# and nowhere else. Tests that print such a thing when they fail are part of it: a failed
# run says so twice.
set -euo pipefail
cd "$(dirname "$0")/.."
programs=(out/logs/*.log)
[ -e "${programs[0]}" ] || { echo "no logs in out/logs: MAYFLY_LOGS=out/logs was not set"; exit 1; }
found=0
look() { # what, pattern, files...
	local what=$1 pattern=$2
	shift 2
	if grep -HnEo "$pattern" "$@" | head -20 | grep .; then
		echo "FAIL: $what"
		found=1
	fi
}
all=("${programs[@]}")
for log in out/test-*.log; do
	case $log in out/test-canary.log) ;; *) [ ! -e "$log" ] || all+=("$log") ;; esac
done
look "a ticket" 'eyJhbGciOiJFZERTQSI[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{20,}' "${all[@]}"
look "a resume secret" 'r1\.room_[0-9A-Z]{26}\.p_[0-9A-Z]{26}\.[A-Za-z0-9_-]{20,}' "${all[@]}"
look "an ICE password or a DTLS fingerprint" 'a=(ice-pwd|ice-ufrag|fingerprint):[A-Za-z0-9+/: -]+' "${all[@]}"
look "SDP, a candidate, an API key or a canary in a program's log" 'a=(candidate|mid|rtpmap):|mf_(dev|live)_[A-Za-z0-9_-]{43}|canary-[a-z]+|Canary Nightingale' "${programs[@]}"
[ "$found" = 0 ] && echo "PASS: ${#all[@]} logs, $(cat "${all[@]}" | wc -l) lines, nothing that may not be there"
exit "$found"
