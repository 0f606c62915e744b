#!/usr/bin/env bash
# Runs every fuzz target of the module, one after the other, each for FUZZTIME (10m).
# Arguments narrow it down to packages, as for go list. What is found is written to the
# package's testdata/fuzz by go itself, and ends this with FAIL; nothing else is kept.
set -euo pipefail
cd "$(dirname "$0")/.."
FUZZTIME=${FUZZTIME:-10m}
packages=("$@")
[ ${#packages[@]} -gt 0 ] || packages=(./...)
# The packages whose tests have a fuzz target, by their directories.
dirs=$(go list -f '{{$d := .Dir}}{{range .TestGoFiles}}{{$d}}/{{.}}{{"\n"}}{{end}}{{range .XTestGoFiles}}{{$d}}/{{.}}{{"\n"}}{{end}}' "${packages[@]}" |
	sed '/^$/d' | xargs -r grep -l '^func Fuzz' | xargs -r -n1 dirname | sort -u)
failed=() count=0
for dir in $dirs; do
	for target in $(grep -ho '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go | sed 's/^func //' | sort -u); do
		count=$((count + 1))
		printf '%-48s ' "${dir#"$PWD"/} $target"
		begun=$SECONDS
		if out=$(nice -n 19 go test -run '^$' -fuzz "^$target\$" -fuzztime "$FUZZTIME" "$dir" 2>&1); then
			echo "ok, $((SECONDS - begun)) s, $(grep -o 'execs: [0-9]*' <<<"$out" | tail -1)"
		else
			echo "FAILED"
			echo "$out" | tail -40
			failed+=("$target")
		fi
	done
done
if [ ${#failed[@]} -gt 0 ] || [ "$count" = 0 ]; then
	echo "FAIL: ${failed[*]:-no fuzz target found}"
	exit 1
fi
echo "PASS: $count targets, $FUZZTIME each"
