"""The cluster behind kubernetes' own client. Each method is one request."""

from __future__ import annotations

import os
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kubernetes import config
from kubernetes.client import ApiClient, Configuration, CoreV1Api, CustomObjectsApi
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from knrollout.api import names
from knrollout.cluster.errors import ClusterError, ConflictError
from knrollout.version import version

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from knrollout.api.objects import Document
    from knrollout.decide.actions import SetTraffic
    from knrollout.decide.events import Notice

TIMEOUT_SECONDS: Final = 15
POD_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
MERGE: Final = "application/merge-patch+json"
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_ROLLOUTS: Final = {"group": names.GROUP, "version": names.VERSION, "plural": names.PLURAL}
_RUNS: Final = {"group": names.ARGO_GROUP, "version": names.ARGO_VERSION, "plural": "analysisruns"}


def connect(context: str | None = None, timeout_seconds: float = TIMEOUT_SECONDS) -> KubernetesCluster:
    return KubernetesCluster(open_client(context), timeout_seconds)


def open_client(context: str | None = None) -> ApiClient:
    """Within a pod by its service account, elsewhere by the kubeconfig. Raises ClusterError."""
    configuration = Configuration()
    try:
        if context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(client_configuration=configuration)
        else:
            config.load_kube_config(_file(), context, client_configuration=configuration)
    except config.ConfigException as error:
        raise ClusterError(f"no cluster is configured: {error}") from error
    configuration.retries = False  # who asks knows when to ask again
    client = ApiClient(configuration)
    client.user_agent = f"knrollout/{version()}"
    return client


def configured_namespace(context: str | None = None) -> str:
    """Within a pod its own, else what the kubeconfig's context says, else `default`."""
    if context is None and "KUBERNETES_SERVICE_HOST" in os.environ and POD_NAMESPACE.is_file():
        return POD_NAMESPACE.read_text()
    try:
        contexts, current = config.list_kube_config_contexts(_file())
    except config.ConfigException:
        return "default"
    chosen = next((entry for entry in contexts if entry["name"] == context), current)
    return str(chosen["context"].get("namespace") or "default")


def _file() -> str | None:
    """The client reads the variable only once, when it is imported."""
    return os.environ.get("KUBECONFIG")


class KubernetesCluster:
    def __init__(self, client: ApiClient, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._timeout = timeout_seconds
        self._custom = CustomObjectsApi(client)
        self._core = CoreV1Api(client)

    def rollout(self, namespace: str, name: str) -> Document | None:
        return self._one(**_ROLLOUTS, namespace=namespace, name=name)

    def rollouts(self, namespace: str | None) -> Sequence[Document]:
        if namespace is not None:
            return self._list(**_ROLLOUTS, namespace=namespace)
        with _asking("list KnativeRollouts"):
            found = self._custom.list_cluster_custom_object(**_ROLLOUTS, _request_timeout=self._timeout)
        return list(found["items"])

    def service(self, namespace: str, name: str) -> Document | None:
        return self._one(**_serving("services"), namespace=namespace, name=name)

    def revisions(self, namespace: str, service: str) -> Sequence[Document]:
        chosen = f"{names.SERVING_GROUP}/service={service}"
        return self._list(**_serving("revisions"), namespace=namespace, label_selector=chosen)

    def runs(self, namespace: str, rollout: str) -> Sequence[Document]:
        chosen = f"{names.ROLLOUT_LABEL}={rollout}"
        return self._list(**_RUNS, namespace=namespace, label_selector=chosen)

    def template(self, namespace: str, name: str, *, cluster_wide: bool) -> Document | None:
        of = {"group": names.ARGO_GROUP, "version": names.ARGO_VERSION}
        if not cluster_wide:
            return self._one(**of, plural="analysistemplates", namespace=namespace, name=name)
        with _asking(f"get ClusterAnalysisTemplate {name}"):
            return _document(
                self._custom.get_cluster_custom_object(
                    **of, plural="clusteranalysistemplates", name=name, _request_timeout=self._timeout
                )
            )
        return None

    def write_status(self, rollout: Document, status: Mapping[str, Any]) -> None:
        metadata = rollout["metadata"]
        with _asking(f"write the status of {metadata['name']}", expected=False):
            self._custom.replace_namespaced_custom_object_status(
                **_ROLLOUTS,
                namespace=metadata["namespace"],
                name=metadata["name"],
                body={**rollout, "status": dict(status)},
                _request_timeout=self._timeout,
            )

    def set_traffic(self, namespace: str, wanted: SetTraffic) -> None:
        metadata = {
            "resourceVersion": wanted.resource_version,
            "annotations": {names.SPLIT_ANNOTATION: wanted.mark},
        }
        body = {"metadata": metadata, "spec": {"traffic": [target.write() for target in wanted.targets]}}
        self._patch(_serving("services"), namespace, wanted.service, body)

    def start_run(self, manifest: Document) -> None:
        try:
            with _asking(f"create AnalysisRun {manifest['metadata']['name']}", expected=False):
                self._custom.create_namespaced_custom_object(
                    **_RUNS,
                    namespace=manifest["metadata"]["namespace"],
                    body=dict(manifest),
                    _request_timeout=self._timeout,
                )
        except ConflictError:
            return  # it is there: its name is made of whose it is

    def stop_run(self, namespace: str, name: str) -> None:
        self._patch(_RUNS, namespace, name, {"spec": {"terminate": True}}, missing_is_fine=True)

    def delete_run(self, namespace: str, name: str) -> None:
        with _asking(f"delete AnalysisRun {name}"):
            self._custom.delete_namespaced_custom_object(
                **_RUNS, namespace=namespace, name=name, _request_timeout=self._timeout
            )

    def tell(self, rollout: Document, notice: Notice) -> None:
        with _asking("create an event"):
            self._core.create_namespaced_event(
                rollout["metadata"]["namespace"], _event(rollout, notice), _request_timeout=self._timeout
            )

    def ask(
        self, namespace: str, name: str, annotations: Mapping[str, str | None], paused: bool | None
    ) -> None:
        body: dict[str, Any] = {"metadata": {"annotations": dict(annotations)}}
        if paused is not None:
            body["spec"] = {"paused": paused}
        self._patch(_ROLLOUTS, namespace, name, body)

    def _one(self, **which: str) -> Document | None:
        with _asking(f"get {which['plural']} {which['name']}"):
            return _document(
                self._custom.get_namespaced_custom_object(**which, _request_timeout=self._timeout)
            )
        return None

    def _list(self, **which: str) -> Sequence[Document]:
        with _asking(f"list {which['plural']}"):
            found = self._custom.list_namespaced_custom_object(**which, _request_timeout=self._timeout)
            return list(found["items"])
        return []

    def _patch(
        self,
        kind: Mapping[str, str],
        namespace: str,
        name: str,
        body: Mapping[str, Any],
        missing_is_fine: bool = False,
    ) -> None:
        with _asking(f"patch {kind['plural']} {name}", expected=missing_is_fine):
            self._custom.patch_namespaced_custom_object(
                **kind,
                namespace=namespace,
                name=name,
                body=dict(body),
                _content_type=MERGE,
                _request_timeout=self._timeout,
            )


@contextmanager
def _asking(what: str, *, expected: bool = True) -> Iterator[None]:
    """What the API server says, in the words of this package. A missing object passes if it is expected."""
    try:
        yield
    except ApiException as error:
        if error.status == _CONFLICT:
            raise ConflictError(what) from error
        if error.status != _NOT_FOUND or not expected:
            raise ClusterError(f"the API server refused to {what}: {error.status} {error.reason}") from error
    except (HTTPError, OSError) as error:
        raise ClusterError(f"the API server does not answer ({type(error).__name__})") from error


def _serving(plural: str) -> dict[str, str]:
    return {"group": names.SERVING_GROUP, "version": names.SERVING_VERSION, "plural": plural}


def _document(found: Any) -> Document:  # noqa: ANN401 - the client has no types
    assert isinstance(found, dict)  # noqa: S101 - a custom object is JSON
    return found


def _event(rollout: Document, notice: Notice) -> dict[str, Any]:
    now, metadata = datetime.now(UTC), rollout["metadata"]
    stamp = now.isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "metadata": {"generateName": f"{metadata['name']}-", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "type": notice.kind,
        "reason": notice.reason,
        "message": notice.message[:1024],
        "source": {"component": "knrollout"},
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
