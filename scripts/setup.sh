#!/usr/bin/env bash
# Makes a clone ready: Debian packages, npm packages, the native addon, the example guests. It says what it does, installs only
# what is missing, and is done in a moment when nothing is. Where it may not install, it prints what to install and ends 1.
#
#   scripts/setup.sh tools    what compiling and linting need: compilers, cmake, npm packages, the native addon
#   scripts/setup.sh          that, and what demo, tests and benchmarks need: peers, captures, the compiler of the guests
#
# Needs git, make and Rust (cargo) beforehand, and any Node with npm: it is only used to fetch the right Node.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "setup: $*"; }
fail() {
  echo "setup: $*" >&2
  exit 1
}

# Debian package, and the command or file that shows that it (or something as good) is there.
tools='
  gcc                         cc
  libc6-dev                   /usr/include/stdio.h
  clang-14                    clang-14
  libbpf-dev                  /usr/include/bpf/bpf_helpers.h
  cmake                       cmake
'
all="$tools"'
  iproute2                    ip
  nftables                    nft
  ethtool                     ethtool
  procps                      ps
  util-linux                  setpriv
  tcpdump                     tcpdump
  tshark                      tshark
  curl                        curl
  socat                       socat
  netcat-openbsd              nc.openbsd
  iperf3                      iperf3
  nginx-light                 nginx
  lld-14                      wasm-ld-14
  wasi-libc                   /usr/include/wasm32-wasi/stdio.h
  libclang-rt-14-dev-wasm32   /usr/lib/llvm-14/lib/clang/14.*/lib/wasi/libclang_rt.builtins-wasm32.a
  wabt                        wat2wasm
'
case ${1:-all} in
  tools) wanted=$tools ;;
  all) wanted=$all ;;
  *) fail "usage: ${0##*/} [tools|all]" ;;
esac

# Two of these at once would get in each other's way; the second waits for the first.
exec 9<.
command -v flock >/dev/null && flock 9

present() {
  case $1 in
    /*) compgen -G "$1" >/dev/null ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

install_packages() {
  if ! command -v apt-get >/dev/null; then
    fail "these are missing (names of Debian's packages), and there is no apt-get to install them with:
  $*"
  elif ((EUID != 0)); then
    fail "these Debian packages are missing, and only root may install them. Run this, then try again:
  sudo apt-get update && sudo apt-get install --no-install-recommends $*"
  fi
  say "installing $# Debian packages: $*"
  local log policy=/usr/sbin/policy-rc.d
  log=$(mktemp)
  # nginx is wanted as a program; a package may not start a service on this machine because of us.
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    # shellcheck disable=SC2064 # the path is fixed now
    trap "rm -f '$policy'" EXIT
  fi
  export DEBIAN_FRONTEND=noninteractive
  # A source that cannot be reached does not matter as long as the others have the packages.
  apt-get -o DPkg::Lock::Timeout=120 update </dev/null >"$log" 2>&1 9<&- || true
  if ! apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "$@" </dev/null >>"$log" 2>&1 9<&-; then
    tail -n 20 "$log" >&2
    fail "apt-get failed; all of its output is in $log"
  fi
  rm -f "$log"
  # What a package enabled would be started by the next boot.
  if [[ " $* " == *' nginx-light '* ]] && command -v systemctl >/dev/null; then systemctl disable --quiet nginx 2>/dev/null || true; fi
}

missing=()
while read -r package proof; do
  [[ -z $package ]] || present "$proof" || missing+=("$package")
done <<<"$wanted"
((${#missing[@]} == 0)) || install_packages "${missing[@]}"

# npm packages: again when the lock file is not the one they were installed from.
stamp=node_modules/.kedge-lock
if ! cmp -s package-lock.json "$stamp"; then
  command -v npm >/dev/null || fail 'npm is missing; any Node with npm will do, e.g. apt-get install npm'
  say 'installing npm packages'
  npm ci --no-audit --no-fund --loglevel=error </dev/null 9<&- || fail 'npm ci failed'
  cp package-lock.json "$stamp"
fi
bin/node --version >/dev/null

command -v cargo >/dev/null || fail 'cargo is missing; install Rust 1.88 or newer, e.g. from https://rustup.rs'
make --silent --no-print-directory native 9<&-
if [[ $wanted == "$all" ]] && ! make --silent --question examples 2>/dev/null 9<&-; then
  say 'compiling the example guests'
  make --silent --no-print-directory examples 9<&-
fi
