"""The manifests of the cluster are read whole, or refused by file and field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from orderflow_sandbox.serving import ManifestError, load
from orderflow_sandbox.serving.manifest import checked_traffic, parse
from orderflow_sandbox.serving.service import Target

BASE = Path(__file__).parents[4] / "knative" / "base"
STAGES = ["intake", "validate", "track", "notify", "park", "shelve", "query", "audit"]


def service(**changes: Any) -> dict[str, Any]:
    """A Service that is all right; `changes` are dotted paths with __ for the dot."""
    document: dict[str, Any] = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "echo", "labels": {}},
        "spec": {
            "template": {
                "metadata": {"annotations": {}},
                "spec": {"containers": [{"image": "x", "command": ["run"]}]},
            }
        },
    }
    for path, value in changes.items():
        at: Any = document
        *parents, last = path.split("__")
        for parent in parents:
            at = at[int(parent)] if isinstance(at, list) else at.setdefault(parent, {})
        at[last] = value
    return document


def refusal(document: dict[str, Any]) -> str:
    with pytest.raises(ManifestError) as caught:
        parse(yaml.safe_dump(document), "echo.yaml")
    return str(caught.value)


def test_every_service_of_the_base_can_run_here() -> None:
    assert [each.name for each in load(BASE).services] == STAGES


def test_only_intake_and_query_are_reached_from_outside() -> None:
    open_ones = [each.name for each in load(BASE).services if not each.cluster_local]
    assert open_ones == ["intake", "query"]


def test_no_service_of_the_base_is_probed_by_get() -> None:
    probes = [each.spec.template.container.readiness_probe for each in load(BASE).services]
    assert probes == [{"tcpSocket": {"port": 8080}}] * len(STAGES)


def test_each_service_of_the_base_runs_its_own_function() -> None:
    for each in load(BASE).services:
        env = {variable.name: variable.value for variable in each.spec.template.container.env}
        assert env["FUNCTION_SOURCE"] == f"functions/{each.name}.py"
        assert env["FUNCTION_TARGET"] == each.name


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"spec__template__spec__idleTimeoutSeconds": 5}, "spec.template.spec.idleTimeoutSeconds"),
        ({"spec__template__spec__initContainers": []}, "spec.template.spec.initContainers"),
        ({"spec__template__spec__containers__0__stdin": True}, "spec.template.spec.containers[0].stdin"),
        ({"spec__template__spec__containerConcurrency": 1001}, "spec.template.spec.containerConcurrency"),
        ({"spec__template__spec__timeoutSeconds": 601}, "spec.template.spec.timeoutSeconds"),
        ({"spec__template__spec__containers": []}, "spec.template.spec.containers"),
        (
            {"spec__template__spec__containers__0__ports": [{"containerPort": 1, "name": "h2c"}]},
            "spec.template.spec.containers[0].ports[0].name",
        ),
        (
            {"spec__template__spec__containers__0__envFrom": [{"secretRef": {"name": "s"}}]},
            "spec.template.spec.containers[0].envFrom[0].secretRef",
        ),
        ({"metadata__name": "Echo"}, "metadata.name"),
        ({"metadata__labels": {"networking.knative.dev/visibility": "public"}}, "visibility"),
        ({"spec__rollout": 1}, "spec.rollout"),
    ],
)
def test_what_cannot_hold_here_is_refused_by_file_and_field(changes: dict[str, Any], field: str) -> None:
    message = refusal(service(**changes))
    assert message.startswith("echo.yaml: ")
    assert field in message


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ("class", "cpa.autoscaling.knative.dev"),
        ("metric", "rps"),
        ("window", "5s"),
        ("window", "2h"),
        ("window", "soon"),
        ("target", "0"),
        ("initial-scale", "0"),
        ("min-scale", "-1"),
        ("minScale", "1"),
        ("invented", "1"),
    ],
)
def test_an_annotation_that_cannot_hold_is_refused_by_name(annotation: str, value: str) -> None:
    name = f"autoscaling.knative.dev/{annotation}"
    assert name in refusal(service(spec__template__metadata__annotations={name: value}))


@pytest.mark.parametrize(
    ("annotations", "reason"),
    [
        ({"class": "hpa", "metric": "cpu"}, "cannot go to zero"),
        ({"class": "hpa", "min-scale": "1"}, "goes with metric cpu"),
        ({"class": "kpa", "metric": "cpu", "min-scale": "1"}, "goes with metric concurrency"),
    ],
)
def test_a_class_that_does_not_fit_its_metric_or_scale_is_refused(
    annotations: dict[str, str], reason: str
) -> None:
    annotations |= {"class": f"{annotations['class']}.autoscaling.knative.dev"}
    prefixed = {f"autoscaling.knative.dev/{name}": value for name, value in annotations.items()}
    assert reason in refusal(service(spec__template__metadata__annotations=prefixed))


def test_min_scale_above_max_scale_is_refused() -> None:
    annotations = {"autoscaling.knative.dev/min-scale": "3", "autoscaling.knative.dev/max-scale": "2"}
    assert "min-scale 3 is above max-scale 2" in refusal(
        service(spec__template__metadata__annotations=annotations)
    )


def test_fields_that_only_matter_in_a_cluster_are_accepted() -> None:
    document = service(spec__template__spec__serviceAccountName="orders")
    document["spec"]["template"]["spec"]["containers"][0] |= {
        "resources": {"limits": {"memory": "1Gi"}},
        "securityContext": {"runAsNonRoot": True},
        "livenessProbe": {"httpGet": {"path": "/"}},
    }
    assert parse(yaml.safe_dump(document), "echo.yaml").services[0].name == "echo"


def test_annotations_of_other_systems_are_accepted() -> None:
    document = service(spec__template__metadata__annotations={"example.com/owner": "shop"})
    assert parse(yaml.safe_dump(document), "echo.yaml").services


@pytest.mark.parametrize(
    ("traffic", "reason"),
    [
        ([{"latestRevision": True, "percent": 90}], "sum to 90"),
        ([{"revisionName": "a", "latestRevision": True, "percent": 100}], "exclude each other"),
        ([{"latestRevision": False, "percent": 100}], "needs a revisionName"),
        ([{"configurationName": "a", "percent": 100}], "not supported"),
        (
            [{"percent": 50, "tag": "new"}, {"revisionName": "a", "percent": 50, "tag": "new"}],
            "tag is used twice",
        ),
    ],
)
def test_traffic_that_makes_no_sense_is_refused(traffic: list[dict[str, Any]], reason: str) -> None:
    assert reason in refusal(service(spec__traffic=traffic))


def test_traffic_from_elsewhere_is_held_to_the_same_rules() -> None:
    with pytest.raises(ManifestError, match="sum to 99"):
        checked_traffic("echo", (Target(revision_name="echo-00001", percent=99),))


def test_what_only_a_cluster_has_is_left_out() -> None:
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "migrate"}}
    assert parse(yaml.safe_dump(job), "migrate.yaml").services == ()


def test_another_kind_is_refused_by_name() -> None:
    assert "Deployment" in refusal({"apiVersion": "apps/v1", "kind": "Deployment"})


def test_what_is_not_yaml_is_refused_by_file() -> None:
    with pytest.raises(ManifestError, match=r"broken\.yaml: not YAML"):
        parse("a: [", "broken.yaml")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"nothing\.yaml"):
        load(tmp_path / "nothing.yaml")
