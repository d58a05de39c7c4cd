# shellcheck shell=sh
# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Runs the stages of script/test, times them and counts their tests. What counts as one test: a lint tool over all files, a
# sanity test of ansible-test, a test case of pytest, an action of a molecule scenario, and the set-up of a stage if it fails.
# A stage is a shell function stage_NAME; its tests are its calls of check and junit. One that counts no test has failed.
# Sourced with $root set; junit also needs $python.

: "${root:?}"

passed=0
failed=0
summary=

# Runs the command after the label $1 as one test.
check() {
    label=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED: %s\n' "$label"
    fi
}

# Runs a command that a stage can't do without; only its failure counts.
need() {
    "$@" && return 0
    failed=$((failed + 1))
    printf 'FAILED: %s\n' "$*"
    return 1
}

# Runs the command after the directory $1, which leaves JUnit files there, and counts their test cases.
junit() {
    reports=$1
    shift
    rm -rf "$reports"
    mkdir -p "$reports"
    "$@"
    status=$?
    # shellcheck disable=SC2046  # three words
    count $status $("${python:?}" "$root/script/lib/junit.py" "$reports" || echo 0 0 0)
}

# Counts the tests of a command: $1 is its exit status, then how many passed, failed and were skipped. A command that fails
# although no test of it did (a crash, an error at collection), or that ran none, counts as one failed test.
count() {
    passed=$((passed + $2))
    failed=$((failed + $3))
    [ "$4" -eq 0 ] || printf '%s skipped\n' "$4"
    if [ "$3" -eq 0 ] && { [ "$1" -ne 0 ] || [ "$2" -eq 0 ]; }; then
        failed=$((failed + 1))
        printf 'FAILED: exit status %s, %s tests passed\n' "$1" "$2"
    fi
}

run_stage() {
    printf '\n=== %s\n' "$1"
    before_passed=$passed
    before_failed=$failed
    started=$(date +%s)
    "stage_$1"
    [ $((passed + failed)) -ne $((before_passed + before_failed)) ] || need false "$1 ran no test"
    line=$(printf '%-10s %5d s  %5d passed %5d failed' "$1" $(($(date +%s) - started)) \
        $((passed - before_passed)) $((failed - before_failed)))
    printf -- '--- %s\n' "$line"
    summary="$summary$line
"
}

# Prints every stage's time and last the plain line of counts.
finish() {
    printf '\n%s%d passed, %d failed\n' "$summary" "$passed" "$failed"
    [ "$failed" -eq 0 ]
}
