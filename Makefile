# Kedge. `make demo` and `make test` work from a fresh clone: each sets up what it needs first.

NODE := bin/node
ARCH := $(shell uname -m | sed -e s/x86_64/x64/ -e s/aarch64/arm64/)
ADDON := native/kedge.linux-$(ARCH)-gnu.node
RUST := native/Cargo.toml native/Cargo.lock $(shell find native/src native/build.rs -type f 2>/dev/null)
UNIT := $(wildcard test/*.test.ts) $(shell find test/unit -name '*.test.ts' 2>/dev/null)
E2E := $(shell find test/native test/e2e -name '*.test.ts' 2>/dev/null)
REPORT := --test-reporter=./test/support/reporter.ts --test-reporter-destination=stdout

all: setup

# --- set-up ---

setup:
	@scripts/setup.sh

native: $(ADDON)

$(ADDON): $(RUST)
	@echo "setup: building the native addon"
	@cd native && cargo build --release --locked --quiet
	@cp native/target/release/libkedge_native.so $@.tmp && mv $@.tmp $@

examples:
	@$(MAKE) --no-print-directory -C examples

# JavaScript for machines that get no sources.
build: setup
	@rm -rf dist && $(NODE) node_modules/typescript/bin/tsc -p tsconfig.build.json

# --- running ---

demo: setup
	@$(NODE) demo/demo.ts

bench: setup
	@$(NODE) bench/run.ts

# --- checking ---

# Everything: prints failures as they come and ends in `N passed, N failed`.
test: setup
	@scripts/test.sh all

test-unit: setup
	@scripts/test.sh unit

test-e2e: setup
	@scripts/test.sh e2e

lint: setup
	@$(NODE) node_modules/typescript/bin/tsc -p tsconfig.json
	@$(NODE) node_modules/.bin/oxlint --type-aware --deny-warnings
	@$(NODE) node_modules/prettier/bin/prettier.cjs --check --log-level warn .
	@cd native && cargo fmt --check && cargo clippy --release --all-targets --locked --quiet -- -D warnings

format: setup
	@$(NODE) node_modules/prettier/bin/prettier.cjs --write --log-level warn .
	@cd native && cargo fmt

# All that CI checks.
ready: lint test

clean:
	rm -rf build dist node_modules native/target native/*.node demo/report.json

.PHONY: all setup native examples build demo bench test test-unit test-e2e lint format ready clean
