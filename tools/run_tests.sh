#!/usr/bin/env bash
# Runs cmocka test programs one after the other, goes on after a failure, and closes with the total.
set -u
passed=0 failed=0 skipped=0 broken=()
log=$(mktemp)
trap 'rm -f "$log"' EXIT

count() { # the number before "test(s)" on cmocka's line for $1 (PASSED, FAILED, SKIPPED)
    sed -nE "s/^\[ +$1 +\] ([0-9]+) test\(s\).*/\1/p" "$log" | awk '{ n += $1 } END { print n + 0 }'
}

for program in "$@"; do
    echo "== $program"
    "$program" >"$log" 2>&1
    status=$?
    cat "$log"
    program_failed=$(count FAILED)
    # A crash loses cmocka's closing lines: it still counts as a failure.
    if [ "$status" -ne 0 ] && [ "$program_failed" -eq 0 ]; then program_failed=1; fi
    [ "$program_failed" -gt 0 ] && broken+=("$program")
    passed=$((passed + $(count PASSED)))
    failed=$((failed + program_failed))
    skipped=$((skipped + $(count SKIPPED)))
done

for program in "${broken[@]+"${broken[@]}"}"; do echo "failed: $program"; done
[ "$((passed + failed))" -gt 0 ] || { echo "no test ran"; exit 1; }
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
