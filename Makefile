# What there is to make. `make test` is what CI and everyone else runs.

GO        ?= go
TOOL      := $(GO) tool -modfile=tools/go.mod
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS   := -s -w -X main.version=$(VERSION)
FUZZTIME  ?= 5s
BENCHTIME ?= 3s
SIMRUNS   ?= 500
FAULTS    ?= 200

.PHONY: all build test race lint fmt fuzz sim robustness bench million demo docker-test vuln clean

all: build

# One static binary, bin/appliance.
build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/appliance ./cmd/appliance

# Unit, property, script and system tests; the clients of the system tests
# (ffmpeg, ezstream, mpg123, sox, curl) must be installed: .ci/run lists them.
# One package at a time on small machines keeps the timing tests honest.
test:
	$(GO) vet ./...
	$(GO) test -timeout 20m ./...

# The same under the race detector, without the system tests: those run a
# binary that is built without it.
race:
	$(GO) test -race -timeout 30m $$($(GO) list ./... | grep -v /systemtest)

lint:
	$(TOOL) golangci-lint run ./...

fmt:
	$(TOOL) golangci-lint fmt ./...

# Every fuzz target for FUZZTIME.
fuzz:
	@set -eu; for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "fuzz $$pkg $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg; \
	  done; \
	done

# Whole clusters in virtual time: SIMRUNS schedules of faults. A schedule takes
# about four seconds; `make test` runs four.
sim:
	CARILLON_SIM=$(SIMRUNS) $(GO) test -count 1 -run 'TestSimulation' -timeout 180m ./cluster/
	$(GO) test -count 5 -shuffle on -timeout 60m ./cluster/gossip/ ./internal/simnet/ ./library/

# Real processes in network namespaces through FAULTS faults, about five seconds
# each, their histories checked with Porcupine. Needs root.
robustness:
	CARILLON_ROBUSTNESS=$(FAULTS) $(GO) test -count 1 -run 'TestRobustness' -timeout 180m -v ./systemtest/

# Rates and CPU per operation, beside a bare pipe measured in the same run.
bench:
	$(GO) test -run '^$$' -bench . -benchtime $(BENCHTIME) -timeout 60m ./...

# A catalog of a million documents: memory, disk, lookups; some minutes.
million:
	CARILLON_DOCUMENTS=1000000 $(GO) test -count 1 -run TestManyDocuments -timeout 30m -v ./library/

demo:
	$(GO) run ./cmd/appliance demo

# The image and three containers; needs a Docker engine, no registry.
docker-test:
	$(GO) test -tags docker -count 1 -timeout 20m -run Docker -v ./systemtest/

# Known holes; needs the internet, so it is no gate.
vuln:
	$(GO) run golang.org/x/vuln/cmd/govulncheck@latest ./...

clean:
	rm -rf bin
