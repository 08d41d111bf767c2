# Holdfast: the commands people use. `make help` lists them.

TARGET   := x86_64-unknown-linux-musl
BINARY   := target/$(TARGET)/release/holdfast
BUILD    := .build
BUNDLE   := $(BUILD)/holdfast.hfb
# With a kernel, a root and a boot loader: for machines without any system.
SYSTEM   := $(BUILD)/holdfast-system.hfb
ISO      := $(BUILD)/holdfast.iso
KEY      := $(BUILD)/signing.key
LAB      := $(BUILD)/lab
LAYOUT   ?= three
SEEDS    ?= 100
FIRST    ?= 1
KIND     ?=
CARGO    := cargo
SOURCES  := $(shell find src images -name '*.rs' 2>/dev/null) Cargo.toml Cargo.lock .cargo/config.toml
WEB      := src/web
PAGE     := $(BUILD)/page/.source
WEBFILES := $(shell find $(WEB) -type f -not -path '*/node_modules/*' 2>/dev/null)
CONTENTS := $(shell find images bundle ansible-free-playbooks -type f 2>/dev/null)

.PHONY: help page page-check build bundle system media lab lab-down test test-fast test-lab vm-test sim fix bench clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

$(BUILD)/tools-build: .ci/install-build
	@mkdir -p $(BUILD)
	.ci/install-build
	@touch $@

$(WEB)/node_modules/.installed: $(WEB)/package-lock.json | $(BUILD)/tools-build
	npm ci --prefix $(WEB) --ignore-scripts --no-audit --no-fund
	@touch $@

$(PAGE): $(WEBFILES) $(WEB)/node_modules/.installed
	npm run --silent --prefix $(WEB) build

page: $(PAGE) ## the admin page, which the binary carries

page-check: $(WEB)/node_modules/.installed ## types, style, licences and unit tests of the admin page
	npm run --silent --prefix $(WEB) check

$(BINARY): $(SOURCES) $(PAGE) | $(BUILD)/tools-build
	$(CARGO) build --release --locked --bins
	@touch $@

build: $(BINARY) ## the static binary

$(KEY): | $(BINARY)
	$(BINARY) bundle keygen $(KEY)

$(BUNDLE): $(BINARY) $(CONTENTS) | $(KEY)
	$(BINARY) bundle build --appliance bundle/appliance.yaml --lock bundle/packages.lock \
	  --key $(KEY) --cache $(BUILD)/cache --binary $(BINARY) -o $@

bundle: $(BUNDLE) ## the signed offline bundle

$(SYSTEM): $(BINARY) $(CONTENTS) | $(KEY)
	$(BINARY) bundle build --appliance bundle/appliance.yaml --lock bundle/packages.lock \
	  --system bundle/system.yaml --key $(KEY) --cache $(BUILD)/cache --binary $(BINARY) -o $@

system: $(SYSTEM) ## the bundle that also starts empty machines

$(ISO): $(SYSTEM)
	$(BINARY) media iso --bundle $(SYSTEM) --trust $(KEY).pub -o $@

media: $(ISO) ## a bootable image of it, for CD, stick and virtual media

lab: $(BUNDLE) ## three masters on this machine, with the sample deployed
	@$(BINARY) lab down --dir $(LAB)
	@$(BINARY) lab up --layout $(LAYOUT) --dir $(LAB) --bundle $(BUNDLE) --trust $(KEY).pub \
	  --sample bundle/samples/hello.yaml

lab-down: ## ends the lab and leaves nothing behind
	@$(BINARY) lab down --dir $(LAB)

test: ## everything: installs what the tests need, ends with the summary
	.ci/test all

test-fast: ## format, clippy, unit tests, structure, simulation
	.ci/test fast

test-lab: ## real processes, namespaces and engines
	.ci/test lab

vm-test: ## real machines in QEMU: a Debian host, power cuts, machines that start from media
	.ci/test vm

sim: ## seeded faults on the store: SEEDS=n [FIRST=m] [KIND=mixed|calm|generations|paused|full|modes]
	SIM_SEEDS=$(SEEDS) SIM_FIRST=$(FIRST) SIM_KIND=$(KIND) \
	  $(CARGO) test --release --locked --test sim seeds_keep_every_promise -- --nocapture

fix: ## formats and applies clippy's machine-applicable advice
	$(CARGO) fmt
	$(CARGO) clippy --fix --allow-dirty --allow-staged --release --all-targets

bench: $(BUNDLE) ## measures and prints the table of benchmarks.md
	.ci/bench

clean: lab-down ## removes what was built
	rm -rf $(BUILD)
	$(CARGO) clean
