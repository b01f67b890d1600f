# Swiftlet: `make help` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help setup build guest samples install demo test unit-test system-test bench density fuzz lint format proto clean

export PATH := $(PATH):/opt/swift/usr/bin

# Of the programs that `make build` builds; tests always use debug.
CONFIG ?= release
GUEST := .build/guest
SAMPLES := .build/samples
# Where `make install` puts what `make build` and `make guest` made.
PREFIX ?= /usr
# The guest's: debian, as packaged, or trimmed, built from Debian's source (README.md says when to take which).
KERNEL ?= debian
AGENT := .build-agent/release/swiftlet-agent

agent_sources := $(shell find agent Sources/AgentProtocol Sources/TTRPC Sources/Linux Sources/CLinux Sources/Concurrency Sources/Errors Sources/SwiftletVersion -type f)
guest_sources := $(shell find images/guest -type f)
swift_files := find Package.swift Sources Tests agent -name '*.swift' -not -path '*/Generated/*' -print0
shell_files := $(filter-out %.service %.socket,$(wildcard .ci/run scripts/* images/*/build images/guest/kernel images/samples/disk images/samples/*/build))

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

setup: ## install the packages and make the settings this machine needs (root)
	scripts/setup

build: ## build the programs into .build/release
	swift build -c $(CONFIG) --product swiftletd
	swift build -c $(CONFIG) --product swiftlet
	swift build -c $(CONFIG) --product swiftlet-vsockd
	swift build -c $(CONFIG) --product swiftlet-streamd
	swift build -c $(CONFIG) --product swiftlet-virgl-probe
	swift build -c $(CONFIG) --product swiftlet-diskinfo
	swift build -c $(CONFIG) --product swiftlet-pause

guest: $(GUEST)/.built-$(KERNEL) $(GUEST)/samples.tar ## build the agent, the guest's kernel and initramfs and the sample image into .build/guest

# One static binary with nothing to load: it is PID 1 of a guest that holds no library.
$(AGENT): Package.swift $(agent_sources)
	swift build -c release --static-swift-stdlib --product swiftlet-agent --scratch-path .build-agent
	@touch $@

$(GUEST)/.built-$(KERNEL): $(AGENT) $(guest_sources)
	[ $(KERNEL) != trimmed ] || scripts/setup --kernel
	images/guest/build $(GUEST) $(AGENT) $(KERNEL)
	@rm -f $(GUEST)/.built*
	@touch $@

$(GUEST)/samples.tar: images/samples/build
	images/samples/build $(GUEST)

samples: $(SAMPLES)/small-vm.qcow2 ## build a small virtual machine's disk into .build/samples

$(SAMPLES)/small-vm.qcow2: images/samples/disk $(wildcard images/samples/small-vm/*)
	scripts/setup --test
	images/samples/small-vm/build $@ $(GUEST)/package

# Takes a minute or two and a mirror of Debian's: for the tests that need it.
$(SAMPLES)/debian-vm.qcow2: images/samples/disk images/samples/debian-vm/build
	scripts/setup --test
	images/samples/debian-vm/build $@

demo: setup build guest ## run a pod in a virtual machine, from a local image, and show its log
	scripts/demo

demo-vm: setup build guest samples ## boot a small virtual machine as a pod, and run a command in it
	scripts/demo --vm

test: unit-test system-test ## set the machine up and run all tests

unit-test: ## run the tests that need no virtual machine
	scripts/setup --test
	swift build --build-tests
	scripts/unit-tests

system-test: guest samples $(SAMPLES)/debian-vm.qcow2 ## run the tests that boot virtual machines, under emulation where there is no KVM
	scripts/setup --test
	swift build --build-tests
	scripts/system-tests

bench: build guest samples ## measure against containerd with runc; the table goes to docs/performance.md
	scripts/setup --test
	swift build -c release --product swiftlet-bench
	scripts/bench --output docs/performance.md

# Idle guests of 128 MiB, which take some 200 MiB each where they are emulated.
PODS ?= 100

density: build guest ## have PODS (100) idle pods up at once; the table goes to docs/performance.md, whose other parts stay
	scripts/setup --test
	swift build -c release --product swiftlet-bench
	scripts/density $(PODS) --output docs/performance.md

install: build guest ## install the programs, the guest and the systemd unit below $(DESTDIR)$(PREFIX)
	scripts/install "$(DESTDIR)" "$(PREFIX)" ".build/$(CONFIG)" "$(GUEST)"

fuzz: ## look for bytes that end a reader of hostile bytes, a minute for each target
	scripts/setup --test
	scripts/fuzz

lint: ## check format and style
	$(swift_files) | xargs -0 swift format lint --strict
	for file in $(shell_files); do bash -n "$$file" || exit 1; done

format: ## format all Swift files in place
	$(swift_files) | xargs -0 swift format --in-place

proto: ## regenerate the Swift of every .proto file
	scripts/proto

clean: ## remove everything that was built
	rm -rf .build .build-agent .build-proto
