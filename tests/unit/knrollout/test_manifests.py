"""The manifests in argo/ compared with the code."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from knrollout.api import admission, crd
from knrollout.api.spec import Spec
from knrollout.api.status import Status
from knrollout.cli.lint import lint, parse
from knrollout.decide.analysis import Subject, TemplateKey, run_manifest

ARGO = Path(__file__).parents[3] / "argo"
STATUS = {
    "canaryStartedAt": "2026-11-29T12:00:00Z",
    "weightChangedAt": "2026-11-29T12:00:05Z",
    "weight": "10",
}
GOOD: dict[str, Any] = {
    "workloadRef": {"name": "track"},
    "strategy": {"canary": {"steps": [{"setWeight": 10}, {"pause": {"duration": "1h30m"}}, {"pause": {}}]}},
}


def documents(folder: str) -> Iterator[dict[str, Any]]:
    for file in sorted((ARGO / folder).glob("*.yaml")):
        yield from yaml.safe_load_all(file.read_text())


def changed(path: str, value: Any) -> dict[str, Any]:
    """GOOD with one field set; None takes it away."""
    spec = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    part: Any = spec
    for name in parents:
        part = part[int(name)] if isinstance(part, list) else part.setdefault(name, {})
    if isinstance(part, list):
        part[int(last)] = value
    elif value is None:
        del part[last]
    else:
        part[last] = value
    return spec


def test_the_definition_is_generated_from_the_models() -> None:
    assert (ARGO / "crd/knativerollout.yaml").read_text() == crd.as_yaml(), (
        "generate it: python -m knrollout.api.crd"
    )


def test_the_definition_is_a_structural_schema() -> None:
    """Every node has a type or says why not, and nothing that Kubernetes does not know."""

    def look(node: dict[str, Any], path: str) -> None:
        free = node.get("x-kubernetes-int-or-string") or node.get("x-kubernetes-preserve-unknown-fields")
        assert "type" in node or free, path
        assert not {"$ref", "anyOf", "title", "const", "additionalProperties"} & node.keys(), path
        for name, field in node.get("properties", {}).items():
            look(field, f"{path}.{name}")
        if "items" in node:
            look(node["items"], f"{path}[]")
        if node.get("x-kubernetes-validations") and node.get("type") == "array":
            assert "maxItems" in node, path

    version = crd.custom_resource_definition()["spec"]["versions"][0]
    look(version["schema"]["openAPIV3Schema"], "")


def test_every_status_that_the_controller_writes_has_its_field_in_the_definition() -> None:
    version = crd.custom_resource_definition()["spec"]["versions"][0]
    known = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    assert {field.alias for field in Status.model_fields.values()} == set(known)


def test_a_plain_spec_gets_the_defaults_of_the_definition() -> None:
    spec = Spec.model_validate(GOOD)
    version = crd.custom_resource_definition()["spec"]["versions"][0]
    known = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    defaults = spec.model_dump(by_alias=True)
    assert {name: defaults[name] for name, field in known.items() if "default" in field} == {
        name: field["default"] for name, field in known.items() if "default" in field
    }


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("workloadRef.kind", "Deployment"),
        ("workloadRef.apiVersion", "apps/v1"),
        ("workloadRef", None),
        ("strategy.canary.steps", []),
        ("strategy.canary.steps.0", {}),
        ("strategy.canary.steps.0", {"setWeight": 5, "pause": {}}),
        ("strategy.canary.steps.0.setWeight", 101),
        ("strategy.canary.steps.0.setWeight", -1),
        ("strategy.canary.steps.0.setWeight", "10"),
        ("strategy.canary.steps.1.pause.duration", "5 minutes"),
        ("strategy.canary.steps.1.pause.duration", -5),
        ("strategy.canary.steps.1.pause.duration", 1.5),
        ("strategy.canary.steps.0", {"analysis": {"templates": []}}),
        ("strategy.canary.analysis", {"templates": [{"templateName": "a"}], "startingStep": 3}),
        ("strategy.canary.maxSurge", "25%"),
        ("strategy.canary.trafficRouting", {"istio": {}}),
        ("strategy.blueGreen", {"activeService": "a"}),
        ("replicas", 3),
        ("progressDeadlineSeconds", 0),
        ("rollbackWindow.revisions", 0),
        ("misspelled", 1),
    ],
)
def test_whatever_is_outside_the_subset_is_refused(path: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        Spec.model_validate(changed(path, value))


def test_every_field_of_argo_that_admission_refuses_is_refused_by_the_model_too() -> None:
    places = {
        "Spec": "",
        "Strategy": "strategy.",
        "Canary": "strategy.canary.",
        "Step": "strategy.canary.steps.0.",
        "BackgroundAnalysis": "strategy.canary.analysis.",
    }
    for model, place in places.items():
        for field in admission.REJECTED_FIELDS[model]:
            with pytest.raises(ValidationError, match=field):
                Spec.model_validate(changed(f"{place}{field}", {}))


def test_the_rollouts_and_their_templates_have_no_fault() -> None:
    text = "\n---\n".join(yaml.safe_dump(d) for f in ("rollouts", "analysis") for d in documents(f))
    assert lint([parse("argo", text)]) == []


def test_every_analysis_of_every_rollout_can_be_made() -> None:
    templates = {
        TemplateKey(False, d["metadata"]["name"]): d["spec"]
        for d in documents("analysis")
        if d["kind"] == "AnalysisTemplate"
    }
    subject = Subject(
        "track", "shop", "uid", {}, {}, stable="track-00001", canary="track-00002", attempt=1, status=STATUS
    )
    for rollout in documents("rollouts"):
        if rollout["kind"] == "KnativeRollout":
            canary = Spec.model_validate(rollout["spec"]).strategy.canary
            for analysis in [step.analysis for step in canary.steps] + [canary.analysis]:
                if analysis is not None:
                    assert run_manifest("run", analysis, templates, subject)["spec"]["metrics"]


def test_every_service_has_a_rollout_that_watches_it_at_full_weight() -> None:
    """The last weight is 100 and a pause follows, so that all traffic is met while the way back is one step."""
    services = {
        document["metadata"]["name"]
        for file in (ARGO.parent / "knative/base").glob("*.yaml")
        for document in yaml.safe_load_all(file.read_text())
        if isinstance(document, dict) and document.get("apiVersion") == "serving.knative.dev/v1"
    }
    rollouts = {
        d["metadata"]["name"]: d["spec"] for d in documents("rollouts") if d["kind"] == "KnativeRollout"
    }
    assert services == set(rollouts)
    listed = yaml.safe_load((ARGO / "rollouts/kustomization.yaml").read_text())["resources"]
    assert {f"{name}.yaml" for name in rollouts} == set(listed)
    for name, spec in rollouts.items():
        canary = Spec.model_validate(spec).strategy.canary
        assert spec["workloadRef"] == {"name": name}
        assert canary.analysis is not None
        assert canary.steps[-2].set_weight == 100, name
        assert canary.steps[-1].pause is not None, name
        assert canary.steps[-1].pause.duration is not None, name


def test_whatever_one_event_shows_is_looked_at_beside_all_steps() -> None:
    judged = {"intake", "validate", "track", "notify", "park", "shelve"}
    for rollout in documents("rollouts"):
        if rollout.get("metadata", {}).get("name") in judged:
            background = rollout["spec"]["strategy"]["canary"]["analysis"]
            assert {"templateName": "order-harm"} in background["templates"]
            assert background["startingStep"] == 1


def test_no_analysis_tolerates_more_inconclusive_measurements_than_it_makes() -> None:
    """Argo refuses a run whose count is below its inconclusiveLimit."""
    templates = {
        TemplateKey(False, d["metadata"]["name"]): d["spec"]
        for d in documents("analysis")
        if d["kind"] == "AnalysisTemplate"
    }
    subject = Subject(
        "track", "shop", "uid", {}, {}, stable="track-00001", canary="track-00002", attempt=1, status=STATUS
    )
    for rollout in documents("rollouts"):
        if rollout["kind"] == "KnativeRollout":
            canary = Spec.model_validate(rollout["spec"]).strategy.canary
            for analysis in [step.analysis for step in canary.steps] + [canary.analysis]:
                if analysis is not None:
                    run_args = run_manifest("run", analysis, templates, subject)["spec"]["args"]
                    args = {arg["name"]: arg.get("value") for arg in run_args}
                    assert int(args["count"]) >= int(args.get("most-empty", 0))


@pytest.mark.parametrize("name", ["http-errors", "http-latency"])
def test_a_query_that_finds_nothing_is_inconclusive(name: str) -> None:
    (template,) = (d for d in documents("analysis") if d.get("metadata", {}).get("name") == name)
    (metric,) = template["spec"]["metrics"]
    for condition in (metric["successCondition"], metric["failureCondition"]):
        assert condition.startswith("len(result) > 0 && !isNaN(result[0]) && ")
    assert metric["successCondition"].endswith(' || len(result) == 0 && "{{args.idle}}" == "fine"')
    idle = next(arg for arg in template["spec"]["args"] if arg["name"] == "idle")
    assert idle["value"] == "inconclusive"
    assert "{{args.least-requests}}" in metric["provider"]["prometheus"]["query"]


def linted(rollout: dict[str, Any], *others: dict[str, Any]) -> list[str]:
    text = yaml.safe_dump_all([rollout, *others])
    return [f"{finding.subject}: {finding.message}" for finding in lint([parse("file", text)])]


def rollout_with(*templates: str) -> dict[str, Any]:
    analysis = {"templates": [{"templateName": name} for name in templates]}
    steps = [{"setWeight": 10}, {"analysis": analysis}]
    spec = {"workloadRef": {"name": "track"}, "strategy": {"canary": {"steps": steps}}}
    return {
        "apiVersion": "orderflow.dev/v1alpha1",
        "kind": "KnativeRollout",
        "metadata": {"name": "track"},
        "spec": spec,
    }


def template(name: str, kind: str = "AnalysisTemplate", **spec: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": name}, "spec": spec}


def test_lint_names_every_template_that_is_in_no_file_also_one_that_a_template_includes() -> None:
    including = template("orders", templates=[{"templateName": "deeper"}])
    assert linted(rollout_with("orders", "odrers"), including) == [
        "track: no file has the AnalysisTemplate odrers",
        "track: no file has the AnalysisTemplate deeper",
    ]
    cluster_wide = template("orders", "ClusterAnalysisTemplate")
    assert linted(rollout_with("orders"), cluster_wide) == [
        "track: no file has the AnalysisTemplate orders, but one of the other scope: clusterScope"
    ]


def test_lint_accepts_an_argument_that_has_its_value_in_a_template() -> None:
    with_default = template("orders", args=[{"name": "a", "value": "1"}, {"name": "b", "valueFrom": {}}])
    assert linted(rollout_with("orders"), with_default) == []


def test_lint_says_that_analyses_are_not_checked_where_no_template_is_given() -> None:
    assert linted(rollout_with("orders")) == [
        "track: the analyses are not checked: no file has orders; add --templates PATH"
    ]


def test_lint_of_a_rollout_without_a_name_names_its_file() -> None:
    nameless = rollout_with("orders") | {"metadata": None}
    found = linted(nameless, template("orders"))
    assert found == ["file, a KnativeRollout without a name: metadata.name: must have 1 to 63 characters"]
