#!/usr/bin/env bash
# Runs tests and ends in one line, `N passed, N failed`. Exit code 0 only when some ran and none failed.
#   scripts/test.sh all|unit|e2e        (`make test` sets up first)
set -uo pipefail
cd "$(dirname "$0")/.."
kind=${1:-all}
reporter=(--test-reporter=./test/support/reporter.ts --test-reporter-destination=stdout)
passed=0 failed=0
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

# add NAME STATUS: counts what the reporter wrote; a runner that died without a count is one failure.
add() {
  local p=0 f=0
  [[ -s $results/$1 ]] && read -r p f <"$results/$1"
  if ((p + f == 0)) || { (($2 != 0)) && ((f == 0)); }; then
    echo "test: the run of $1 tests ended with code $2 and counted $p passed, $f failed" >&2
    f=$((f + 1))
  fi
  passed=$((passed + p)) failed=$((failed + f))
}

node_tests() { # NAME CONCURRENCY FILE…
  local name=$1 concurrency=$2 status=0
  shift 2
  echo "test: $name ($# files)"
  KEDGE_TEST_COUNTS=$results/$name bin/node --test --test-timeout=600000 --test-concurrency="$concurrency" "${reporter[@]}" "$@" </dev/null || status=$?
  add "$name" "$status"
}

if [[ $kind != e2e ]]; then
  mapfile -t files < <(find test/unit test -maxdepth 1 -name '*.test.ts'; find test/unit -mindepth 2 -name '*.test.ts')
  mapfile -t files < <(printf '%s\n' "${files[@]}" | sort -u)
  node_tests unit 2 "${files[@]}"
  echo "test: rust"
  status=0
  (cd native && cargo test --release --locked --quiet) >"$results/cargo.log" 2>&1 </dev/null || status=$?
  # "test result: ok. 40 passed; 0 failed; …", one line for each of the crate's test programs.
  sed -nE 's/^test result: .* ([0-9]+) passed; ([0-9]+) failed.*/\1 \2/p' "$results/cargo.log" |
    awk '{p += $1; f += $2} END {print p + 0, f + 0}' >"$results/rust"
  ((status == 0)) || cat "$results/cargo.log"
  add rust "$status"
fi
if [[ $kind != unit ]]; then
  if [[ $EUID != 0 ]]; then
    echo "test: the tests with network namespaces need root; run 'make test' as root, or 'make test-unit'" >&2
    failed=$((failed + 1))
  else
    mapfile -t files < <(find test/native test/e2e -name '*.test.ts' | sort)
    node_tests e2e 1 "${files[@]}"
  fi
fi
echo "$passed passed, $failed failed"
((passed > 0 && failed == 0))
