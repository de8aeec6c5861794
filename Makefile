# make demo   the main job end to end on a real Kubernetes node: installs what it needs
# make test   all tests
.PHONY: demo test check testbed-up testbed-down bench manifests install

CARGO ?= cargo
TESTBED = tests/testbed/testbed.sh
# The testbed's own kubectl, so that tests do not depend on another version that may be installed.
TESTBED_ENV = eval "$$($(TESTBED) env)"

demo: testbed-up
	$(CARGO) build --release --locked
	$(TESTBED_ENV) && demo/kubernetes.sh target/release/sparkha

# The node is ended again whatever the tests say, unless it was up before.
test: check
	$(CARGO) test --locked --bin sparkha
	$(CARGO) test --locked --test main offline::
	tests/run.sh

check:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

testbed-up:
	$(TESTBED) up

testbed-down:
	$(TESTBED) down

bench: testbed-up
	$(CARGO) build --release --locked
	$(TESTBED_ENV) && tests/bench.sh target/release/sparkha

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
