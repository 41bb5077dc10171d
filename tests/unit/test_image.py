"""What the Dockerfile says twice: it must be the same both times."""

import json
import re
from fnmatch import fnmatch

import yaml

from orderflow.sandbox.sandbox import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")


def instructions(name: str) -> list[str]:
    return [
        line.removeprefix(f"{name} ").strip()
        for line in DOCKERFILE.splitlines()
        if line.startswith(f"{name} ")
    ]


def test_an_image_without_a_command_starts_as_the_services_do() -> None:
    command = json.loads(instructions("CMD")[-1])
    for file in (ROOT / "knative/base").glob("*.yaml"):
        document = yaml.safe_load(file.read_text())
        if isinstance(document, dict) and document["kind"] == "Service" and file.stem != "query":
            (container,) = document["spec"]["template"]["spec"]["containers"]
            assert container["command"] + container["args"] == command, file.name


def test_whatever_is_copied_from_the_repository_is_let_through_and_nothing_else() -> None:
    copied = {
        source
        for copy in instructions("COPY")
        if not copy.startswith("--from")
        for source in copy.split()[:-1]
    }
    ignored, *rest = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] not in {"", "#"}
    ]
    assert ignored == "*"
    let_through = {line.removeprefix("!").rstrip("/") for line in rest if line.startswith("!")}
    assert let_through == copied
    for secret in (".env", ".git/config", "api-keys.toml"):
        assert not any(fnmatch(secret, pattern) for pattern in let_through)


def test_nobody_in_the_image_is_root_and_its_user_is_a_number() -> None:
    assert instructions("USER") == ["65532:65532"]


def test_no_digest_stands_in_the_dockerfile() -> None:
    """The pipeline asks the registry for it; one that is written down is old, or made up."""
    assert re.search(r"sha256:[0-9a-f]", DOCKERFILE) is None
    assert {line.split()[0] for line in instructions("FROM")} >= {"${BASE}", "${BUILD_BASE}"}
