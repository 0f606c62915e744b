# mayfly. `make` alone prints this help; `make run` and `make test` are all a newcomer needs.
SHELL := /bin/bash
GO ?= go
BIN := bin
TOOLS := .tools/bin
VERSION ?= $(shell git describe --always --dirty 2>/dev/null || echo dev)
GOFLAGS_BUILD := -trimpath -ldflags "-s -w -X main.version=$(VERSION)"
export CGO_ENABLED ?= 0

.PHONY: help
help: ## this text
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## the two local programs: bin/mayfly and bin/roomtask
	@$(GO) build $(GOFLAGS_BUILD) -o $(BIN)/mayfly ./cmd/mayfly
	@$(GO) build $(GOFLAGS_BUILD) -o $(BIN)/roomtask ./roomtask

.PHONY: run
run: build ## the whole system on this machine, without AWS (ADDR=127.0.0.1:8080)
	@$(BIN)/mayfly local $(if $(ADDR),-addr $(ADDR)) $(RUNFLAGS)

.PHONY: check
check: ## vet, staticcheck, golangci-lint, unit tests and import rules: under a minute when warm
	@scripts/check.sh

.PHONY: test
test: ## everything; installs what it needs and says what it could not
	@scripts/test.sh

.PHONY: e2e
e2e: build ## the calls in real Chromium and Firefox
	@scripts/e2e.sh

.PHONY: bench
bench: ## what a packet costs, against the obvious relay; POST, start, join (BENCH=cost|system)
	@scripts/bench.sh

.PHONY: load
load: build ## rooms of robots against targets (ROOMS=2 PARTS=4 DURATION=20s; URL= KEY= for a deployment)
	@$(BIN)/mayfly load $(if $(ROOMS),-rooms $(ROOMS)) $(if $(PARTS),-parts $(PARTS)) $(if $(DURATION),-duration $(DURATION)) $(if $(URL),-url $(URL)) $(if $(KEY),-key $(KEY)) $(LOADFLAGS)

.PHONY: fuzz
fuzz: ## every fuzz target, one after the other (FUZZTIME=10m each)
	@scripts/fuzz.sh

.PHONY: vuln
vuln: ## known vulnerabilities in what the code reaches (needs vuln.go.dev, or GOVULNDB)
	@scripts/setup.sh gotools
	@$(TOOLS)/govulncheck $(if $(GOVULNDB),-db $(GOVULNDB)) ./...

.PHONY: image
image: ## the room task's container image, FROM scratch
	@scripts/image.sh

.PHONY: deploy
deploy: ## image, push and stack, with AWS credentials (docs/operations.md)
	@scripts/deploy.sh

.PHONY: setup
setup: ## install the tools that make test needs
	@scripts/setup.sh all

.PHONY: clean
clean: ## remove what was built
	@rm -rf $(BIN) out .aws-sam
