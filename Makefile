# make demo   the main job end to end on this machine, without Kubernetes: installs what it needs
# make test   all tests
.PHONY: demo demo-kubernetes test check systems fuzz deny docs picture dist dist-test release testbed-up testbed-down bench bench-local bench-failover bench-takeover bench-false-alarms bench-chaos bench-lost-node bench-memory bench-scale bench-drain bench-pause-leader bench-pauses bench-nodes bench-submit bench-logs bench-router bench-dns bench-fleet bench-many-workers bench-soak bench-kubernetes manifests install

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

test: check
	tests/all.sh

check:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

# Checks that sparkha compiles for macOS and Windows, as root.
systems:
	tests/systems.sh

# Fuzzes what reads bytes from strangers, an hour for each target: SECONDS=60, TARGETS="dns links".
fuzz: SECONDS ?= 3600
fuzz:
	tests/fuzz.sh $(SECONDS) $(TARGETS)

# Checks the dependencies' licences and sources, and with ADVISORIES=FOLDER, a clone of RustSec's database, known vulnerabilities.
deny:
	tests/deny.sh

# Builds the book of docs/ in target/book.
docs:
	$$(tests/tool.sh mdbook 0.5.4) build docs

# Makes docs/images/create.svg anew, by creating a cluster on this machine.
picture:
	demo/prepare.sh
	$(CARGO) build --locked
	demo/picture.sh target/debug/sparkha

# Builds everything that is published, into target/dist: archive, wheel, Debian package, image, krew's manifest, checksums.
dist:
	dist/build.sh

# Installs what `make dist` built in each way of docs/installation.md, into clean roots, and runs it there. As root.
dist-test:
	tests/dist.sh

# Makes a release, as far as it can be made without publishing anything: see docs/decisions/release.md.
release:
	dist/release.sh "$(VERSION)"

# NODES=3: three nodes instead of one. KUBERNETES=1.37.2: that version instead of 1.20, from Go modules.
testbed-up:
	$(TESTBED) up

testbed-down:
	$(TESTBED) down

bench: bench-local bench-failover bench-takeover bench-false-alarms bench-chaos bench-lost-node bench-memory bench-scale bench-drain bench-pause-leader bench-pauses bench-nodes bench-submit bench-logs bench-router bench-dns bench-fleet bench-many-workers bench-soak bench-kubernetes

# Those of clusters on this machine, and what each takes from the environment:
#
#   bench-drain         the leader killed while a worker is drained: TRIALS, SEED
#   bench-pause-leader  the leader paused under a job: CLUSTERS, TRIALS (of each), WAYS, PAUSES
#   bench-takeover      leaders that end under a job: TRIALS, WAYS
#   bench-false-alarms  what is taken for lost on a busy machine: LOAD, MINUTES, PAUSE
#   bench-lost-node     a node lost under a running job, as root: TRIALS, WAYS
#   bench-failover      TRIALS, LOAD, WAYS
#   bench-memory        jobs at their memory limit: TRIALS, BEFORE=yes
#   bench-chaos         faults at random under three kinds of jobs, as root: MINUTES, SEED, FAULTS
LOCAL_BENCHES = local scale drain pause-leader takeover false-alarms lost-node failover memory chaos router dns
bench-lost-node: packages = iproute2 nftables
bench-chaos: packages = nftables
bench-router: packages = nginx-light wrk
bench-dns: packages = dnsperf bind9-dnsutils

$(LOCAL_BENCHES:%=bench-%): bench-%:
	demo/prepare.sh $(packages)
	$(CARGO) build --release --locked
	tests/bench/$(subst -,_,$*).sh target/release/sparkha

# Commands that are paused at 20 moments each while another runs to its end.
bench-pauses: testbed-up
	$(TESTBED_ENV) && SPARKHA_TRIALS=20 tests/run.sh was_paused --success-output final

# Three nodes: one drained under a job, one lost, one sick. They end those that were up before.
bench-nodes:
	NODES=3 $(TESTBED) up
	$(TESTBED_ENV) && tests/run.sh -E 'test(/^nodes::/)' --no-capture; code=$$?; $(TESTBED) down && $(TESTBED) leftovers && exit $$code

bench-submit: testbed-up
	demo/prepare.sh
	$(CARGO) build --release --locked
	$(TESTBED_ENV) && tests/bench/submit.sh target/release/sparkha

# CUTS and MOMENTS: see there.
bench-logs: testbed-up
	$(CARGO) build --release --locked
	$(TESTBED_ENV) && tests/bench/logs.sh target/release/sparkha

# 1,000 clusters that exist in the API server only, as root: CLUSTERS, SECONDS_IDLE.
bench-fleet: testbed-up
	$(CARGO) build --release --locked
	$(TESTBED_ENV) && tests/bench/fleet.sh target/release/sparkha fleet

# One cluster of many workers, most of which exist in the API server and the master only, as root: WORKERS.
bench-many-workers: testbed-up
	demo/prepare.sh default-jdk-headless openssl
	$(CARGO) build --release --locked
	$(TESTBED_ENV) && tests/bench/many_workers.sh target/release/sparkha

# A router under load for an hour while pods come and go, as root: MINUTES, CLUSTERS.
bench-soak: testbed-up
	demo/prepare.sh wrk
	$(CARGO) build --release --locked
	$(TESTBED_ENV) && tests/bench/fleet.sh target/release/sparkha soak

bench-kubernetes: testbed-up
	$(CARGO) build --release --locked
	$(TESTBED_ENV) && tests/bench/kubernetes.sh target/release/sparkha

# All files that are written by the program: what a person can use with kubectl alone, exactly as `sparkha render` prints it, and the
# reference pages.
manifests:
	$(CARGO) build --locked
	target/debug/sparkha render --masters 1 > manifests/spark.yaml
	target/debug/sparkha render > manifests/spark-ha.yaml
	target/debug/sparkha render --role > manifests/role.yaml
	target/debug/sparkha render --only-zookeeper > zookeeper/zookeeper.yaml
	target/debug/sparkha render --masters 1 --teardown > teardown/teardown.sh
	target/debug/sparkha render --teardown > teardown/teardown-ha.sh
	chmod +x teardown/*.sh
	release=tests/releases/$$(target/debug/sparkha version -o name) && mkdir -p $$release \
	  && target/debug/sparkha render -f tests/releases/cluster.yaml > $$release/rendered.yaml
	SPARKHA_WRITE_REFERENCE=yes $(CARGO) test --locked --bin sparkha reference::

install:
	$(CARGO) install --locked --path .
