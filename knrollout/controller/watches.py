"""The watches of the controller: kopf calls it on changes of rollouts, Services, Revisions and AnalysisRuns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import kopf

from knrollout.api import names
from knrollout.api.rollout import service_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from knrollout.controller.loop import Controller


def registry_for(controller: Controller) -> kopf.OperatorRegistry:
    """Event handlers only, so that kopf keeps no state on the objects.

    They are coroutines because kopf calls other functions in a thread, and the controller is not thread-safe.
    """
    registry = kopf.OperatorRegistry()

    @kopf.on.startup(registry=registry)
    def configure(settings: kopf.OperatorSettings, **_: Any) -> None:  # noqa: ANN401 - kopf's own
        settings.posting.enabled = False
        settings.scanning.disabled = True
        settings.watching.server_timeout = 300

    # Only kopf's default registry has login handlers.
    @kopf.on.login(registry=registry)
    def login(**arguments: Any) -> kopf.ConnectionInfo | None:  # noqa: ANN401
        return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)

    @kopf.on.event(names.GROUP, names.VERSION, names.PLURAL, registry=registry)
    async def rollout(*, namespace: str | None, name: str, body: Mapping[str, Any], **_: Any) -> None:  # noqa: ANN401
        controller.on_rollout(namespace or "", name, service_name(body))

    @kopf.on.event(names.SERVING_GROUP, names.SERVING_VERSION, "services", registry=registry)
    async def service(*, namespace: str | None, name: str, **_: Any) -> None:  # noqa: ANN401
        controller.on_service(namespace or "", name)

    @kopf.on.event(names.SERVING_GROUP, names.SERVING_VERSION, "revisions", registry=registry)
    async def revision(*, namespace: str | None, labels: Mapping[str, str], **_: Any) -> None:  # noqa: ANN401
        controller.on_service(namespace or "", labels.get(names.SERVICE_LABEL, ""))

    @kopf.on.event(
        names.ARGO_GROUP,
        names.ARGO_VERSION,
        "analysisruns",
        labels={names.ROLLOUT_LABEL: kopf.PRESENT},
        registry=registry,
    )
    async def run(*, namespace: str | None, labels: Mapping[str, str], **_: Any) -> None:  # noqa: ANN401
        controller.enqueue(namespace or "", labels[names.ROLLOUT_LABEL])

    return registry
