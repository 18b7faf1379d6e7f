# Kedge. `make demo` and `make test` work from a fresh clone: each sets up what it needs first.
#
#   setup      installs what is missing            lint       types, oxlint, prettier, rustfmt, clippy
#   demo       two hosts, live connections, moves  format     what prettier and rustfmt can mend
#   test       all tests (root)                    ready      all that CI checks: lint and test
#   test-unit  those that need no root             bench      figures beside those of others
#   test-e2e   those with network namespaces       build      dist/: JavaScript for machines without the sources
#   native     the Rust addon                      examples   guests in C, compiled to build/examples/*.wasm
#   programs   what benchmarks and tests run, compiled to build/programs/*.wasm
#   core-suite the WebAssembly core test suite, for engines, in build/core-suite
#   clean      removes all that was made            help       prints this

# Places that are not on every PATH: Rust as rustup installs it, and the tools of root.
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/local/sbin:/usr/sbin:/sbin

NODE := bin/node
ARCH := $(shell uname -m | sed -e s/x86_64/x64/ -e s/aarch64/arm64/)
ADDON := native/kedge.linux-$(ARCH)-gnu.node
RUST := native/Cargo.toml native/Cargo.lock $(shell find native/src native/bpf native/build native/build.rs -type f 2>/dev/null)

all: setup

# --- set-up ---

setup:
	@scripts/setup.sh

setup-tools:
	@scripts/setup.sh tools

native: $(ADDON)

# Copied and renamed, so that a process that has the old addon loaded keeps it.
$(ADDON): $(RUST)
	@echo "setup: building the native addon"
	@cd native && cargo build --release --locked --quiet
	@cp native/target/release/libkedge_native.so $@.tmp && mv $@.tmp $@

examples:
	@$(MAKE) --no-print-directory -C examples

# JavaScript for machines that get no sources.
build: setup-tools
	@rm -rf dist
	@$(NODE) node_modules/typescript/bin/tsc -p tsconfig.build.json

# --- running ---

demo: setup
	@$(NODE) demo/demo.ts

programs:
	@$(MAKE) --no-print-directory -C bench/programs

# What tests of the engines run beside programs: random modules, and the WebAssembly core test suite in build/core-suite.
build/test-modules: $(wildcard native/examples/test-modules/*.rs) native/Cargo.lock
	@echo "setup: building the writer of test modules"
	@mkdir -p build
	@cd native && cargo build --profile checked --locked --quiet --example test-modules
	@cp native/target/checked/examples/test-modules $@.tmp && mv $@.tmp $@

build/core-suite: build/test-modules
	@rm -rf $@.tmp && build/test-modules scripts $@.tmp && rm -rf $@ && mv $@.tmp $@

test-modules: build/test-modules

core-suite: build/core-suite

bench: setup programs
	@$(NODE) bench/run.ts

# --- checking ---

# Everything: prints failures as they come and ends in `N passed, N failed`.
test: setup programs core-suite
	@scripts/test.sh all

test-unit: setup programs core-suite
	@scripts/test.sh unit

test-e2e: setup
	@scripts/test.sh e2e

# All of them, even when one fails.
lint: setup-tools
	@status=0; \
	$(NODE) node_modules/typescript/bin/tsc -p tsconfig.json || status=1; \
	$(NODE) node_modules/oxlint/bin/oxlint --deny-warnings || status=1; \
	$(NODE) node_modules/prettier/bin/prettier.cjs --check --log-level warn . || status=1; \
	(cd native && cargo fmt --check) || status=1; \
	(cd native && cargo clippy --release --all-targets --locked --quiet -- -D warnings) || status=1; \
	exit $$status

format: setup-tools
	@$(NODE) node_modules/prettier/bin/prettier.cjs --write --log-level warn .
	@cd native && cargo fmt

# All that CI checks.
ready:
	@.ci/run

help:
	@sed -n '/^#   /s/^# *//p' Makefile

clean:
	rm -rf build dist node_modules native/target native/*.node demo/report.json demo/*.pcap

.PHONY: all setup setup-tools native examples programs test-modules core-suite build demo bench test test-unit test-e2e lint format ready help clean
