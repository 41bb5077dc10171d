"""pyproject.toml says which release this is, and nobody else: what says it too has it from there."""

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from orderflow.contracts.documents import documents
from orderflow.notify.webhooks import WebhookChannel
from orderflow.version import user_agent, version

ROOT = Path(__file__).parents[3]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
NONE_OF_OURS = re.compile(
    r"contracts/.*\.json|requirements.*\.txt|.*package-lock\.json|.*\.lock|.*\.svg|CHANGELOG\.md|tests/.*"
)
"""Made from it by a program, about other packages, about the past, or an example that fails by itself."""
SPEAKS_OF_US = re.compile(r"version|release|orderflow|knrollout|image|label", re.IGNORECASE)
"""The same number may be somebody else's."""
OWN_WORD = re.compile(
    r"__version__\s*=|app\.kubernetes\.io/version|projectVersion=\d|image\.version=\"?\d"
    r"|\b(?:orderflow|knrollout|kn-order|kn-rollout)[/:@=-]+v?\d+\.\d+\.\d+",
    re.IGNORECASE,
)
"""A version of ours that is written down, whichever it is."""


def tracked() -> list[str]:
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_what_is_installed_is_what_the_project_says() -> None:
    assert version() == VERSION, "make .venv/dev"


def test_no_file_has_a_second_copy_of_the_version() -> None:
    found = []
    number = re.compile(rf"(?<![\w.]){re.escape(VERSION)}(?![\w.]\w)")
    for name in tracked():
        if NONE_OF_OURS.fullmatch(name):
            continue
        for at, line in enumerate((ROOT / name).read_text(errors="replace").splitlines(), 1):
            if name == "pyproject.toml" and line == f'version = "{VERSION}"':
                continue
            copied = number.search(line) and SPEAKS_OF_US.search(line)
            if copied or OWN_WORD.search(line):
                found.append(f"{name}:{at}: {line.strip()}")
    assert found == []


@pytest.mark.parametrize(
    "command",
    [
        ["orderflow.kn_order.app"],
        ["orderflow_sandbox.cli"],
        ["functions.audit"],
        ["orderflow.contracts"],
        ["orderflow.commands.api_keys"],
        ["orderflow.commands.migrate"],
        ["orderflow.commands.repartition"],
        ["orderflow_sandbox.delivery"],
        ["knrollout.cli.app"],
    ],
    ids=lambda command: command[0],
)
def test_every_command_says_which_release_it_is(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"from {command[0]} import main; main()", "--version"]
        if command[0].endswith(("cli", "app"))
        else [sys.executable, "-m", *command, "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == VERSION
    assert done.stdout.count("\n") == 1


def test_all_scripts_of_the_project_are_among_them() -> None:
    scripts = metadata.distribution("orderflow").entry_points.select(group="console_scripts")
    assert {each.value for each in scripts} == {
        "orderflow_sandbox.cli:main",
        "orderflow.kn_order.app:main",
        "knrollout.cli.app:main",
    }


def test_every_description_of_what_others_rely_on_says_it() -> None:
    described = {
        path: document["info"]["version"] for path, document in documents().items() if "info" in document
    }
    assert set(described) == {"openapi/intake.json", "openapi/query.json", "asyncapi.json"}
    assert set(described.values()) == {VERSION}
    for path in described:
        assert json.loads((ROOT / "contracts" / path).read_text())["info"]["version"] == VERSION


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("image", f"--build-arg VERSION={VERSION} "),
        ("image-push", f"--build-arg VERSION={VERSION} "),
        ("sonar-scan", f"-Dsonar.projectVersion={VERSION}"),
    ],
)
def test_what_is_built_and_analysed_bears_it(target: str, says: str) -> None:
    told = subprocess.run(
        ["make", "--dry-run", "--directory", str(ROOT), target], capture_output=True, text=True, check=True
    )
    assert says in told.stdout


async def test_others_are_told_who_asks() -> None:
    assert user_agent("kn-order") == f"kn-order/{VERSION}"
    channel = WebhookChannel([], ROOT)
    session = channel._session(allow_private=True)
    assert session.headers["User-Agent"] == f"orderflow/{VERSION}"
    await channel.close()
