"""What must hold in every deployment, whatever the schemas allow. Each rule takes a deployment's documents and yields
one sentence for each fault, with the kind and name of the document at fault.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Final

from orderflow.adapters.http.liveness import PATH as LIVENESS_PATH
from orderflow.notify.handler import LEASE_USED
from orderflow.settings import NotifySettings, SourceSettings
from orderflow_sandbox.delivery.manifest import KafkaSource
from tests.manifests.building import Document

Rule = Callable[[Sequence[Document]], Iterator[str]]

SERVICE: Final = ("serving.knative.dev/v1", "Service")
KAFKA_SOURCE: Final = ("sources.knative.dev/v1", "KafkaSource")
TALK_TO_KUBERNETES: Final = frozenset({"knrollout"})
"""Service accounts whose pods need a token: the canary controller's."""
RESTRICTED: Final = {
    "runAsNonRoot": True,
    "readOnlyRootFilesystem": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
SENT_TO: Final = frozenset({"validate", "track", "notify", "shelve", "park"})
"""The stages that KafkaSource sends events to."""
_DIGEST: Final = re.compile(r".+@sha256:[0-9a-f]{64}")
_PODS: Final = {
    "Pod": ("spec",),
    "Deployment": ("spec", "template", "spec"),
    "StatefulSet": ("spec", "template", "spec"),
    "DaemonSet": ("spec", "template", "spec"),
    "Job": ("spec", "template", "spec"),
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
    "Service": ("spec", "template", "spec"),
}


def of_kind(documents: Iterable[Document], kind: tuple[str, str]) -> list[Document]:
    return [each for each in documents if (each["apiVersion"], each["kind"]) == kind]


def named(document: Document) -> str:
    return f"{document['kind']} {document['metadata']['name']}"


def pods(documents: Iterable[Document]) -> Iterator[tuple[Document, Document]]:
    """(document, the pod's spec) of whatever runs pods. A Service of Kubernetes' own runs none."""
    for document in documents:
        if document["kind"] in _PODS and (
            document["kind"] != "Service" or document["apiVersion"] == SERVICE[0]
        ):
            spec: Any = document
            for step in _PODS[document["kind"]]:
                spec = spec[step]
            yield document, spec


def containers(documents: Iterable[Document]) -> Iterator[tuple[Document, Document, Document]]:
    """(document, pod's spec, container)."""
    for document, spec in pods(documents):
        for container in (*spec.get("initContainers", ()), *spec["containers"]):
            yield document, spec, container


def every_pod_is_restricted(documents: Sequence[Document]) -> Iterator[str]:
    for document, spec, container in containers(documents):
        context = spec.get("securityContext", {}) | container.get("securityContext", {})
        for name, required in RESTRICTED.items():
            if context.get(name) != required:
                yield f"{named(document)}: securityContext.{name} is not {required}"


def every_pod_has_bounds(documents: Sequence[Document]) -> Iterator[str]:
    for document, _, container in containers(documents):
        resources = container.get("resources", {})
        if not {"cpu", "memory"} <= resources.get("requests", {}).keys():
            yield f"{named(document)}: it does not request cpu and memory"
        if "memory" not in resources.get("limits", {}):
            yield f"{named(document)}: its memory has no limit"


def no_pod_has_a_token(documents: Sequence[Document]) -> Iterator[str]:
    accounts = {each["metadata"]["name"] for each in of_kind(documents, ("v1", "ServiceAccount"))}
    for document in of_kind(documents, ("v1", "ServiceAccount")):
        needed = document["metadata"]["name"] in TALK_TO_KUBERNETES
        if not needed and document.get("automountServiceAccountToken") is not False:
            yield f"{named(document)}: automountServiceAccountToken is not false"
    for document, spec in pods(documents):
        account = spec.get("serviceAccountName")
        if account in TALK_TO_KUBERNETES:
            continue
        if account is None:
            yield f"{named(document)}: it has no service account of its own"
        elif account not in accounts:
            yield f"{named(document)}: there is no ServiceAccount {account}"
        if spec.get("automountServiceAccountToken") is not False:
            yield f"{named(document)}: automountServiceAccountToken is not false"


def secrets_are_files_from_elsewhere(documents: Sequence[Document]) -> Iterator[str]:
    for document in of_kind(documents, ("v1", "Secret")):
        yield f"{named(document)}: a secret does not belong into the manifests"
    for document, _, container in containers(documents):
        for variable in container.get("env", ()):
            if "secretKeyRef" in variable.get("valueFrom", {}):
                yield f"{named(document)}: {variable['name']} is a secret in the environment; mount it"
        for source in container.get("envFrom", ()):
            if "secretRef" in source:
                yield f"{named(document)}: envFrom has a secret in the environment; mount it"


def nothing_comes_or_goes_unless_allowed(documents: Sequence[Document]) -> Iterator[str]:
    """A policy without rules that selects every pod of the namespace, in both directions."""
    closed = {
        (policy["metadata"].get("namespace"), direction)
        for policy in of_kind(documents, ("networking.k8s.io/v1", "NetworkPolicy"))
        for direction in policy["spec"].get("policyTypes", ())
        if policy["spec"]["podSelector"] == {} and not policy["spec"].get(direction.lower())
    }
    for document, _ in pods(documents):
        for direction in ("Ingress", "Egress"):
            if (document["metadata"].get("namespace"), direction) not in closed:
                yield f"{named(document)}: no NetworkPolicy closes its namespace to {direction.lower()}"


def functions_that_only_take_post_are_not_asked_by_get(documents: Sequence[Document]) -> Iterator[str]:
    for service in of_kind(documents, SERVICE):
        for container in service["spec"]["template"]["spec"]["containers"]:
            for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
                path = container.get(probe, {}).get("httpGet", {}).get("path")
                if service["metadata"]["name"] != "query" and path not in {None, LIVENESS_PATH}:
                    yield f"{named(service)}: {probe} is a GET, which the function answers with an error"


def stages_that_finish_nothing_are_restarted(documents: Sequence[Document]) -> Iterator[str]:
    for service in of_kind(documents, SERVICE):
        if service["metadata"]["name"] in {"query", "audit"}:
            continue
        for container in service["spec"]["template"]["spec"]["containers"]:
            if container.get("livenessProbe", {}).get("httpGet", {}).get("path") != LIVENESS_PATH:
                yield f"{named(service)}: no livenessProbe asks {LIVENESS_PATH}"


def only_the_doors_are_open(documents: Sequence[Document]) -> Iterator[str]:
    for service in of_kind(documents, SERVICE):
        labels = service["metadata"].get("labels", {})
        local = labels.get("networking.knative.dev/visibility") == "cluster-local"
        if not local and service["metadata"]["name"] not in {"intake", "query"}:
            yield f"{named(service)}: it can be called from outside"


def sources_say_everything(documents: Sequence[Document]) -> Iterator[str]:
    """What a KafkaSource leaves out is seldom what one wants: a delivery block without retry has 0 retries."""
    for source in of_kind(documents, KAFKA_SOURCE):
        spec, name = source["spec"], source["metadata"]["name"]
        missing = {"retry", "backoffPolicy", "backoffDelay", "timeout", "deadLetterSink"} - spec.get(
            "delivery", {}
        ).keys()
        for field in sorted(missing):
            yield f"{named(source)}: delivery.{field} is missing"
        for field, required in (
            ("consumerGroup", f"orderflow-{name}"),
            ("initialOffset", "earliest"),
            ("ordering", "ordered"),
        ):
            if spec.get(field) != required:
                yield f"{named(source)}: {field} is not {required}"


def sinks_exist(documents: Sequence[Document]) -> Iterator[str]:
    services = {each["metadata"]["name"] for each in of_kind(documents, SERVICE)}
    for source in of_kind(documents, KAFKA_SOURCE):
        letters = source["spec"].get("delivery", {}).get("deadLetterSink", {})
        for field, sink in (("sink", source["spec"]["sink"]), ("delivery.deadLetterSink", letters)):
            reference = sink.get("ref", {})
            known = reference.get("kind") == "Service" and reference.get("name") in services
            if reference and not known:
                yield f"{named(source)}: {field}: there is no Service {reference.get('name')}"


def senders_and_stages_agree(documents: Sequence[Document]) -> Iterator[str]:
    """Every sink of a source that sends a token expects that audience, and takes it from that source's service account.
    A stage that verifies tokens gets one from each of its sources."""
    settings = {
        each["metadata"]["name"]: _environment(each, documents) for each in of_kind(documents, SERVICE)
    }
    for source in of_kind(documents, KAFKA_SOURCE):
        name, namespace = source["metadata"]["name"], source["metadata"].get("namespace", "default")
        sender = f"system:serviceaccount:{namespace}:{name}-oidc-sources.knative.dev-kafkasource"
        letters = source["spec"].get("delivery", {}).get("deadLetterSink", {})
        for field, sink in (("sink", source["spec"]["sink"]), ("delivery.deadLetterSink", letters)):
            stage = sink.get("ref", {}).get("name", "")
            if stage not in settings:
                continue
            audience, expected = sink.get("audience"), settings[stage].get("OIDC_AUDIENCE")
            if audience != expected:
                yield f"{named(source)}: {field}.audience is {audience}, {stage} expects {expected}"
            if expected and sender not in settings[stage].get("OIDC_SUBJECTS", "").split():
                yield f"{named(source)}: {stage} does not take events from {sender}"


def stages_verify_or_do_not(documents: Sequence[Document]) -> Iterator[str]:
    """A part of the OIDC settings keeps a stage from starting."""
    for service in of_kind(documents, SERVICE):
        known = _environment(service, documents)
        missing = [name for name in ("OIDC_ISSUER", "OIDC_AUDIENCE", "OIDC_SUBJECTS") if not known.get(name)]
        if service["metadata"]["name"] in SENT_TO and len(missing) in {1, 2}:
            yield f"{named(service)}: {', '.join(missing)} is missing"


def _environment(service: Document, documents: Sequence[Document]) -> dict[str, str]:
    """The variables of a Service's container, those of its ConfigMaps included."""
    maps = {
        each["metadata"]["name"]: each.get("data", {}) for each in of_kind(documents, ("v1", "ConfigMap"))
    }
    (container,) = service["spec"]["template"]["spec"]["containers"]
    known: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        known |= maps.get(source.get("configMapRef", {}).get("name", ""), {})
    return known | {each["name"]: each.get("value", "") for each in container.get("env", ())}


def sources_give_up_before_the_service(documents: Sequence[Document]) -> Iterator[str]:
    limits = {
        each["metadata"]["name"]: each["spec"]["template"]["spec"].get("timeoutSeconds", 300)
        for each in of_kind(documents, SERVICE)
    }
    for source in _read(documents):
        timeout = source.spec.delivery.timeout
        sink = source.spec.sink.ref.name if source.spec.sink.ref else ""
        if sink in limits and timeout >= timedelta(seconds=limits[sink]):
            yield f"KafkaSource {source.metadata.name}: it waits {timeout.seconds} s, the Service {limits[sink]} s"


def stages_give_up_before_the_source(documents: Sequence[Document]) -> Iterator[str]:
    services = {each["metadata"]["name"]: each for each in of_kind(documents, SERVICE)}
    for source in _read(documents):
        sink = source.spec.sink.ref.name if source.spec.sink.ref else ""
        if sink not in services:
            continue
        (container,) = services[sink]["spec"]["template"]["spec"]["containers"]
        set_here = {each["name"]: each.get("value", "") for each in container.get("env", [])}
        settings = NotifySettings if sink == "notify" else SourceSettings
        seconds = float(set_here.get("EVENT_SECONDS") or settings.model_fields["event_seconds"].default)
        if seconds >= source.spec.delivery.timeout.total_seconds():
            yield f"KafkaSource {source.metadata.name}: {sink} takes {seconds:g} s for an event, longer than a try"


def a_lease_fits_between_tries(documents: Sequence[Document]) -> Iterator[str]:
    """Notify sends while it holds a claim. It must stop before its KafkaSource's timeout, because the next try would
    find the claim held. The tries must continue until another process may take over the claim of a dead holder."""
    for source in _read(documents):
        if source.metadata.name == "notify":
            lease = _claim_seconds(documents)
            delivery = source.spec.delivery
            if lease * LEASE_USED >= delivery.timeout.total_seconds():
                yield f"KafkaSource notify: notify sends for {lease * LEASE_USED:g} s, longer than a try lasts"
            waits = sum(_waits(delivery.retry, delivery.backoff_policy, delivery.backoff_delay))
            if waits <= lease:
                yield f"KafkaSource notify: its waits are {waits:g} s, no longer than a claim of {lease:g} s"


def images_are_digests(documents: Sequence[Document]) -> Iterator[str]:
    for document, _, container in containers(documents):
        if not _DIGEST.fullmatch(container["image"]):
            yield f"{named(document)}: {container['image']} is no digest: it may be another image tomorrow"


def images_are_no_tags(documents: Sequence[Document]) -> Iterator[str]:
    """For manifests that the pipeline has not set a digest in yet: they name the image, and nothing of it."""
    for document, _, container in containers(documents):
        name = container["image"].rpartition("/")[2]
        if ":" in name and not _DIGEST.fullmatch(container["image"]):
            yield f"{named(document)}: {container['image']} is a tag: it may be another image tomorrow"


def _read(documents: Sequence[Document]) -> Iterator[KafkaSource]:
    for source in of_kind(documents, KAFKA_SOURCE):
        yield KafkaSource.model_validate(source)


def _waits(retries: int, policy: str, delay: timedelta) -> Iterator[float]:
    """Seconds before each retry, as the data plane waits: delay * k, or delay * 2^k."""
    for number in range(1, retries + 1):
        yield delay.total_seconds() * (number if policy == "linear" else 2**number)


def _claim_seconds(documents: Sequence[Document]) -> float:
    for service in of_kind(documents, SERVICE):
        if service["metadata"]["name"] == "notify":
            for variable in service["spec"]["template"]["spec"]["containers"][0].get("env", ()):
                if variable["name"] == "CLAIM_SECONDS":
                    return float(variable["value"])
    return float(NotifySettings.model_fields["claim_seconds"].default)


ALWAYS: Final[tuple[Rule, ...]] = (
    every_pod_is_restricted,
    every_pod_has_bounds,
    no_pod_has_a_token,
    secrets_are_files_from_elsewhere,
    nothing_comes_or_goes_unless_allowed,
    functions_that_only_take_post_are_not_asked_by_get,
    stages_that_finish_nothing_are_restarted,
    only_the_doors_are_open,
    sources_say_everything,
    senders_and_stages_agree,
    stages_verify_or_do_not,
    sources_give_up_before_the_service,
    stages_give_up_before_the_source,
    a_lease_fits_between_tries,
)
