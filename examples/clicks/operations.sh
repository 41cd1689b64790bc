#!/usr/bin/env bash
# The life of a job that counts clicks: it is killed, stopped, restored, rescaled, changed, slowed down. After each step
# every window that is out must hold exactly 1,000 clicks of each page, once.
#
#   examples/clicks/operations.sh [PROGRAM MAINSTEM]     the two programs are built if none are given
set -euo pipefail
cd "$(dirname "$0")/../.."

program=${1:-target/release/examples/clicks}
mainstem=${2:-target/release/mainstem} # asks the job to stop
[ $# -gt 0 ] || cargo build --release --example clicks --bin mainstem

windows=60 # six pages, 1,000 clicks each, 15 s of their time; the whole job is 15 minutes of it
rate=60000 # clicks a second: the whole job would take 6 s
work=$(mktemp -d)
job=
# shellcheck disable=SC2329 # called by the trap
clean_up() {
    if [ -n "$job" ]; then kill -9 "$job" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap clean_up EXIT

fail() {
    printf 'operations: %s\n' "$*" >&2
    [ -s "$work/errors" ] && cat "$work/errors" >&2
    exit 1
}

start() { # start OPTION...: the job in the background
    "$program" --events $((windows * 6000)) --rate $rate --output "$work/counts" --job-dir "$work/job" \
        --checkpoint-interval 100ms --progress never "$@" >"$work/out" 2>"$work/errors" &
    job=$!
}

rows() { # the rows that readers of the output see: start,end,page,count
    find "$work/counts" -name 'part-*' -exec cat {} + 2>/dev/null || true
}

check() { # check WHAT: no window with another number, none twice
    local wrong twice
    wrong=$(rows | awk -F, '$4 != 1000' | head -3)
    [ -z "$wrong" ] || fail "$1: not 1,000 clicks: $wrong"
    twice=$(rows | cut -d, -f1-3 | sort | uniq -d | head -3)
    [ -z "$twice" ] || fail "$1: a window came twice: $twice"
    printf '%-50s %4d windows of a page, 1,000 clicks each\n' "$1" "$(rows | wc -l)"
}

until_windows() { # until_windows N: waits until so many windows are out
    local deadline=$((SECONDS + 60))
    while [ "$(rows | wc -l)" -lt $(($1 * 6)) ]; do
        kill -0 "$job" 2>/dev/null || fail "the job has ended before $1 windows were out"
        [ $SECONDS -lt $deadline ] || fail "$1 windows are not out after 60 s"
        read -rt 0.02 <> <(:) || true
    done
}

end_by() { # end_by SIGNAL: the process of the job ends
    kill -s "$1" "$job"
    wait "$job" 2>/dev/null || true
    job=
}

start --parallelism 2
until_windows 6
end_by KILL
check "killed"

start --parallelism 2 --restore latest
until_windows 14
check "restored"
end_by KILL
start --parallelism 2 --restore latest
until_windows 20
kill -s INT "$job"
wait "$job" || fail "the job did not stop at a checkpoint"
job=
check "killed, restored and stopped at a checkpoint"

start --parallelism 2 --restore latest --control "$work/control"
until_windows 26
"$mainstem" stop "$work/control" --savepoint "$work/savepoint" >"$work/stopped" 2>&1 \
    || fail "mainstem stop: $(cat "$work/stopped")"
wait "$job" || fail "the job did not stop with a savepoint"
job=
[ -s "$work/savepoint/manifest.json" ] || fail "mainstem stop has written no savepoint: $(cat "$work/stopped")"
check "stopped with a savepoint"
# What the job would otherwise go on from is gone: the savepoint is enough.
rm -rf "$work/job"

start --parallelism 3 --restore "$work/savepoint"
until_windows 34
end_by KILL
check "resumed from the savepoint at parallelism 3, killed"

start --parallelism 2 --restore latest --back-pressure
until_windows 42
end_by KILL
check "resumed with another operator, under back-pressure"

start --parallelism 2 --restore latest --back-pressure
wait "$job" || fail "the job did not come to its end"
job=
check "at the end"
[ "$(rows | wc -l)" = $((windows * 6)) ] || fail "$(rows | wc -l) windows of a page are out, not $((windows * 6))"
left=$(find "$work/counts" -type f ! -name 'part-*' | head -3)
[ -z "$left" ] || fail "files are left: $left"
