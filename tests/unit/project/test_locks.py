"""What is locked is what is asked for: whoever changes the one without the other hears of it here."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from orderflow_sandbox.servers import jars

ROOT = Path(__file__).parents[3]
EXTRAS = {
    "requirements.txt": (),
    "requirements-sandbox.txt": ("sandbox",),
    "requirements-delivery.txt": ("delivery",),
    "requirements-rollout.txt": ("rollout",),
    "requirements-dev.txt": ("sandbox", "rollout", "dev"),
    "requirements-bench.txt": ("sandbox", "bench"),
}


def locked(text: str) -> dict[str, str]:
    """Versions by name."""
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", text, flags=re.MULTILINE))


def unmet(asked: list[str], text: str) -> list[str]:
    """The requirements that a lock does not fulfil."""
    pins = {canonicalize_name(name): version for name, version in locked(text).items()}
    requirements = [Requirement(each) for each in asked]
    return [
        str(each)
        for each in requirements
        if not each.specifier.contains(pins.get(canonicalize_name(each.name), "0"), prereleases=True)
        or canonicalize_name(each.name) not in pins
    ]


@pytest.mark.parametrize("file", EXTRAS)
def test_every_python_requirement_is_in_its_lock(file: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [each for extra in EXTRAS[file] for each in project["optional-dependencies"][extra]]
    text = (ROOT / file).read_text()
    assert unmet(project["dependencies"] + extras, text) == []
    assert unmet(["confluent-kafka>=99", "no-such-package"], text) == [
        "confluent-kafka>=99",
        "no-such-package",
    ]


def test_kafkas_coordinates_are_in_its_lock() -> None:
    assert set(jars.COORDINATES) <= {coordinate for coordinate, _, _ in jars.locked()}


def found_by_renovate(datasource: str) -> list[tuple[str, str]]:
    """Names and versions, as our pattern for that source of releases finds them."""
    managers = json.loads((ROOT / "renovate.json").read_text())["customManagers"]
    (manager,) = (each for each in managers if each["datasourceTemplate"] == datasource)
    (pattern,) = (each.replace("(?<", "(?P<") for each in manager["matchStrings"])
    files = [each.strip("/^$").replace("\\", "") for each in manager["managerFilePatterns"]]
    found = [match.groupdict() for file in files for match in re.finditer(pattern, (ROOT / file).read_text())]
    return [(each["depName"], each["currentValue"]) for each in found]


def test_renovate_finds_every_maven_coordinate() -> None:
    ((sonarqube, _, _),) = jars.locked(ROOT / "pipeline/sonarqube.lock")
    found = [":".join(each) for each in found_by_renovate("maven")]
    assert found == [*jars.COORDINATES, sonarqube]


def test_renovate_finds_every_module_that_a_tool_is_built_from() -> None:
    assert [name for name, _ in found_by_renovate("go")] == [
        "sigs.k8s.io/kustomize/kustomize/v5",
        "github.com/docker/buildx",
        "github.com/moby/buildkit",
        "github.com/sigstore/cosign/v3",
        "github.com/anchore/syft",
    ]
    versions = re.findall(r"@(v\d\S*)", (ROOT / "Makefile").read_text())
    assert [version for _, version in found_by_renovate("go")] == versions
