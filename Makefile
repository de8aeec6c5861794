# make demo   the main job end to end on this machine, without Kubernetes: installs what it needs
# make test   all tests
.PHONY: demo demo-kubernetes test check testbed-up testbed-down bench bench-local bench-failover bench-takeover bench-false-alarms bench-chaos bench-lost-node bench-memory bench-scale bench-drain bench-pause-leader bench-pauses bench-nodes bench-submit bench-logs bench-router bench-dns bench-kubernetes manifests install

CARGO ?= cargo
TESTBED = tests/testbed/testbed.sh
# The testbed's own kubectl, so that tests do not depend on another version that may be installed.
TESTBED_ENV = eval "$$($(TESTBED) env)"

demo:
	demo/prepare.sh
	$(CARGO) build --release --locked
	demo/local.sh target/release/sparkha

# The same on a real one-node Kubernetes, which it builds and starts.
demo-kubernetes: testbed-up
	$(CARGO) build --release --locked
	$(TESTBED_ENV) && demo/kubernetes.sh target/release/sparkha

# The node is ended again whatever the tests say, unless it was up before.
test: check
	$(CARGO) test --locked --bin sparkha
	$(CARGO) test --locked --test main offline::
	tests/local.sh
	tests/kubernetes.sh

check:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

# NODES=3: three nodes instead of one.
testbed-up:
	$(TESTBED) up

testbed-down:
	$(TESTBED) down

bench: bench-local bench-failover bench-takeover bench-false-alarms bench-chaos bench-lost-node bench-memory bench-scale bench-drain bench-pause-leader bench-pauses bench-nodes bench-submit bench-logs bench-router bench-dns bench-kubernetes

bench-local:
	demo/prepare.sh
	$(CARGO) build --release --locked
	tests/bench/local.sh target/release/sparkha

bench-scale:
	demo/prepare.sh
	$(CARGO) build --release --locked
	tests/bench/scale.sh target/release/sparkha

# The leader killed while a worker is drained. TRIALS and SEED: see there.
bench-drain:
	demo/prepare.sh
	$(CARGO) build --release --locked
	tests/bench/drain.sh target/release/sparkha

# The leader paused under a job. CLUSTERS, TRIALS (of each), WAYS and PAUSES: see there.
bench-pause-leader:
	demo/prepare.sh
	$(CARGO) build --release --locked
	tests/bench/pause_leader.sh target/release/sparkha

# Leaders that end under a job. TRIALS and WAYS: see there.
bench-takeover:
	demo/prepare.sh
	$(CARGO) build --release --locked
	tests/bench/takeover.sh target/release/sparkha

# What is taken for lost on a busy machine. LOAD, MINUTES and PAUSE: see there.
bench-false-alarms:
	demo/prepare.sh
	$(CARGO) build --release --locked
	tests/bench/false_alarms.sh target/release/sparkha

# A node lost under a running job; as root. TRIALS and WAYS: see there.
bench-lost-node:
	demo/prepare.sh iproute2 nftables
	$(CARGO) build --release --locked
	tests/bench/lost_node.sh target/release/sparkha

# TRIALS, LOAD and WAYS: see there.
bench-failover:
	demo/prepare.sh
	$(CARGO) build --release --locked
	tests/bench/failover.sh target/release/sparkha

# TRIALS jobs at their memory limit; BEFORE=yes: see there.
bench-memory:
	demo/prepare.sh
	$(CARGO) build --release --locked
	tests/bench/memory.sh target/release/sparkha

# Faults at random under three kinds of jobs; as root. MINUTES, SEED and FAULTS: see there.
bench-chaos:
	demo/prepare.sh nftables
	$(CARGO) build --release --locked
	tests/bench/chaos.sh target/release/sparkha

# Commands that are paused at 20 moments each while another runs to its end.
bench-pauses: testbed-up
	$(TESTBED_ENV) && SPARKHA_TRIALS=20 $(CARGO) test --locked --test main -- --nocapture --test-threads=3 was_paused

# Three nodes: each drained under a job, and one lost. They end those that were up before.
bench-nodes:
	NODES=3 $(TESTBED) up
	$(TESTBED_ENV) && $(CARGO) test --locked --test main -- --nocapture --test-threads=1 nodes::; code=$$?; $(TESTBED) down && $(TESTBED) leftovers && exit $$code

bench-submit: testbed-up
	demo/prepare.sh
	$(CARGO) build --release --locked
	$(TESTBED_ENV) && tests/bench/submit.sh target/release/sparkha

# CUTS and MOMENTS: see there.
bench-logs: testbed-up
	$(CARGO) build --release --locked
	$(TESTBED_ENV) && tests/bench/logs.sh target/release/sparkha

bench-router:
	demo/prepare.sh nginx-light wrk
	$(CARGO) build --release --locked
	tests/bench/router.sh target/release/sparkha

bench-dns:
	demo/prepare.sh dnsperf bind9-dnsutils
	$(CARGO) build --release --locked
	tests/bench/dns.sh target/release/sparkha

bench-kubernetes: testbed-up
	$(CARGO) build --release --locked
	$(TESTBED_ENV) && tests/bench/kubernetes.sh target/release/sparkha

# What a person can use with kubectl alone: exactly what `sparkha render` prints.
manifests:
	$(CARGO) build --locked
	target/debug/sparkha render --masters 1 > manifests/spark.yaml
	target/debug/sparkha render > manifests/spark-ha.yaml
	target/debug/sparkha render --role > manifests/role.yaml
	target/debug/sparkha render --only-zookeeper > zookeeper/zookeeper.yaml
	target/debug/sparkha render --masters 1 --teardown > teardown/teardown.sh
	target/debug/sparkha render --teardown > teardown/teardown-ha.sh
	chmod +x teardown/*.sh

install:
	$(CARGO) install --locked --path .
