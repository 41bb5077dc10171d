"""The cluster port on the official Kubernetes client. Each method is one request."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from kubernetes.client import CoreV1Api, CustomObjectsApi
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from knrollout.api import names
from knrollout.cluster.errors import ClusterError, ConflictError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kubernetes.client import ApiClient

    from knrollout.api.objects import Document
    from knrollout.decide.actions import SetTraffic
    from knrollout.decide.events import Event

TIMEOUT_SECONDS: Final = 15
_MERGE_PATCH: Final = "application/merge-patch+json"
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_MAX_EVENT_MESSAGE: Final = 1024
_ROLLOUTS: Final = {"group": names.GROUP, "version": names.VERSION, "plural": names.PLURAL}
_SERVICES: Final = {"group": names.SERVING_GROUP, "version": names.SERVING_VERSION, "plural": "services"}
_REVISIONS: Final = {**_SERVICES, "plural": "revisions"}
_RUNS: Final = {"group": names.ARGO_GROUP, "version": names.ARGO_VERSION, "plural": "analysisruns"}
_TEMPLATES: Final = {**_RUNS, "plural": "analysistemplates"}
_CLUSTER_TEMPLATES: Final = {**_RUNS, "plural": "clusteranalysistemplates"}


class KubernetesCluster:
    def __init__(self, client: ApiClient, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._timeout = timeout_seconds
        self._client = client
        self._custom = CustomObjectsApi(client)
        self._core = CoreV1Api(client)

    def rollout(self, namespace: str, name: str) -> Document | None:
        return self._get(**_ROLLOUTS, namespace=namespace, name=name)

    def rollouts(self, namespace: str | None) -> Sequence[Document]:
        if namespace is not None:
            return self._list(**_ROLLOUTS, namespace=namespace)
        with _translated_errors("list KnativeRollouts"):
            answer = self._custom.list_cluster_custom_object(**_ROLLOUTS, _request_timeout=self._timeout)
            return list(answer["items"])
        return []

    def service(self, namespace: str, name: str) -> Document | None:
        return self._get(**_SERVICES, namespace=namespace, name=name)

    def revisions(self, namespace: str, service: str) -> Sequence[Document]:
        selector = f"{names.SERVICE_LABEL}={service}"
        return self._list(**_REVISIONS, namespace=namespace, label_selector=selector)

    def pods(self, namespace: str, service: str) -> Sequence[Document]:
        selector = f"{names.SERVICE_LABEL}={service}"
        with _translated_errors("list pods"):
            pods = self._core.list_namespaced_pod(
                namespace, label_selector=selector, _request_timeout=self._timeout
            )
            return list(self._client.sanitize_for_serialization(pods)["items"])
        return []

    def runs(self, namespace: str, rollout: str) -> Sequence[Document]:
        selector = f"{names.ROLLOUT_LABEL}={rollout}"
        return self._list(**_RUNS, namespace=namespace, label_selector=selector)

    def template(self, namespace: str, name: str, *, cluster_scope: bool) -> Document | None:
        if not cluster_scope:
            return self._get(**_TEMPLATES, namespace=namespace, name=name)
        with _translated_errors(f"get ClusterAnalysisTemplate {name}"):
            return _as_document(
                self._custom.get_cluster_custom_object(
                    **_CLUSTER_TEMPLATES, name=name, _request_timeout=self._timeout
                )
            )
        return None

    def write_status(self, rollout: Document, status: Mapping[str, Any]) -> None:
        metadata = rollout["metadata"]
        with _translated_errors(f"write the status of {metadata['name']}", missing_ok=False):
            self._custom.replace_namespaced_custom_object_status(
                **_ROLLOUTS,
                namespace=metadata["namespace"],
                name=metadata["name"],
                body={**rollout, "status": dict(status)},
                _request_timeout=self._timeout,
            )

    def set_traffic(self, namespace: str, action: SetTraffic) -> None:
        metadata = {
            "resourceVersion": action.resource_version,
            "annotations": {names.SPLIT_ANNOTATION: action.split_annotation},
        }
        body = {"metadata": metadata, "spec": {"traffic": [target.to_json() for target in action.targets]}}
        self._patch(_SERVICES, namespace, action.service, body)

    def start_run(self, manifest: Document) -> None:
        try:
            with _translated_errors(f"create AnalysisRun {manifest['metadata']['name']}", missing_ok=False):
                self._custom.create_namespaced_custom_object(
                    **_RUNS,
                    namespace=manifest["metadata"]["namespace"],
                    body=dict(manifest),
                    _request_timeout=self._timeout,
                )
        except ConflictError:
            return  # it exists: a run's name is derived from its rollout and attempt

    def stop_run(self, namespace: str, name: str) -> None:
        self._patch(_RUNS, namespace, name, {"spec": {"terminate": True}}, missing_ok=True)

    def delete_run(self, namespace: str, name: str) -> None:
        with _translated_errors(f"delete AnalysisRun {name}"):
            self._custom.delete_namespaced_custom_object(
                **_RUNS, namespace=namespace, name=name, _request_timeout=self._timeout
            )

    def create_event(self, rollout: Document, event: Event) -> None:
        with _translated_errors("create an event"):
            self._core.create_namespaced_event(
                rollout["metadata"]["namespace"],
                _event_manifest(rollout, event),
                _request_timeout=self._timeout,
            )

    def patch_rollout(
        self, namespace: str, name: str, annotations: Mapping[str, str | None], paused: bool | None
    ) -> None:
        body: dict[str, Any] = {"metadata": {"annotations": dict(annotations)}}
        if paused is not None:
            body["spec"] = {"paused": paused}
        self._patch(_ROLLOUTS, namespace, name, body)

    def _get(self, **resource: str) -> Document | None:
        with _translated_errors(f"get {resource['plural']} {resource['name']}"):
            return _as_document(
                self._custom.get_namespaced_custom_object(**resource, _request_timeout=self._timeout)
            )
        return None

    def _list(self, **resource: str) -> Sequence[Document]:
        with _translated_errors(f"list {resource['plural']}"):
            answer = self._custom.list_namespaced_custom_object(**resource, _request_timeout=self._timeout)
            return list(answer["items"])
        return []

    def _patch(
        self,
        resource: Mapping[str, str],
        namespace: str,
        name: str,
        body: Mapping[str, Any],
        *,
        missing_ok: bool = False,
    ) -> None:
        with _translated_errors(f"patch {resource['plural']} {name}", missing_ok=missing_ok):
            self._custom.patch_namespaced_custom_object(
                **resource,
                namespace=namespace,
                name=name,
                body=dict(body),
                _content_type=_MERGE_PATCH,
                _request_timeout=self._timeout,
            )


@contextmanager
def _translated_errors(operation: str, *, missing_ok: bool = True) -> Iterator[None]:
    """Raises ConflictError or ClusterError. With missing_ok, ends the block silently on a 404."""
    try:
        yield
    except ApiException as error:
        if error.status == _CONFLICT:
            raise ConflictError(operation) from error
        if error.status != _NOT_FOUND or not missing_ok:
            reason = f"{error.status} {error.reason}"
            raise ClusterError(f"the API server refused to {operation}: {reason}") from error
    except (HTTPError, OSError) as error:
        raise ClusterError(f"the API server does not answer ({type(error).__name__})") from error


def _as_document(answer: Any) -> Document:  # noqa: ANN401 - the client has no types
    assert isinstance(answer, dict)  # noqa: S101 - a custom object is a JSON object
    return answer


def _event_manifest(rollout: Document, event: Event) -> dict[str, Any]:
    now, metadata = datetime.now(UTC), rollout["metadata"]
    timestamp = now.isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "metadata": {"generateName": f"{metadata['name']}-", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "type": event.type,
        "reason": event.reason,
        "message": event.message[:_MAX_EVENT_MESSAGE],
        "source": {"component": "knrollout"},
        "firstTimestamp": timestamp,
        "lastTimestamp": timestamp,
        "count": 1,
    }
