# Bare `make` prints the targets. GO is the only tool that all of them need;
# real Kafka also needs Java 17 or later and Maven, and is skipped without.
GO        ?= go
FUZZTIME  ?= 10s
SEEDS     ?= 20000
MINUTES   ?= 2
SEED      ?= 0
TIMEOUT   ?= 20m
MICRO     ?= bench/micro.txt
MICROCOUNT ?= 10
# Filling a batch is not timed and takes a hundred times as long as settling one:
# at a second each, a benchmark runs for minutes.
MICROTIME  ?= 100ms

# The packages whose functions every record or batch passes.
HOT := ./actors/accumulator ./actors/broker ./protocol ./codecs ./partitioners

# The linter is pinned, and kept inside the checkout (`make tools`).
GOLANGCI_VERSION := v2.15.0
TOOLS            := $(CURDIR)/.tools
GOLANGCI         := $(TOOLS)/golangci-lint-$(GOLANGCI_VERSION)

# Every folder that holds the test of who may import whom.
ARCHITECTURE := $(patsubst %,./%,$(wildcard tests/architecture))

.DEFAULT_GOAL := help

.PHONY: help
help: ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1|\2/' | \
		awk -F '|' '{ printf "  %-18s %s\n", $$1, $$2 }'

.PHONY: check
check: check-fast lint architecture unit ## before a commit: format, vet, linter if installed, architecture, unit tests with -race

.PHONY: check-fast
check-fast: ## format and vet only
	@unformatted=$$(gofmt -l .); \
	if [ -n "$$unformatted" ]; then echo "gofmt these files (gofmt -w):"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...

.PHONY: lint
lint: ## golangci-lint, if `make tools` has installed it
	@if [ -x "$(GOLANGCI)" ]; then echo "$(notdir $(GOLANGCI)) run ./..."; "$(GOLANGCI)" run ./...; \
	else echo "lint: golangci-lint $(GOLANGCI_VERSION) is not installed (make tools); going on without"; fi

.PHONY: architecture
architecture: ## the test of who may import whom
	$(if $(ARCHITECTURE),$(GO) test $(ARCHITECTURE),@echo "architecture: no test in tests/architecture")

.PHONY: unit
unit: ## all tests but those on real Kafka, with -race
	$(GO) test -short -race -timeout $(TIMEOUT) ./...

.PHONY: test
test: ## THE test command: everything with -race, real Kafka included (skipped without Java)
	$(GO) test -race -p 2 -timeout $(TIMEOUT) ./...

.PHONY: quickstart
quickstart: ## run the first example; needs no Kafka
	$(GO) run ./examples/quickstart

.PHONY: bench
bench: ## the benchmark's rows that run flat out, with all peers
	bash bench/run.sh

.PHONY: bench-report
bench-report: ## THE measurement: every row, Apache Kafka's too, and docs/benchmarks.md anew (two hours; nothing else may run)
	bash bench/run.sh -report docs/
	bash bench/run.sh -real -report docs/
	$(MAKE) bench-micro MICRO=docs/benchmarks/micro.txt

.PHONY: bench-micro
bench-micro: ## Go benchmarks of the hot functions into MICRO=bench/micro.txt, for benchstat
	@$(GO) test -run '^$$' -bench . -benchmem -count $(MICROCOUNT) -benchtime $(MICROTIME) $(HOT) > $(MICRO).new || { cat $(MICRO).new; rm $(MICRO).new; exit 1; }
	@mv $(MICRO).new $(MICRO) && echo "$(MICRO): compare two of them with benchstat old.txt new.txt"

.PHONY: bench-test
bench-test: ## tests of the benchmark itself
	cd bench && $(GO) vet -tags troupe,peers ./... && $(GO) test -tags troupe,peers ./...

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME=10s each
	@set -e; \
	grep -rl --include='*_test.go' --exclude-dir=bench '^func Fuzz' . | sort | while read -r file; do \
		for target in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]+)\(.*/\1/p' "$$file"); do \
			echo "$$(dirname "$$file") $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")" </dev/null || exit 1; \
		done; \
	done

.PHONY: sim
sim: ## the simulation with SEEDS=20000 seeds, on all processors; ends with one line
	$(GO) run ./tests/sim/campaign -seeds=$(SEEDS)

.PHONY: simulation
simulation: ## run the example of a service that is simulated
	$(GO) run ./examples/simulation

.PHONY: chaos
chaos: ## three real brokers under faults for MINUTES=2, by SEED=n; ends with a table
	$(GO) test -race ./tests/chaos -run '^TestChaos$$' -v -count=1 -timeout $$(awk 'BEGIN { print int($(MINUTES) + 20) }')m \
		-chaos.minutes=$(MINUTES) -chaos.seed=$(SEED)

.PHONY: kafka
kafka: ## fetch the jars of Apache Kafka that the tests use (once per machine)
	$(GO) run ./tests/kafkacluster/fetch

.PHONY: tools
tools: $(GOLANGCI) ## install the pinned golangci-lint into .tools (two minutes)

$(GOLANGCI):
	GOBIN="$(TOOLS)" $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	mv "$(TOOLS)/golangci-lint" "$@"
