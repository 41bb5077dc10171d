"""The controller's process: `python -m knrollout`. kopf watches; rounds are the controller's own."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Any

import kopf
from prometheus_client import REGISTRY, start_http_server
from pydantic import ValidationError

from knrollout.api import names
from knrollout.cluster.errors import ClusterError
from knrollout.cluster.kubernetes import KubernetesCluster, open_client
from knrollout.cluster.reader import service_name
from knrollout.controller.leader_election import elect
from knrollout.controller.loop import Controller
from knrollout.controller.metrics import Measures
from knrollout.controller.settings import ControllerSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICE_LABEL = f"{names.SERVING_GROUP}/service"


def watched(controller: Controller) -> kopf.OperatorRegistry:
    """Bare events only: kopf keeps no state of its own on the objects. What is no coroutine it calls in a thread."""
    registry = kopf.OperatorRegistry()

    @kopf.on.startup(registry=registry)
    def configure(settings: kopf.OperatorSettings, **_: Any) -> None:  # noqa: ANN401 - kopf's own
        settings.posting.enabled = False
        settings.scanning.disabled = True
        settings.watching.server_timeout = 300

    # A registry of one's own has no way to log in.
    @kopf.on.login(registry=registry)
    def login(**given: Any) -> kopf.ConnectionInfo | None:  # noqa: ANN401
        return kopf.login_with_service_account(**given) or kopf.login_with_kubeconfig(**given)

    @kopf.on.event(names.GROUP, names.VERSION, names.PLURAL, registry=registry)
    async def rollout(*, namespace: str | None, name: str, body: Mapping[str, Any], **_: Any) -> None:  # noqa: ANN401
        controller.rollout_seen(namespace or "", name, service_name(body))

    @kopf.on.event(names.SERVING_GROUP, names.SERVING_VERSION, "services", registry=registry)
    async def service(*, namespace: str | None, name: str, **_: Any) -> None:  # noqa: ANN401
        controller.service_seen(namespace or "", name)

    @kopf.on.event(names.SERVING_GROUP, names.SERVING_VERSION, "revisions", registry=registry)
    async def revision(*, namespace: str | None, labels: Mapping[str, str], **_: Any) -> None:  # noqa: ANN401
        controller.service_seen(namespace or "", labels.get(SERVICE_LABEL, ""))

    @kopf.on.event(
        names.ARGO_GROUP,
        names.ARGO_VERSION,
        "analysisruns",
        labels={names.ROLLOUT_LABEL: kopf.PRESENT},
        registry=registry,
    )
    async def run(*, namespace: str | None, labels: Mapping[str, str], **_: Any) -> None:  # noqa: ANN401
        controller.stir(namespace or "", labels[names.ROLLOUT_LABEL])

    return registry


async def serve(settings: ControllerSettings) -> None:
    client = open_client()
    cluster = KubernetesCluster(client)
    leading = elect(client, settings.lease_name, settings.pod_namespace, settings.pod_name)
    controller = Controller(cluster, Measures(REGISTRY), leading, settings.resync_seconds)
    start_http_server(settings.metrics_port)
    try:
        await kopf.operator(
            registry=watched(controller),
            clusterwide=settings.watch_namespace is None,
            namespaces=[settings.watch_namespace] if settings.watch_namespace else [],
            standalone=True,
            # It would ask for the name of the user, and a container has none; its type is not exported.
            identity=settings.pod_name,  # type: ignore[arg-type]
            liveness_endpoint=f"http://0.0.0.0:{settings.health_port}/healthz",
        )
    finally:
        await controller.stop()


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for talkative in ("kopf", "leaderelection", "aiohttp.access"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    try:
        settings = ControllerSettings()
    except ValidationError as error:
        wrong = ", ".join(str(fault["loc"][0]).upper() for fault in error.errors())
        sys.stderr.write(f"knrollout: missing or bad settings: {wrong}\n")
        return 2
    try:
        asyncio.run(serve(settings))
    except ClusterError as error:
        sys.stderr.write(f"knrollout: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
