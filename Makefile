# Holkas: every check and every tool, by name. `make help` lists them.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
LINT     = go tool -modfile=$(CURDIR)/tests/lint/go.mod golangci-lint

# What the tests and the demo call, and the Debian package that has it.
PROGRAMS := mkfs.xfs:xfsprogs mkfs.ext4:e2fsprogs mkfs.btrfs:btrfs-progs fusermount3:fuse3 fio:fio \
	losetup:util-linux mount:mount /usr/lib/postgresql/*/bin/initdb:postgresql

# Each fuzz target runs for so long, or so often (1000x).
FUZZTIME ?= 5s

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## install what the tests and the demo need, or say what to install
	@missing=(); for p in $(foreach p,$(PROGRAMS),'$(p)'); do \
		program=$${p%%:*}; PATH="$$PATH:/usr/sbin:/sbin" command -v $$program >/dev/null || missing+=("$${p##*:}"); \
	done; \
	command -v go >/dev/null || { echo "make: there is no Go: install Go $$(awk '/^go /{print $$2}' go.mod) or later" >&2; exit 1; }; \
	if (( $${#missing[@]} == 0 )); then exit 0; fi; \
	if [[ $$(id -u) == 0 ]] && command -v apt-get >/dev/null; then \
		echo "installing: $${missing[*]}"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$${missing[@]}" >/dev/null; \
	else \
		echo "make: missing on this machine: run as root: apt-get install $${missing[*]}" >&2; exit 1; \
	fi

.PHONY: root
root: # the tests and the demo make filesystems, mounts and loop devices
	@[[ $$(id -u) == 0 ]] || { echo "make: this makes loop devices and mounts: run it as root" >&2; exit 1; }

.PHONY: build
build: ## build the one static binary, bin/holkas
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/holkas ./cmd/holkas

.PHONY: test
test: deps root ## run every test: units, csi-sanity, end to end, deaths at every step
	go test ./...
	cd tests && go test -timeout 30m -p 1 ./...

.PHONY: race
race: deps root ## run what is concurrent under the race detector
	go test -race -timeout 20m -skip 'Conformance|Histories|Model' ./pkg/agent/... ./pkg/controller ./pkg/csi/... ./pkg/node \
		./pkg/objstore/memory ./pkg/objstore/retry ./pkg/objstore/faults ./pkg/repository ./pkg/blockdev/... ./pkg/vlog/table ./pkg/vlog/frame
	go test -race -timeout 10m -run 'AtOnce|Race|Pause|Guard|Duplicates' ./pkg/backend/local
	go test -race -timeout 10m ./pkg/backend/internal/...

.PHONY: sanity
sanity: deps root ## run csi-sanity against real processes on real loop devices
	cd tests && go test -count 1 -v -timeout 30m ./sanity

.PHONY: guest
guest: PROGRAMS += qemu-system-x86_64:qemu-system-x86 modprobe:kmod
guest: deps ## run what needs a kernel with nbd, in an emulated machine (GUEST_RUN=regexp)
	cd tests && go test -tags guest -count 1 -v -timeout 20m ./guest

.PHONY: fuzz
fuzz: ## fuzz every parser of outside input, each for FUZZTIME
	@for dir in $$(git grep -l --untracked '^func Fuzz' -- '*_test.go' | xargs -n1 dirname | sort -u); do \
		for target in $$(grep -ho '^func Fuzz[A-Za-z0-9_]*' $$dir/*_test.go | cut -c6-); do \
			echo "fuzz $$dir $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) ./$$dir; \
		done; \
	done

.PHONY: soak
soak: deps root ## run what takes long in full: histories, deaths, fuzzing
	HOLKAS_SOAK=1 go test -count 1 -timeout 60m ./...
	cd tests && HOLKAS_SOAK=1 go test -count 1 -timeout 60m -p 1 ./...
	go test -race -timeout 10m -run 'Move|TakenOver|GoesOn|Goes|Conformance/memory/(Dup|One|Many|Cancelled|Pause)' ./pkg/backend/object
	$(MAKE) fuzz FUZZTIME=60s

.PHONY: lint
lint: ## run the linter on both modules, and check the formatting and the module files
	@unformatted=$$(git ls-files --cached --others --exclude-standard '*.go' | xargs -r gofmt -l); \
		[[ -z $$unformatted ]] || { echo "gofmt these: $$unformatted" >&2; exit 1; }
	$(LINT) run ./...
	cd tests && $(LINT) run --config ../.golangci.yml ./...
	go mod tidy -diff
	cd tests && go mod tidy -diff

.PHONY: bench
bench: deps root ## measure against a plain loop device and a plain file (BENCH=regexp, BENCH_OUT=file)
	cd tests && go run ./bench

.PHONY: demo
demo: deps root build ## watch PostgreSQL live on a volume, be snapshotted and be cloned
	bin/holkas demo

.PHONY: image
image: ## build the container image with docker or buildah
	@tool=$$(command -v docker || command -v buildah) || { echo "make: an image needs docker or buildah: apt-get install buildah" >&2; exit 1; }; \
		"$$tool" build --build-arg VERSION=$(VERSION) --tag holkas:$(VERSION) .
