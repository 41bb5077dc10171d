"""The CustomResourceDefinition, generated from the models.

python -m knrollout.api.crd > argo/crd/knativerollout.yaml
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import yaml

from knrollout.api import names
from knrollout.api.admission import CEL_RULES, REJECTED_FIELDS
from knrollout.api.duration import DURATION
from knrollout.api.spec import Spec
from knrollout.api.status import Status

if TYPE_CHECKING:
    from knrollout.api.admission import Schema

PRINTER_COLUMNS: Final = [
    ("Service", "string", ".spec.workloadRef.name", 0),
    ("Phase", "string", ".status.phase", 0),
    ("Step", "integer", ".status.currentStepIndex", 0),
    ("Weight", "integer", ".status.weight", 0),
    ("Stable", "string", ".status.stableRevision", 0),
    ("Canary", "string", ".status.canaryRevision", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Message", "string", ".status.message", 1),
]
_KEYWORDS: Final = frozenset(
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


def custom_resource_definition() -> Schema:
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
            "versions": [_v1alpha1()],
        },
    }


def _v1alpha1() -> Schema:
    return {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            {"name": name, "type": kind, "jsonPath": path, "priority": priority}
            for name, kind, path, priority in PRINTER_COLUMNS
        ],
        "schema": {"openAPIV3Schema": _root_schema()},
    }


def _root_schema() -> Schema:
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
            "spec": _structural_schema(Spec.model_json_schema(by_alias=True)),
            "status": _structural_schema(Status.model_json_schema(by_alias=True)),
        },
    }


def _structural_schema(document: Schema) -> Schema:
    return _node(document, document.get("$defs", {}))


def _node(node: Schema, models: dict[str, Schema]) -> Schema:
    """Resolves references, drops null, and keeps the keywords that a structural schema knows."""
    if "$ref" in node:
        return _with_default(models[node["$ref"].rsplit("/", 1)[1]], node, models)
    if "anyOf" in node:
        return _any_of(node, models)
    schema = {keyword: value for keyword, value in node.items() if keyword in _KEYWORDS}
    if "const" in node:
        schema["enum"] = [node["const"]]
    if node.get("default") not in (None, [], ()):
        schema["default"] = node["default"]
    if "description" in node:
        schema["description"] = " ".join(node["description"].split())
    if "items" in node:
        schema["items"] = _node(node["items"], models)
    return schema | (_object(node, models) if "properties" in node else {})


def _with_default(target: Schema, node: Schema, models: dict[str, Schema]) -> Schema:
    return _node({**target, **{key: node[key] for key in ("default",) if key in node}}, models)


def _any_of(node: Schema, models: dict[str, Schema]) -> Schema:
    choices = [choice for choice in node["anyOf"] if choice.get("type") != "null"]
    if len(choices) == 1:
        return _with_default(choices[0], node, models)
    return {"x-kubernetes-int-or-string": True, "pattern": DURATION, "minimum": 0}


def _object(node: Schema, models: dict[str, Schema]) -> Schema:
    model = node["title"]
    rejected = REJECTED_FIELDS.get(model, {})
    rules = [*CEL_RULES.get(model, ()), *(_rejection(field) for field in rejected)]
    properties = {name: _node(field, models) for name, field in node["properties"].items()}
    schema: Schema = {"properties": properties | rejected}
    if node.get("required"):
        schema["required"] = node["required"]
    if rules:
        schema["x-kubernetes-validations"] = [{"rule": rule, "message": message} for rule, message in rules]
    return schema


def _rejection(field: str) -> tuple[str, str]:
    return f"!has(self.{field})", f"{field} is Argo's, and not possible with a Knative Service"


class _WithoutAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - pyyaml's own signature
        return True


def as_yaml() -> str:
    header = "# Generated by `python -m knrollout.api.crd`; change the models in knrollout/ instead.\n"
    return header + yaml.dump(
        custom_resource_definition(), Dumper=_WithoutAliases, sort_keys=False, width=110
    )


if __name__ == "__main__":
    sys.stdout.write(as_yaml())
