"""Each rule finds the manifest that it is there for: a good deployment, with one thing made bad."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.manifests import rules, schemas
from tests.manifests.building import Document
from tests.manifests.deployments import deployment

TRACK = ("Service", "track")
Change = Callable[[list[Document]], None]


def the(documents: list[Document], kind: str, name: str) -> Document:
    (document,) = (each for each in documents if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return document


def field(kind: str, name: str, path: str, value: Any = None) -> Change:
    """Sets a field of one document, or takes it away where no value is given."""

    def change(documents: list[Document]) -> None:
        *parents, last = path.split(".")
        node: Any = the(documents, kind, name)
        for step in parents:
            node = node[int(step)] if isinstance(node, list) else node.setdefault(step, {})
        if value is None:
            del node[last]
        else:
            node[last] = value

    return change


def without(kind: str, name: str) -> Change:
    def change(documents: list[Document]) -> None:
        documents.remove(the(documents, kind, name))

    return change


def one_more(**document: Any) -> Change:
    return lambda documents: documents.append(document)


POD = "spec.template.spec"
CONTAINER = f"{POD}.containers.0"
JOB = "spec.jobTemplate.spec.template.spec"
GET = {"httpGet": {"path": "/", "port": 8080}}
DELIVERY = "spec.delivery"

BAD: list[tuple[rules.Rule, Change, str]] = [
    *(
        (
            rules.every_pod_is_restricted,
            field(*TRACK, f"{CONTAINER}.securityContext.{name}"),
            f"Service track: securityContext.{name}",
        )
        for name in rules.RESTRICTED
    ),
    (
        rules.every_pod_is_restricted,
        field("CronJob", "audit", f"{JOB}.securityContext"),
        "CronJob audit: securityContext.runAsNonRoot",
    ),
    (
        rules.every_pod_is_restricted,
        field(*TRACK, f"{POD}.initContainers", [{"name": "first", "image": "orderflow"}]),
        "Service track: securityContext.runAsNonRoot",
    ),
    (
        rules.every_pod_has_bounds,
        field(*TRACK, f"{CONTAINER}.resources.requests.cpu"),
        "Service track: it does not request",
    ),
    (
        rules.every_pod_has_bounds,
        field("Job", "migrate", f"{CONTAINER}.resources.limits"),
        "Job migrate: its memory has no limit",
    ),
    (
        rules.no_pod_has_a_token,
        field("ServiceAccount", "track", "automountServiceAccountToken"),
        "ServiceAccount track: automount",
    ),
    (
        rules.no_pod_has_a_token,
        field("Job", "migrate", f"{POD}.automountServiceAccountToken", value=True),
        "Job migrate: automount",
    ),
    (
        rules.no_pod_has_a_token,
        field(*TRACK, f"{POD}.serviceAccountName"),
        "Service track: it has no service account of its own",
    ),
    (
        rules.no_pod_has_a_token,
        without("ServiceAccount", "track"),
        "Service track: there is no ServiceAccount track",
    ),
    (
        rules.secrets_are_files_from_elsewhere,
        one_more(
            apiVersion="v1", kind="Secret", metadata={"name": "orderflow-database"}, data={"url": "eA=="}
        ),
        "Secret orderflow-database: a secret does not belong",
    ),
    (
        rules.secrets_are_files_from_elsewhere,
        field(
            *TRACK,
            f"{CONTAINER}.env",
            [{"name": "DATABASE_URL", "valueFrom": {"secretKeyRef": {"name": "d", "key": "url"}}}],
        ),
        "Service track: DATABASE_URL is a secret in the environment",
    ),
    (
        rules.secrets_are_files_from_elsewhere,
        field(*TRACK, f"{CONTAINER}.envFrom", [{"secretRef": {"name": "d"}}]),
        "Service track: envFrom has a secret",
    ),
    (
        rules.nothing_comes_or_goes_unless_allowed,
        without("NetworkPolicy", "nothing"),
        "Job migrate: no NetworkPolicy closes its namespace to egress",
    ),
    (
        rules.nothing_comes_or_goes_unless_allowed,
        field("NetworkPolicy", "nothing", "spec.podSelector", {"matchLabels": {"app": "track"}}),
        "CronJob audit: no NetworkPolicy",
    ),
    (
        rules.nothing_comes_or_goes_unless_allowed,
        field("NetworkPolicy", "nothing", "spec.ingress", [{}]),
        "Service track: no NetworkPolicy closes its namespace to ingress",
    ),
    (
        rules.nothing_comes_or_goes_unless_allowed,
        field(*TRACK, "metadata.namespace", "other"),
        "Service track: no NetworkPolicy",
    ),
    *(
        (
            rules.functions_that_only_take_post_are_not_asked_by_get,
            field(*TRACK, f"{CONTAINER}.{probe}", GET),
            f"Service track: {probe} is a GET",
        )
        for probe in ("readinessProbe", "livenessProbe", "startupProbe")
    ),
    (
        rules.stages_that_finish_nothing_are_restarted,
        field(*TRACK, f"{CONTAINER}.livenessProbe"),
        "Service track: no livenessProbe",
    ),
    (
        rules.only_the_doors_are_open,
        field(*TRACK, "metadata.labels"),
        "Service track: it can be called from outside",
    ),
    *(
        (
            rules.sources_say_everything,
            field("KafkaSource", "track", f"{DELIVERY}.{name}"),
            f"KafkaSource track: delivery.{name} is missing",
        )
        for name in ("retry", "backoffPolicy", "backoffDelay", "timeout", "deadLetterSink")
    ),
    (
        rules.sources_say_everything,
        field("KafkaSource", "track", "spec.consumerGroup", "track-2"),
        "KafkaSource track: consumerGroup is not orderflow-track",
    ),
    (
        rules.sources_say_everything,
        field("KafkaSource", "track", "spec.initialOffset"),
        "KafkaSource track: initialOffset is not earliest",
    ),
    (
        rules.sources_say_everything,
        field("KafkaSource", "track", "spec.ordering", "unordered"),
        "KafkaSource track: ordering is not ordered",
    ),
    (
        rules.senders_and_stages_agree,
        field("KafkaSource", "track", "spec.sink.audience"),
        "KafkaSource track: sink.audience is None, track expects orderflow/track",
    ),
    (
        rules.senders_and_stages_agree,
        field("KafkaSource", "track", f"{DELIVERY}.deadLetterSink.audience", "orderflow/track"),
        "delivery.deadLetterSink.audience is orderflow/track, park expects orderflow/park",
    ),
    (
        rules.senders_and_stages_agree,
        field(*TRACK, f"{CONTAINER}.env", []),
        "KafkaSource track: sink.audience is orderflow/track, track expects None",
    ),
    (
        rules.senders_and_stages_agree,
        field("KafkaSource", "track", "metadata.namespace", "other"),
        "track does not take events from system:serviceaccount:other:track-oidc-sources.knative.dev-kafkasource",
    ),
    (
        rules.stages_verify_or_do_not,
        field("ConfigMap", "orderflow", "data.OIDC_ISSUER"),
        "Service park: OIDC_ISSUER is missing",
    ),
    (
        rules.sinks_exist,
        field("KafkaSource", "track", "spec.sink.ref.name", "tracks"),
        "KafkaSource track: sink: there is no Service tracks",
    ),
    (
        rules.sinks_exist,
        without("Service", "park"),
        "KafkaSource track: delivery.deadLetterSink: there is no Service park",
    ),
    (
        rules.stages_give_up_before_the_source,
        field("KafkaSource", "track", f"{DELIVERY}.timeout", "PT20S"),
        "KafkaSource track: track takes 20 s for an event, longer than a try",
    ),
    (
        rules.sources_give_up_before_the_service,
        field("KafkaSource", "track", f"{DELIVERY}.timeout", "PT30S"),
        "KafkaSource track: it waits 30 s, the Service 30 s",
    ),
    (
        rules.sources_give_up_before_the_service,
        field(*TRACK, f"{POD}.timeoutSeconds", 20),
        "KafkaSource track: it waits 25 s, the Service 20 s",
    ),
    (
        rules.a_lease_fits_between_tries,
        field("KafkaSource", "notify", f"{DELIVERY}.timeout", "PT48S"),
        "notify sends for 48 s",
    ),
    (
        rules.a_lease_fits_between_tries,
        field("KafkaSource", "notify", f"{DELIVERY}.retry", 7),
        "its waits are 50.8 s, no longer than a claim of 60 s",
    ),
    (
        rules.a_lease_fits_between_tries,
        field("KafkaSource", "notify", f"{DELIVERY}.backoffPolicy", "linear"),
        "its waits are 7.2 s",
    ),
    (
        rules.a_lease_fits_between_tries,
        field("Service", "notify", f"{CONTAINER}.env", [{"name": "CLAIM_SECONDS", "value": "600"}]),
        "notify sends for 480 s",
    ),
    (
        rules.images_are_no_tags,
        field(*TRACK, f"{CONTAINER}.image", "registry.example:5000/orderflow:1"),
        "Service track: registry.example:5000/orderflow:1 is a tag",
    ),
    (
        rules.images_are_digests,
        field(*TRACK, f"{CONTAINER}.image", "registry.example/orderflow@sha256:0123"),
        "Service track: registry.example/orderflow@sha256:0123 is no digest",
    ),
]


@pytest.mark.parametrize(
    ("rule", "change", "message"), BAD, ids=[f"{rule.__name__}-{message}" for rule, _, message in BAD]
)
def test_a_rule_finds_what_it_is_there_for(rule: rules.Rule, change: Change, message: str) -> None:
    documents = [copy.deepcopy(each) for each in deployment("production")]
    change(documents)
    assert any(message in fault for fault in rule(documents)), list(rule(documents))


def test_every_rule_has_a_manifest_that_breaks_it() -> None:
    tried = {rule for rule, _, _ in BAD}
    assert tried == {*rules.ALWAYS, rules.sinks_exist, rules.images_are_no_tags, rules.images_are_digests}


@pytest.mark.parametrize(
    ("kind", "name", "path", "value", "message"),
    [
        ("Service", "track", f"{POD}.containerConcurency", 1, "'containerConcurency' was unexpected"),
        ("Service", "track", f"{POD}.timeoutSeconds", "30", "timeoutSeconds: '30' is not of type 'integer'"),
        ("Service", "track", f"{CONTAINER}.resources.requests.cpu", {}, "requests.cpu"),
        ("KafkaSource", "track", "spec.delivery.backoffpolicy", "linear", "'backoffpolicy' was unexpected"),
        ("KafkaSource", "track", "spec.delivery.backoffDelay", "200ms", "backoffDelay"),
        ("KafkaSource", "track", "spec.ordering", "sorted", "ordering"),
        ("NetworkPolicy", "nothing", "spec.policytypes", ["Egress"], "policytypes"),
        ("PodDisruptionBudget", "query", "spec.maxUnavailable", {}, "maxUnavailable"),
        ("Job", "migrate", f"{POD}.restartPolicies", "Never", "restartPolicies"),
        ("CronJob", "audit", "spec.schedule", 5, "schedule"),
        ("ConfigMap", "orderflow", "data.LOG_LEVEL", 1, "LOG_LEVEL"),
        ("ServiceAccount", "track", "kind", "ServiceAcount", "there is no schema for it"),
    ],
)
def test_the_schemas_find_a_misspelt_or_mistyped_field(
    kind: str, name: str, path: str, value: Any, message: str
) -> None:
    documents = [copy.deepcopy(each) for each in deployment("production")]
    changed = the(documents, kind, name)
    assert schemas.faults(changed) == []
    field(kind, name, path, value)(documents)
    assert any(message in fault for fault in schemas.faults(changed)), schemas.faults(changed)
