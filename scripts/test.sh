#!/usr/bin/env bash
# Runs tests and ends in one line, `N passed, N failed`. Exit code 0 only when some ran and none failed.
#
#   scripts/test.sh all|unit|e2e          (`make test` sets up first)
#
#   unit    test/*.test.ts, test/unit and the Rust tests; no privilege needed
#   e2e     test/native and test/e2e: devices, network namespaces, real peers; root, one file at a time
set -uo pipefail
cd "$(dirname "$0")/.."

kind=${1:-all}
[[ $kind =~ ^(all|unit|e2e)$ ]] || { echo "usage: ${0##*/} all|unit|e2e" >&2; exit 2; }
passed=0 failed=0
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
# Hundreds of processes of Node load the same sources; with their compiled form kept they start in half the time. Agents are
# another user and keep theirs in a directory of their own.
mkdir -m 1777 "$results/compiled"
chmod 711 "$results"
export NODE_COMPILE_CACHE=$results/compiled

# add NAME STATUS: adds what NAME's run counted. A run that counted nothing, or failed without saying why, is one failure.
add() {
  local p=0 f=0
  [[ -s $results/$1 ]] && read -r p f <"$results/$1"
  if ((p + f == 0 || ($2 != 0 && f == 0))); then
    echo "test: the run of $1 ended with code $2 and counted $p passed, $f failed" >&2
    f=$((f + 1))
  fi
  passed=$((passed + p)) failed=$((failed + f))
}

# node_tests NAME CONCURRENCY FILE...: a time limit for each test, each file (guard.ts) and, should all else fail, the whole run.
node_tests() {
  local name=$1 concurrency=$2 status=0
  shift 2
  echo "test: $name, $# files"
  if (($# > 0)); then
    KEDGE_TEST_COUNTS=$results/$name timeout --kill-after=10 90m bin/node --import ./test/support/guard.ts \
      --test --test-timeout=600000 --test-concurrency="$concurrency" \
      --test-reporter=./test/support/reporter.ts --test-reporter-destination=stdout "$@" </dev/null || status=$?
  fi
  add "$name" "$status"
}

# Cargo says `test result: ok. 40 passed; 0 failed; 0 ignored; …` for each test program. Ignored tests count as failed.
rust_tests() {
  local status=0
  echo 'test: rust'
  (cd native && timeout --kill-after=10 30m cargo test --profile checked --locked --quiet) >"$results/cargo.log" 2>&1 </dev/null || status=$?
  sed -nE 's/^test result: .* ([0-9]+) passed; ([0-9]+) failed; ([0-9]+) ignored.*/\1 \2 \3/p' "$results/cargo.log" |
    awk '{p += $1; f += $2 + $3} END {print p + 0, f + 0}' >"$results/rust"
  ((status == 0)) || cat "$results/cargo.log"
  add rust "$status"
}

files_in() {
  find "$@" -name '*.test.ts' 2>/dev/null | LC_ALL=C sort
}

if [[ $kind != e2e ]]; then
  mapfile -t files < <(files_in test -maxdepth 1; files_in test/unit)
  node_tests unit 2 "${files[@]}"
  rust_tests
fi
if [[ $kind != unit ]]; then
  if ((EUID == 0)); then
    mapfile -t files < <(files_in test/native test/e2e)
    node_tests e2e 1 "${files[@]}"
  else
    echo "test: test/native and test/e2e make network namespaces, for which they need root; 'make test-unit' runs the others" >&2
    failed=$((failed + 1))
  fi
fi
echo "$passed passed, $failed failed"
((passed > 0 && failed == 0))
