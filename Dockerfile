# One image for all stages: FUNCTION_SOURCE and FUNCTION_TARGET of a Service select its stage.
#
#   (no target)         the stages, the audit and the migrations
#   --target delivery   the same and the project's own delivery, for clusters without KafkaSource
#   --target console    the stages and the client for Kubernetes, for a query that shows releases
#   --target rollout    the canary controller, knrollout
#
# Build it with `make image TARGET=...`: make exports build/requirements-*.txt, the packages of the last three targets,
# from uv.lock. The pipeline names the base with its digest: make image BASE=python:3.13-slim@sha256:...
ARG BASE=python:3.13-slim
# The image in which packages are installed. It needs pip, and the same Python as BASE in the same folder.
ARG BUILD_BASE=${BASE}

FROM ${BUILD_BASE} AS build
ARG SOURCE_DATE_EPOCH=0
# The bytecode of a set literal depends on the hash seed.
ENV SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH} PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_ROOT_USER_ACTION=ignore \
    PIP_ONLY_BINARY=:all: PIP_REQUIRE_HASHES=1
COPY image/assemble.py /build/

FROM build AS library
RUN ["python", "/build/assemble.py", "--standard-library"]

FROM build AS installed
RUN ["python", "-m", "venv", "--without-pip", "/opt/venv"]
COPY requirements.txt /build/
RUN ["python", "-m", "pip", "--python=/opt/venv/bin/python", "install", "-qr", "/build/requirements.txt"]

FROM installed AS packages
RUN ["python", "/build/assemble.py", "/opt/venv"]

FROM installed AS delivery-packages
COPY build/requirements-delivery.txt /build/
RUN ["python", "-m", "pip", "--python=/opt/venv/bin/python", "install", "-qr", "/build/requirements-delivery.txt"]
RUN ["python", "/build/assemble.py", "/opt/venv"]

FROM installed AS rollout-packages
COPY build/requirements-rollout.txt /build/
RUN ["python", "-m", "pip", "--python=/opt/venv/bin/python", "install", "-qr", "/build/requirements-rollout.txt"]
RUN ["python", "/build/assemble.py", "/opt/venv"]

FROM build AS code
COPY pyproject.toml /build/
COPY functions /app/functions
COPY orderflow /app/orderflow
RUN ["python", "/build/assemble.py", "--release", "/build/pyproject.toml", "/app"]

FROM build AS delivery-code
COPY orderflow_sandbox /app/orderflow_sandbox
RUN ["python", "/build/assemble.py", "/app"]

FROM build AS rollout-code
COPY pyproject.toml /build/
COPY knrollout /app/knrollout
RUN ["python", "/build/assemble.py", "--release", "/build/pyproject.toml", "/app"]

FROM ${BASE} AS runtime
# The base has no bytecode, without which every start from zero compiles the standard library.
COPY --from=library /image /
# gunicorn, the server of query, needs a folder for its heartbeat and its control socket. /dev/shm is writable also
# where the root file system is read-only.
ENV PATH=/opt/venv/bin:${PATH} PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    TMPDIR=/dev/shm XDG_RUNTIME_DIR=/dev/shm
# Kubernetes can only check a number against runAsNonRoot.
USER 65532:65532
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="orderflow" \
    org.opencontainers.image.description="An order pipeline of small functions on Knative and Kafka" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"

FROM runtime AS rollout
COPY --from=rollout-packages /image /
COPY --from=rollout-code /image /
WORKDIR /app
CMD ["python", "-m", "knrollout"]

FROM runtime AS console
COPY --from=rollout-packages /image /
COPY --from=code /image /
COPY --from=rollout-code /image /
WORKDIR /app

FROM runtime AS delivery
COPY --from=delivery-packages /image /
COPY --from=code /image /
COPY --from=delivery-code /image /
WORKDIR /app
CMD ["python", "-m", "orderflow_sandbox.delivery", "--help"]

# The last stage is the default target.
FROM runtime AS stages
COPY --from=packages /image /
COPY --from=code /image /
WORKDIR /app
EXPOSE 8080
# The same command as in the manifests of the Services, except query, which functions-framework starts.
CMD ["python", "-m", "uvicorn", "--factory", "functions_framework.aio:create_asgi_app", \
    "--host", "0.0.0.0", "--port", "8080", "--loop", "uvloop", "--http", "httptools", "--no-access-log", \
    "--timeout-keep-alive", "120"]
