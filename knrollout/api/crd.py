"""The CustomResourceDefinition, made from the models: `python -m knrollout.api.crd > argo/crd/knativerollout.yaml`.

What a model checks in code stands here as a CEL rule. What Argo's strategy has and
a Knative Service cannot do is declared, so that admission can refuse it by name:
an undeclared field would be dropped without a word.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import yaml

from knrollout.api import names
from knrollout.api.spec import DURATION, Spec
from knrollout.api.status import Status

Schema = dict[str, Any]

_OBJECT: Final[Schema] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_LIST: Final[Schema] = {"type": "array", "items": _OBJECT}
_NUMBER_OR_TEXT: Final[Schema] = {"x-kubernetes-int-or-string": True}
_INTEGER: Final[Schema] = {"type": "integer"}
_TEXT: Final[Schema] = {"type": "string"}

_NOT_PER_RUN: Final = {"dryRun": _LIST, "measurementRetention": _LIST, "analysisRunMetadata": _OBJECT}
# By model: what Argo Rollouts has there and this refuses.
REFUSED: Final[dict[str, dict[str, Schema]]] = {
    "Spec": {
        "replicas": _INTEGER,
        "selector": _OBJECT,
        "template": _OBJECT,
        "minReadySeconds": _INTEGER,
        "restartAt": _TEXT,
    },
    "Strategy": {"blueGreen": _OBJECT},
    "Canary": {
        "canaryService": _TEXT,
        "stableService": _TEXT,
        "trafficRouting": _OBJECT,
        "maxUnavailable": _NUMBER_OR_TEXT,
        "maxSurge": _NUMBER_OR_TEXT,
        "antiAffinity": _OBJECT,
        "canaryMetadata": _OBJECT,
        "stableMetadata": _OBJECT,
        "scaleDownDelayRevisionLimit": _INTEGER,
        "dynamicStableScale": {"type": "boolean"},
        "pingPong": _OBJECT,
        "minPodsPerReplicaSet": _INTEGER,
    },
    "Step": {
        "experiment": _OBJECT,
        "setCanaryScale": _OBJECT,
        "setHeaderRoute": _OBJECT,
        "setMirrorRoute": _OBJECT,
        "plugin": _OBJECT,
    },
    "Analysis": _NOT_PER_RUN,
    "BackgroundAnalysis": _NOT_PER_RUN,
}
# By model: rule and what is said where it does not hold.
RULES: Final[dict[str, list[tuple[str, str]]]] = {
    "WorkloadRef": [("self == oldSelf", "a rollout keeps its Service; make another rollout")],
    "Step": [
        (
            "[has(self.setWeight), has(self.pause), has(self.analysis)].filter(given, given).size() == 1",
            "a step is exactly one of setWeight, pause and analysis",
        )
    ],
    "Arg": [("has(self.value) != has(self.valueFrom)", "exactly one of value and valueFrom")],
    "ValueFrom": [
        (
            "has(self.podTemplateHashValue) != has(self.fieldRef)",
            "exactly one of podTemplateHashValue and fieldRef",
        )
    ],
    "Canary": [
        (
            "!has(self.analysis) || self.analysis.startingStep < self.steps.size()",
            "analysis.startingStep is not one of the steps",
        )
    ],
}
COLUMNS: Final = [
    ("Service", "string", ".spec.workloadRef.name", 0),
    ("Phase", "string", ".status.phase", 0),
    ("Step", "integer", ".status.currentStepIndex", 0),
    ("Weight", "integer", ".status.weight", 0),
    ("Stable", "string", ".status.stableRevision", 0),
    ("Canary", "string", ".status.canaryRevision", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Message", "string", ".status.message", 1),
]
_KEPT: Final = frozenset(
    {
        "type",
        "format",
        "pattern",
        "enum",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
    }
)


def definition() -> Schema:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names.PLURAL}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": names.KIND,
                "listKind": f"{names.KIND}List",
                "plural": names.PLURAL,
                "singular": "knativerollout",
                "shortNames": ["knro"],
                "categories": ["knative"],
            },
            "versions": [_version()],
        },
    }


def _version() -> Schema:
    return {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            {"name": name, "type": kind, "jsonPath": path, "priority": priority}
            for name, kind, path, priority in COLUMNS
        ],
        "schema": {"openAPIV3Schema": _root()},
    }


def _root() -> Schema:
    return {
        "type": "object",
        "description": "A canary release of a Knative Service, revision by revision.",
        "required": ["spec"],
        "x-kubernetes-validations": [
            {"rule": "size(self.metadata.name) <= 63", "message": "a name has 63 characters at most"}
        ],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": _structural(Spec.model_json_schema(by_alias=True)),
            "status": _structural(Status.model_json_schema(by_alias=True)),
        },
    }


def _structural(document: Schema) -> Schema:
    return _node(document, document.get("$defs", {}))


def _node(node: Schema, models: dict[str, Schema]) -> Schema:
    """pydantic's JSON schema as a structural one: references resolved, null left out, keywords that exist."""
    if "$ref" in node:
        model = models[node["$ref"].rsplit("/", 1)[1]]
        return _node({**model, **{key: node[key] for key in ("default",) if key in node}}, models)
    if "anyOf" in node:
        return _either(node, models)
    made = {key: value for key, value in node.items() if key in _KEPT}
    if "const" in node:
        made["enum"] = [node["const"]]
    if node.get("default") not in (None, [], ()):
        made["default"] = node["default"]
    if "description" in node:
        made["description"] = " ".join(node["description"].split())
    if "items" in node:
        made["items"] = _node(node["items"], models)
    return made | (_object(node, models) if "properties" in node else {})


def _either(node: Schema, models: dict[str, Schema]) -> Schema:
    choices = [choice for choice in node["anyOf"] if choice.get("type") != "null"]
    if len(choices) == 1:
        return _node({**choices[0], **{key: node[key] for key in ("default",) if key in node}}, models)
    return {"x-kubernetes-int-or-string": True, "pattern": DURATION, "minimum": 0}


def _object(node: Schema, models: dict[str, Schema]) -> Schema:
    model = node["title"]
    refused = REFUSED.get(model, {})
    rules = [*RULES.get(model, ()), *(_refusal(field) for field in refused)]
    made: Schema = {"properties": {name: _node(field, models) for name, field in node["properties"].items()}}
    made["properties"].update(refused)
    if node.get("required"):
        made["required"] = node["required"]
    if rules:
        made["x-kubernetes-validations"] = [{"rule": rule, "message": message} for rule, message in rules]
    return made


def _refusal(field: str) -> tuple[str, str]:
    return f"!has(self.{field})", f"{field} is Argo's, and not possible with a Knative Service"


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - pyyaml's own signature
        return True


def text() -> str:
    note = "# Made by `python -m knrollout.api.crd`; change the models in knrollout/ instead.\n"
    return note + yaml.dump(definition(), Dumper=_Plain, sort_keys=False, width=110)


if __name__ == "__main__":
    sys.stdout.write(text())
