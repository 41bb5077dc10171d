"""What stands in the manifests of kafka/: topics, users and their rules, as a broker is told them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

ROOT = Path(__file__).parents[2]
BASE = ROOT / "kafka/base"


@dataclass(frozen=True)
class Rule:
    """One operation that one user is allowed."""

    user: str
    resource: str
    name: str
    pattern: str
    operation: str

    @property
    def binding(self) -> AclBinding:
        return AclBinding(
            ResourceType[self.resource.upper()],
            self.name,
            ResourcePatternType[self.pattern.upper()],
            f"User:CN={self.user}",
            "*",
            AclOperation[self.operation.upper()],
            AclPermissionType.ALLOW,
        )


def resources(kind: str) -> list[dict[str, Any]]:
    return [document for document in _documents() if document["kind"] == kind]


def rules() -> list[Rule]:
    return [
        Rule(user["metadata"]["name"], rule["resource"]["type"], rule["resource"]["name"], pattern, operation)
        for user in resources("KafkaUser")
        for rule in user["spec"]["authorization"]["acls"]
        for pattern in [rule["resource"]["patternType"]]
        for operation in rule["operations"]
    ]


def _documents() -> Iterator[dict[str, Any]]:
    for name in yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]:
        yield from yaml.safe_load_all((BASE / name).read_text())
