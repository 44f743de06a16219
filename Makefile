# What the commands of README.md do. Everything is built below target/, in one place.

.PHONY: demo test check build fuzz leak leak-weakened bench-host bench-gateway bench-kernel gateway-memory clean

TRIPLE := $(shell rustc -vV | sed -n 's/^host: //p')
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
SORTIE := $(TARGET_DIR)/$(TRIPLE)/release/sortie
FUZZ_SECONDS ?= 60
TEST_THREADS ?= 2

# Shows it: a lab host with a real Docker engine, one table. Needs root for the lab.
demo:
	scripts/install.sh demo
	$(MAKE) build
	$(SORTIE) demo

# Everything. Needs root. The tests of engines start real daemons, so only two tests run at a time.
# Ignored tests are processes that other tests start; they are not for running alone.
test:
	scripts/install.sh test
	cargo test --locked --workspace -- --test-threads=$(TEST_THREADS)

# The quick part: no root, no engine. What makes network namespaces (the unit tests of sortie-kernel,
# those of the probe, `sortie run`) is part of `test`.
check:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo test --locked --workspace --exclude sortie-kernel --lib --bins --test dependencies -- --skip tests::namespace
	cargo test --locked -p sortie --test commands -- lists changes streams

# One static binary.
build:
	cargo build --locked --release -p sortie
	@echo "built $(SORTIE)"

# Any bytes for the decoders of netlink, DNS, HTTP and TLS, any text for the parsers, FUZZ_SECONDS each. The pinned stable
# toolchain can do it: the flags are those that cargo-fuzz gives, without a sanitizer, which only
# nightly has; decoders and parsers have no unsafe code that it would watch. Takes a C++ compiler. What
# is found goes into fuzz/corpus; of the wire's parsers fuzz/seeds keeps what reaches each place of the
# code (-set_cover_merge=1 -use_counters=0 -max_len=512).
FUZZ_TARGETS := client_hello dns_message http1_head netlink_decode policy_parse
FUZZ_FLAGS := --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares
FUZZ_DIR := target/$(TRIPLE)/release
fuzz:
	cd fuzz && RUSTFLAGS="$(FUZZ_FLAGS)" cargo build --locked --release --target $(TRIPLE) --target-dir target
	cd fuzz && for target in $(FUZZ_TARGETS); do \
		mkdir -p corpus/$$target artifacts && \
		$(FUZZ_DIR)/$$target corpus/$$target seeds/$$target -artifact_prefix=artifacts/ \
			-max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done

# N containers while everything around them is killed and changed: every frame on the uplink is read, and
# every request that arrives.
# SEED=NUMBER repeats a run, GUARD=none leaves the guard off, ENGINES=20, 29 or podman takes one,
# RUNTIME=yes or no takes one of both, FAILPOINTS=rule:inet/guard/1=absent takes a rule out. Needs root.
# Writes target/leak.json; fails when a frame left with a wrong source, and keeps what is known of it
# in target/leak-evidence.
leak:
	scripts/install.sh test
	LEAK_N=$(N) LEAK_SEED=$(SEED) LEAK_GUARD=$(GUARD) LEAK_ENGINES=$(ENGINES) LEAK_RUNTIME=$(RUNTIME) \
	LEAK_FAILPOINTS=$(FAILPOINTS) \
	LEAK_REPORT=$(abspath $(TARGET_DIR))/leak.json \
	cargo test --locked -p sortie --test e2e -- --exact leak::at_length --ignored --nocapture

# The leak test can fail: with each rule that drops taken out in turn, something leaves. Prints what.
# Needs root; a few minutes.
leak-weakened:
	scripts/install.sh test
	cargo test --locked -p sortie --test e2e -- --exact leak::without_each_rule --ignored --nocapture

# What one host costs, beside its peers: a packet, a new flow, a changed policy, a start with up to
# 100,000 simulated workloads, a real container's start. PART=traffic, change, start or container
# runs one. Needs root. Writes
# docs/benchmarks/host.json and the host's part of docs/benchmarks.md.
bench-host:
	scripts/install.sh test
	cargo build --locked --release -p sortie
	cargo bench --locked -p sortie-agent --bench host -- $(PART)

# What the gateway costs beside HAProxy and Envoy. PART=quick tries everything in less than two minutes
# and writes nothing; without it, in less than twelve, it writes docs/benchmarks/gateway.json and the
# gateway's part of docs/benchmarks.md. Needs root and two CPUs that do nothing else.
bench-gateway:
	scripts/install.sh bench-gateway
	cargo bench --locked -p sortie-agent --bench gateway -- $(PART)

# The cost of kernel operations. Needs root.
bench-kernel:
	cargo bench --locked -p nfnetlink --bench elements

# What the L7 gateway keeps in memory: of 1 GiB each way, and of thousands of idle connections. Needs
# root and 11,000 open files (`ulimit -n`).
gateway-memory:
	GATEWAY_MIB=1024 cargo test --locked -p sortie-gateway --test data_path -- --exact --nocapture \
		--include-ignored memory::bodies_go_through_without_being_kept memory::who_waits_costs_little

# Build results only: never policies, state, or the cache of engines.
clean:
	cargo clean
