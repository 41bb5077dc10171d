"""The locks fulfil the requirements: a change of one without the other fails here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from orderflow_sandbox.servers import jars

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = tomllib.loads((ROOT / "uv.lock").read_text())
LOCKED: dict[str, list[str]] = {}
"""Versions by name; two versions where another Python needs another one."""
for package in LOCK["package"]:
    LOCKED.setdefault(package["name"], []).append(package["version"])
REQUIREMENTS = (
    {"dependencies": PROJECT["project"]["dependencies"]}
    | PROJECT["project"]["optional-dependencies"]
    | PROJECT["dependency-groups"]
)


def pinned(text: str) -> dict[str, list[str]]:
    """The versions of a requirements file, by name."""
    return {
        name: [version]
        for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", text, flags=re.MULTILINE)
    }


def unmet(requirements: list[str], pins: dict[str, list[str]]) -> list[str]:
    """The requirements that the pinned versions do not fulfil."""
    return [
        str(each)
        for each in map(Requirement, requirements)
        if not (versions := pins.get(canonicalize_name(each.name)))
        or not all(each.specifier.contains(version, prereleases=True) for version in versions)
    ]


@pytest.mark.parametrize("environment", REQUIREMENTS)
def test_every_python_requirement_is_in_the_lock(environment: str) -> None:
    assert unmet(REQUIREMENTS[environment], LOCKED) == []
    assert unmet(["confluent-kafka>=99", "no-such-package"], LOCKED) == [
        "confluent-kafka>=99",
        "no-such-package",
    ]


def test_requirements_txt_has_what_the_stages_ask_for_as_it_is_locked() -> None:
    text = (ROOT / "requirements.txt").read_text()
    pins = pinned(text)
    assert unmet(REQUIREMENTS["dependencies"], pins) == []
    assert unmet([*REQUIREMENTS["dependencies"], "no-such-package"], pins) == ["no-such-package"]
    assert {name: LOCKED[name] for name in pins} == pins
    hashes = {
        name: set(re.findall(r"sha256:[0-9a-f]{64}", block))
        for name, block in re.findall(r"^([A-Za-z0-9._-]+)==((?:.*\\\n)*.*)$", text, flags=re.MULTILINE)
    }
    assert hashes == {
        package["name"]: {
            each["hash"] for each in [*package.get("wheels", []), *filter(None, [package.get("sdist")])]
        }
        for package in LOCK["package"]
        if package["name"] in pins
    }


def test_the_lock_is_in_step_with_pyproject_toml() -> None:
    """By uv's own check; `make locked` does the same, and compares requirements.txt."""
    uv = str(Path(sys.executable).with_name("uv"))
    check = [uv, "lock", "--check", "--offline", "--default-index", "./packages"]
    run = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("file", ["uv.lock", "requirements.txt"])
def test_no_lock_has_the_address_of_an_index(file: str) -> None:
    """Each machine may use another package index."""
    assert re.findall(r"https?://\S+|^--?[a-z].*$", (ROOT / file).read_text(), flags=re.MULTILINE) == []


def test_kafkas_coordinates_are_in_its_lock() -> None:
    assert set(jars.COORDINATES) <= {coordinate for coordinate, _, _ in jars.locked()}


def found_by_renovate(datasource: str) -> list[tuple[str, str]]:
    """The names and versions that our pattern for that datasource finds in our files."""
    managers = json.loads((ROOT / "renovate.json").read_text())["customManagers"]
    (manager,) = (each for each in managers if each["datasourceTemplate"] == datasource)
    (pattern,) = (each.replace("(?<", "(?P<") for each in manager["matchStrings"])
    files = [each.strip("/^$").replace("\\", "") for each in manager["managerFilePatterns"]]
    matches = [match for file in files for match in re.finditer(pattern, (ROOT / file).read_text())]
    return [(match["depName"], match["currentValue"]) for match in matches]


def test_renovate_finds_every_maven_coordinate() -> None:
    ((sonarqube, _, _),) = jars.locked(ROOT / "pipeline/sonarqube.lock")
    coordinates = [":".join(each) for each in found_by_renovate("maven")]
    assert coordinates == [*jars.COORDINATES, sonarqube]


def test_renovate_finds_every_module_that_a_tool_is_built_from() -> None:
    assert [name for name, _ in found_by_renovate("go")] == [
        "sigs.k8s.io/kustomize/kustomize/v5",
        "github.com/docker/buildx",
        "github.com/moby/buildkit",
        "github.com/sigstore/cosign/v3",
        "github.com/anchore/syft",
        "github.com/prometheus/prometheus",
        "knative.dev/client",
    ]
    versions = re.findall(r"@(v\d\S*)", (ROOT / "Makefile").read_text())
    assert [version for _, version in found_by_renovate("go")] == versions
