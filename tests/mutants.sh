#!/usr/bin/env bash
# Plants one bug after the other and runs the test that must find it. A bug that no test finds is a missing test.
#
#   tests/mutants.sh [NAME...]      all of them if none is named
set -euo pipefail
cd "$(dirname "$0")/.."

# The bug, as in src/base/mutant.rs, and the arguments of the test that must turn red.
mutants="
alignment_skipped        --test crash t20_simulated
watermark_first          --test event_time
committed_before_durable --test crash t20_simulated
directory_not_synced     --test crash t3_
slot_reused_in_batch     --lib semantics::state::table
equal_hashes_mixed       --lib services::shuffle
section_forgotten        --test crash t20_simulated
split_from_start         --test crash t20_simulated
checksum_ignored         --test crash t4_damaged_checkpoints
block_checksum_ignored   --lib services::shuffle
combined_by_arrival      --test pipelines
last_part_dropped        --test crash calm
late_window_again        --lib operator::window::general
key_group_lost           --test crash t20_simulated
two_writers              --test crash t19_
"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
run() { # run MUTANT ARGS...
    local mutant=$1
    shift
    MAINSTEM_MUTANT=$mutant cargo test --quiet --features mutants "$@" >"$log" 2>&1
}

declare -A green
survived=()
failed() { printf '%s\n' "$*" >&2; tail -30 "$log" >&2; exit 1; }
while read -r mutant arguments; do
    [ -n "$mutant" ] || continue
    if [ $# -gt 0 ] && ! printf '%s\n' "$@" | grep -qx "$mutant"; then continue; fi
    read -ra test <<<"$arguments"
    if [ -z "${green[$arguments]:-}" ]; then
        run "" "${test[@]}" || failed "without a bug, cargo test $arguments is red already"
        grep -q "test result: ok. [1-9]" "$log" || failed "cargo test $arguments runs no test"
        green[$arguments]=1
    fi
    start=$SECONDS
    if run "$mutant" "${test[@]}"; then
        printf 'SURVIVED  %-24s cargo test %s\n' "$mutant" "$arguments"
        survived+=("$mutant")
    else
        grep -q "test result: FAILED" "$log" || failed "$mutant: cargo test $arguments ended without a failed test"
        # What a simulation says of itself; nothing for other tests.
        seeds=$(grep -oE 'the first after [0-9]+ seeds' "$log" | head -1 || true)
        printf 'found     %-24s cargo test %s (%d of them, %d s%s)\n' "$mutant" "$arguments" \
            "$(grep -c '^---- .* stdout ----' "$log")" $((SECONDS - start)) "${seeds:+, $seeds}"
    fi
done <<<"$mutants"
[ ${#survived[@]} = 0 ] || { printf '%d survived: %s\n' ${#survived[@]} "${survived[*]}" >&2; exit 1; }
