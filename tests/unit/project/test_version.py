"""pyproject.toml has the version of the release. Every other place derives the version from it."""

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
EXCLUDED = re.compile(
    r"contracts/.*\.json|requirements.*\.txt|.*package-lock\.json|.*\.lock|.*\.svg|CHANGELOG\.md|tests/.*"
)
"""Files that a program derives from the version, that are about other packages or earlier releases, or examples."""
ABOUT_US = re.compile(r"version|release|orderflow|knrollout|image|label", re.IGNORECASE)
"""In other lines the same number may be another project's version."""
OUR_VERSION = re.compile(
    r"__version__\s*=|app\.kubernetes\.io/version|projectVersion=\d|image\.version=\"?\d"
    r"|\b(?:orderflow|knrollout|kn-order|kn-rollout)[/:@=-]+v?\d+\.\d+\.\d+",
    re.IGNORECASE,
)
"""A literal version of ours, whatever its number."""


def tracked() -> list[str]:
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_what_is_installed_is_what_the_project_says() -> None:
    assert version() == VERSION, "make .venv/dev"


def test_no_file_has_a_second_copy_of_the_version() -> None:
    copies = []
    number = re.compile(rf"(?<![\w.]){re.escape(VERSION)}(?![\w.]\w)")
    for name in tracked():
        if EXCLUDED.fullmatch(name):
            continue
        for at, line in enumerate((ROOT / name).read_text(errors="replace").splitlines(), 1):
            if name == "pyproject.toml" and line == f'version = "{VERSION}"':
                continue
            copied = number.search(line) and ABOUT_US.search(line)
            if copied or OUR_VERSION.search(line):
                copies.append(f"{name}:{at}: {line.strip()}")
    assert copies == []


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
    run = subprocess.run(
        [sys.executable, "-c", f"from {command[0]} import main; main()", "--version"]
        if command[0].endswith(("cli", "app"))
        else [sys.executable, "-m", *command, "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split()[-1] == VERSION
    assert run.stdout.count("\n") == 1


def test_all_scripts_of_the_project_are_among_them() -> None:
    scripts = metadata.distribution("orderflow").entry_points.select(group="console_scripts")
    assert {each.value for each in scripts} == {
        "orderflow_sandbox.cli:main",
        "orderflow.kn_order.app:main",
        "knrollout.cli.app:main",
    }


def test_every_description_of_what_others_rely_on_says_it() -> None:
    versions = {
        path: document["info"]["version"] for path, document in documents().items() if "info" in document
    }
    assert set(versions) == {"openapi/intake.json", "openapi/query.json", "asyncapi.json"}
    assert set(versions.values()) == {VERSION}
    for path in versions:
        assert json.loads((ROOT / "contracts" / path).read_text())["info"]["version"] == VERSION


@pytest.mark.parametrize(
    ("target", "option"),
    [
        ("image", f"--build-arg VERSION={VERSION} "),
        ("image-push", f"--build-arg VERSION={VERSION} "),
        ("sonar-scan", f"-Dsonar.projectVersion={VERSION}"),
    ],
)
def test_what_is_built_and_analysed_bears_it(target: str, option: str) -> None:
    run = subprocess.run(
        ["make", "--dry-run", "--directory", str(ROOT), target], capture_output=True, text=True, check=True
    )
    assert option in run.stdout


async def test_others_are_told_who_asks() -> None:
    assert user_agent("kn-order") == f"kn-order/{VERSION}"
    channel = WebhookChannel([], ROOT)
    session = channel._session(allow_private=True)
    assert session.headers["User-Agent"] == f"orderflow/{VERSION}"
    await channel.close()
