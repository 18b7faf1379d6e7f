#!/usr/bin/env bash
# Makes a clone ready to run: Debian packages, npm packages, the native addon, the example guests. Says what it does, installs
# only what is missing, and is done in a moment when nothing is. Where it may not install, it prints what to install and ends 1.
#
#   scripts/setup.sh          what running, testing and linting need
#
# Needs git, make and Rust (cargo) beforehand; any Node with npm, however old, is enough to fetch the right one.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "setup: $*"; }
fail() {
  echo "setup: $*" >&2
  exit 1
}

# What each is for: network tools and peers of tests and demo, the compiler of the example guests, the linker of the addon.
packages=(
  iproute2 nftables tcpdump tshark ethtool procps util-linux
  curl socat netcat-openbsd iperf3 nginx-light openssl python3-minimal
  clang-14 lld-14 wasi-libc libclang-rt-14-dev-wasm32 wabt
  gcc libc6-dev
)

missing=()
if command -v dpkg-query >/dev/null; then
  # Ends 1 when it knows one of them not at all, which is no news here.
  installed=$(dpkg-query -W -f '${binary:Package} ${db:Status-Status}\n' "${packages[@]}" 2>/dev/null || true)
  for package in "${packages[@]}"; do
    grep -qE "^$package(:[a-z0-9]+)? installed\$" <<<"$installed" || missing+=("$package")
  done
  if ((${#missing[@]} > 0)); then
    command -v apt-get >/dev/null && [[ $EUID == 0 ]] ||
      fail "these Debian packages are missing and only root may install them:
  apt-get install --no-install-recommends ${missing[*]}"
    say "installing ${#missing[@]} Debian packages: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    apt-get update >"$log" 2>&1 && apt-get install -y --no-install-recommends "${missing[@]}" >>"$log" 2>&1 || {
      tail -n 20 "$log" >&2
      fail "apt-get failed (its output is in $log)"
    }
    rm -f "$log"
  fi
else
  for tool in ip nft tcpdump tshark curl socat iperf3 nginx openssl python3 clang wat2wasm cc; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  ((${#missing[@]} == 0)) || fail "not a Debian machine, so install these yourself: ${missing[*]} (and wasi-libc for clang)"
fi

# npm packages: again only when the lock file changed.
stamp=node_modules/.kedge-lock
if ! cmp -s package-lock.json "$stamp"; then
  command -v npm >/dev/null || fail "npm is missing: any Node with npm will do, e.g. apt-get install npm"
  say "installing npm packages"
  npm ci --no-audit --no-fund --loglevel=error >&2
  cp package-lock.json "$stamp"
fi

command -v cargo >/dev/null || fail "cargo is missing: install Rust 1.90 or newer, e.g. with https://rustup.rs"
make --no-print-directory native examples
say "ready"
