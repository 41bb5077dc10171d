"""The real schemas of whatever kinds the manifests have, strict: an unknown field is a fault, as in the API server."""

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from tests.manifests.building import ROOT, Document

KUBERNETES = "1.34"
FOLDER = Path(__file__).parent / "schemas"
OURS = (ROOT / "argo/crd/knativerollout.yaml",)
"""Definitions that this repository brings itself."""


def faults(document: Document) -> list[str]:
    """Each with the path of the field. A kind without a schema is a fault, too."""
    return _faults(json.dumps(document, sort_keys=True))


@cache
def _faults(text: str) -> list[str]:
    """Overlays have most documents in common, and Kubernetes' schemas are read anew for each."""
    document = json.loads(text)
    version, kind = document.get("apiVersion", ""), document.get("kind", "")
    schema = _custom(version, kind)
    if schema is None:
        return _of_kubernetes(document)
    validator = jsonschema.Draft202012Validator(schema)
    return [_sentence(error) for error in sorted(validator.iter_errors(document), key=str)]


def _of_kubernetes(document: Document) -> list[str]:
    try:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [_sentence(error)]
    except kubernetes_validate.SchemaNotFoundError:
        return [f"{document.get('apiVersion')} {document.get('kind')}: there is no schema for it"]
    return []


def _sentence(error: jsonschema.ValidationError) -> str:
    return f"{'.'.join(map(str, error.absolute_path)) or 'manifest'}: {error.message[:200]}"


@cache
def _custom(api_version: str, kind: str) -> dict[str, Any] | None:
    group, _, version = api_version.rpartition("/")
    file = FOLDER / f"{group}_{kind.lower()}_{version}.json"
    if file.is_file():
        return strict(json.loads(file.read_text()))
    for definition in OURS:
        for document in yaml.safe_load_all(definition.read_text()):
            if (document["spec"]["group"], document["spec"]["names"]["kind"]) == (group, kind):
                return strict(schema_of(document, version))
    return None


def schema_of(definition: Document, version: str) -> dict[str, Any]:
    """The schema of one version of a CustomResourceDefinition."""
    (entry,) = (entry for entry in definition["spec"]["versions"] if entry["name"] == version)
    schema: dict[str, Any] = entry["schema"]["openAPIV3Schema"]
    return schema


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """A CustomResourceDefinition's schema as JSON Schema: what is not in it is refused, as with `kubectl apply
    --validate=strict`, and what Kubernetes alone knows is put into words that JSON Schema has."""
    tightened = copy.deepcopy(schema)
    _tighten(tightened)
    # Kubernetes has these of every kind; definitions only name them.
    for name, of in (("apiVersion", "string"), ("kind", "string"), ("metadata", "object")):
        tightened["properties"][name] = {"type": of}
    tightened["required"] = sorted({*tightened.get("required", []), "apiVersion", "kind", "metadata"})
    return tightened


def _tighten(node: dict[str, Any]) -> None:
    if node.pop("x-kubernetes-int-or-string", False):
        node.pop("anyOf", None)
        node["type"] = ["integer", "string"]
    if node.pop("nullable", False) and "type" in node:
        node["type"] = [node["type"], "null"]
    properties = node.get("properties", {})
    if properties and not node.get("x-kubernetes-preserve-unknown-fields"):
        node.setdefault("additionalProperties", False)
    for inner in (*properties.values(), node.get("items"), node.get("additionalProperties")):
        if isinstance(inner, dict):
            _tighten(inner)
