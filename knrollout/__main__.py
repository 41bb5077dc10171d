"""The controller's process: `python -m knrollout`. kopf watches the cluster; controller/loop.py reconciles."""

from __future__ import annotations

import asyncio
import logging
import sys

import kopf
from prometheus_client import REGISTRY, start_http_server
from pydantic import ValidationError

from knrollout.cluster.connection import open_client
from knrollout.cluster.errors import ClusterError
from knrollout.cluster.kubernetes import KubernetesCluster
from knrollout.controller.leader_election import start_election
from knrollout.controller.loop import Controller
from knrollout.controller.metrics import Metrics
from knrollout.controller.settings import ControllerSettings
from knrollout.controller.watches import registry_for


async def serve(settings: ControllerSettings) -> None:
    client = open_client()
    is_leader = start_election(client, settings.lease_name, settings.pod_namespace, settings.pod_name)
    controller = Controller(KubernetesCluster(client), Metrics(REGISTRY), is_leader, settings.resync_seconds)
    start_http_server(settings.metrics_port)
    try:
        await kopf.operator(
            registry=registry_for(controller),
            clusterwide=settings.watch_namespace is None,
            namespaces=[settings.watch_namespace] if settings.watch_namespace else [],
            standalone=True,
            # By default kopf uses the name of the user, which a container does not have. kopf does not export the type.
            identity=settings.pod_name,  # type: ignore[arg-type]
            liveness_endpoint=f"http://0.0.0.0:{settings.health_port}/healthz",
        )
    finally:
        await controller.stop()


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for verbose in ("kopf", "leaderelection", "aiohttp.access"):
        logging.getLogger(verbose).setLevel(logging.WARNING)
    try:
        settings = ControllerSettings()
    except ValidationError as error:
        variables = ", ".join(str(details["loc"][0]).upper() for details in error.errors())
        sys.stderr.write(f"knrollout: missing or bad settings: {variables}\n")
        return 2
    try:
        asyncio.run(serve(settings))
    except ClusterError as error:
        sys.stderr.write(f"knrollout: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
