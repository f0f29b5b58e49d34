# Two commands: `make run` and `make test`. Both install what is missing first (Debian; needs root).
SHELL := /bin/bash
.DEFAULT_GOAL := help
TARGET := $(shell rustc -vV | sed -n 's/^host: //p')
RELEASE := target/$(TARGET)/release/orch
QUICK := target/$(TARGET)/quick/orch

help: ## Show what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

run: deps ## Build, start a server, deploy a sample, show its answer (Ctrl-C stops the server)
	cargo build --profile quick
	tests/support/tour $(QUICK)

test: clients check ## Everything CI runs
	cargo build --bin orch
	cargo nextest run --no-fail-fast --status-level fail --final-status-level slow

test-vm: ## The same on virtual machines: pure cgroup v2 (takes minutes)
	tests/support/deps qemu-system-x86_64:qemu-system-x86 mkfs.ext4:e2fsprogs
	cargo build --bin orch
	cargo nextest run --test vm --run-ignored all --no-capture

check: ## Format, lints, licences
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	tests/support/deny

fuzz: ## Feed every border made-up input (FUZZ_SECONDS each, 600 by default; TARGETS names some)
	fuzz/run $(TARGETS)

release: ## The static executable that is shipped
	cargo build --release
	@ls -l $(RELEASE)

bench: deps ## Figures as ratios against peers, in one run
	tests/support/deps crun:crun runc:runc
	cargo build --profile quick
	benches/run $(QUICK)

install: release ## Put the executable into /usr/local/bin
	install -m 755 $(RELEASE) /usr/local/bin/orch

deps: ## Install what building and testing need
	tests/support/deps

clients: ## Install the foreign clients that the tests drive, and what else they need
	tests/support/deps npm:npm
	tests/support/clients target/clients

.PHONY: help run test test-vm check fuzz release bench install deps clients
