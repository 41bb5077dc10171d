"""Which KnativeRollouts a real API server admits by argo/crd, and which it rejects. The requests are dry runs."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from knrollout.api import names
from orderflow_sandbox.sandbox import ROOT
from tests.cluster.kube import ClusterError, Kube, run

GOOD: dict[str, Any] = {
    "apiVersion": names.API_VERSION,
    "kind": names.KIND,
    "metadata": {"name": "admitted"},
    "spec": {
        "workloadRef": {"name": "hello"},
        "strategy": {
            "canary": {"steps": [{"setWeight": 10}, {"pause": {"duration": "1h30m"}}, {"pause": {}}]}
        },
    },
}
ANALYSIS = {"templates": [{"templateName": "any"}]}
TWO_VALUES = {"name": "x", "value": "1", "valueFrom": {"podTemplateHashValue": "Latest"}}


@pytest.fixture(scope="module")
def kube() -> Iterator[Kube]:
    run(["kubectl", "apply", "--server-side", f"--filename={ROOT / 'argo/crd/knativerollout.yaml'}"])
    run(["kubectl", "wait", "--for=condition=Established", f"crd/{names.PLURAL}.{names.GROUP}"])
    kube = Kube("canary-admission")
    # Deleting the namespace of an earlier run takes minutes on a busy node.
    kube.kubectl("delete", "namespace", kube.namespace, "--ignore-not-found", "--timeout=600s")
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": kube.namespace}})
    yield kube
    kube.kubectl("delete", "namespace", kube.namespace, "--wait=false")


def rollout_with(path: str, value: Any) -> dict[str, Any]:
    """GOOD with one field of its spec set."""
    document = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    part: Any = document["spec"]
    for name in parents:
        part = part[int(name)] if isinstance(part, list) else part.setdefault(name, {})
    part[int(last) if isinstance(part, list) else last] = value
    return document


def create_dry_run(kube: Kube, document: dict[str, Any]) -> dict[str, Any]:
    output = kube.kubectl(
        "create", "--dry-run=server", "--output=json", "--filename=-", stdin=json.dumps(document)
    )
    defaulted: dict[str, Any] = json.loads(output)
    return defaulted


def test_a_plain_rollout_is_admitted_with_its_defaults(kube: Kube) -> None:
    spec = create_dry_run(kube, GOOD)["spec"]
    assert spec["workloadRef"] == {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "name": "hello",
    }
    assert (spec["paused"], spec["progressDeadlineSeconds"], spec["progressDeadlineAbort"]) == (
        False,
        600,
        True,
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("strategy.canary.steps.1.pause.duration", 10),
        ("strategy.canary.steps.0", {"analysis": ANALYSIS}),
        ("strategy.canary.analysis", {**ANALYSIS, "startingStep": 2}),
        ("paused", True),
    ],
)
def test_whatever_argo_and_knative_both_support_is_admitted(kube: Kube, path: str, value: Any) -> None:
    create_dry_run(kube, rollout_with(path, value))


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("strategy.canary.steps.0.setWeight", 101, "less than or equal to 100"),
        ("strategy.canary.steps.0", {"setWeight": 5, "pause": {}}, "exactly one of setWeight, pause"),
        ("strategy.canary.steps.0", {}, "exactly one of setWeight, pause"),
        ("strategy.canary.steps.0", {"setCanaryScale": {"weight": 3}}, "setCanaryScale is Argo's"),
        ("strategy.canary.steps.1.pause.duration", "5 minutes", "should match"),
        ("strategy.canary.steps.1.pause.duration", -5, "greater than or equal to 0"),
        ("strategy.canary.steps.1.pause.duration", 1.5, "integer,string"),
        ("strategy.canary.analysis", {**ANALYSIS, "startingStep": 3}, "startingStep is not one of the steps"),
        ("strategy.canary.analysis", {**ANALYSIS, "args": [{"name": "x"}]}, "exactly one of value"),
        ("strategy.canary.analysis", {**ANALYSIS, "args": [TWO_VALUES]}, "exactly one of value"),
        ("strategy.canary.analysis", {**ANALYSIS, "dryRun": [{}]}, "dryRun is Argo's"),
        ("strategy.canary.maxSurge", 1, "maxSurge is Argo's"),
        ("strategy.canary.trafficRouting", {}, "trafficRouting is Argo's"),
        ("strategy.blueGreen", {}, "blueGreen is Argo's"),
        ("workloadRef.kind", "Deployment", "Unsupported value"),
        ("replicas", 3, "replicas is Argo's"),
        ("misspelled", 1, "unknown field"),
    ],
)
def test_whatever_is_outside_the_subset_is_refused_in_words(
    kube: Kube, path: str, value: Any, words: str
) -> None:
    with pytest.raises(ClusterError, match=words):
        create_dry_run(kube, rollout_with(path, value))


def test_a_rollout_keeps_its_service(kube: Kube) -> None:
    kube.kubectl("apply", "--filename=-", stdin=json.dumps(GOOD))
    changed_rollout = rollout_with("workloadRef.name", "other")
    with pytest.raises(ClusterError, match="keeps its Service"):
        kube.kubectl("apply", "--filename=-", stdin=json.dumps(changed_rollout))
