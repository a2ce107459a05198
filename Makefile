# make build   bin/skerry and what it carries inside
# make test    everything: vet, unit, packet-level and acceptance tests (needs root for the last two)
# make demo    an ephemeral cloud that runs the reference architecture, live
# make bench   the figures of the control plane and of launches
# make bench-scaling  Auto Scaling with thousands of instances
# make bench-lb  the load balancers beside HAProxy, nginx and plain routing
# make days      days of Auto Scaling in virtual time for two minutes; make soak does it for SOAK (an hour), from other seeds
# make torture   137 ways to mistreat an HTTP proxy, plain and over TLS
# make terraform  a configuration through its life with Terraform, where it is installed
# make lint    gofmt, vet and the layer rules
GO ?= go
export CGO_ENABLED ?= 0

.PHONY: build embedded deps deps-test test demo bench bench-lb bench-scaling torture days soak lint accept terraform clean

build: embedded
	$(GO) build -trimpath -ldflags '-s -w' -o bin/skerry ./cmd/skerry

embedded: deps
	tools/build-embedded.sh

deps:
	tools/install-deps.sh

deps-test:
	tools/install-deps.sh test

test: deps-test build lint
	PATH="$$(tools/aws-path.sh)$$PATH" SKERRY_REQUIRED=root,build,aws,openssl,xz $(GO) test -p 2 -timeout 600s ./...
	PATH="$$(tools/aws-path.sh)$$PATH" test/accept/run.sh
	PATH="$$(tools/aws-path.sh)$$PATH" test/accept/readme.py
	$(MAKE) torture days

lint:
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "gofmt: $$out"; exit 1; }
	$(GO) vet ./...
	$(GO) test ./internal/archtest

accept: deps-test build
	PATH="$$(tools/aws-path.sh)$$PATH" test/accept/run.sh
	PATH="$$(tools/aws-path.sh)$$PATH" test/accept/readme.py

terraform: build
	test/terraform/run.sh
	test/terraform/scaling.sh
	test/terraform/wide.sh

demo: build
	bin/skerry demo

bench: build
	tools/install-deps.sh bench
	$(GO) run ./test/bench -skerry bin/skerry

bench-scaling: build
	$(GO) run ./test/bench -skerry bin/skerry -scaling

bench-lb: build
	tools/install-deps.sh bench-lb
	bench/lb --skerry bin/skerry

TORTURE = --proxy 'skerry=bin/skerry proxy --http {http} --https {https} --cert {cert} --key {key} --backend {backend1} --backend {backend2}'

days:
	$(GO) test ./internal/scaling -run TestDays -v -count=1 -days-for 120s -days-seeds 10000

SOAK ?= 1h
soak:
	$(GO) test ./internal/scaling -run TestDays -v -count=1 -timeout 0 -days-seeds 1000000000 -days-for $(SOAK) -days-from $$(date +%s)

torture: deps-test build
	bench/http-torture $(TORTURE)
	bench/http-torture --tls $(TORTURE)

clean:
	rm -rf bin build
