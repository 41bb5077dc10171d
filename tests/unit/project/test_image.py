"""The Dockerfile agrees with the manifests and with .dockerignore, and two builds of the same code are identical."""

import json
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from orderflow_sandbox.sandbox import ROOT

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
    """The pipeline asks the registry for the digest. A digest in the file would be outdated or made up."""
    assert re.search(r"sha256:[0-9a-f]", DOCKERFILE) is None
    assert {line.split()[0] for line in instructions("FROM")} >= {"${BASE}", "${BUILD_BASE}"}


def assembled(code: Path, into: Path, *more: str) -> dict[str, tuple[int, float, bytes]]:
    """Mode, modification time and content of every file and folder of the image, by path."""
    command = [sys.executable, str(ROOT / "image/assemble.py"), str(code), "--into", str(into), *more]
    subprocess.run(command, check=True, env={"SOURCE_DATE_EPOCH": "1000000000", "PYTHONHASHSEED": "0"})
    return {
        str(path.relative_to(into)): (
            path.stat().st_mode & 0o7777,
            path.stat().st_mtime,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in [into, *into.rglob("*")]
    }


def test_it_does_not_matter_when_and_from_whose_checkout_an_image_is_built(tmp_path: Path) -> None:
    code = tmp_path / "app"
    code.mkdir()
    source = code / "stage.py"
    source.write_text("names = {'paid', 'shipped', 'held'}\n")
    source.chmod(0o600)
    first = assembled(code, tmp_path / "first")
    source.chmod(0o664)
    os.utime(source, (1, 1))
    second = assembled(code, tmp_path / "second")
    assert first == second
    assert {date for _, date, _ in first.values()} == {1000000000}
    assert {mode for mode, _, _ in first.values()} == {0o755, 0o644}


def test_bytecode_is_taken_without_a_look_at_its_source(tmp_path: Path) -> None:
    code = tmp_path / "app"
    code.mkdir()
    (code / "stage.py").write_text("answer = 'compiled'\n")
    assembled(code, tmp_path / "image")
    laid_out = tmp_path / "image" / code.relative_to("/")
    (laid_out / "stage.py").write_text("answer = 'from the source'\n")
    run = subprocess.run(
        [sys.executable, "-c", "import stage; print(stage.answer)"],
        cwd=laid_out,
        check=True,
        capture_output=True,
        text=True,
    )
    assert run.stdout == "compiled\n"


def test_an_image_is_not_made_of_what_does_not_compile(tmp_path: Path) -> None:
    code = tmp_path / "app"
    code.mkdir()
    (code / "stage.py").write_text("def (\n")
    with pytest.raises(subprocess.CalledProcessError):
        assembled(code, tmp_path / "image")


def test_the_image_knows_which_release_it_is_though_nothing_is_installed(tmp_path: Path) -> None:
    code = tmp_path / "app"
    shutil.copytree(ROOT / "orderflow/contracts", code / "orderflow/contracts")
    shutil.copy(ROOT / "orderflow/version.py", code / "orderflow/version.py")
    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\nname = "orderflow"\nversion = "97.53.11"\n')
    assembled(code, tmp_path / "image", "--release", str(project))
    laid_out = tmp_path / "image" / code.relative_to("/")
    run = subprocess.run(
        [sys.executable, "-S", "-c", "from orderflow.version import version; print(version())"],
        env={"PYTHONPATH": str(laid_out)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert run.stdout == "97.53.11\n"


def test_whatever_has_code_of_ours_has_the_note_of_its_release() -> None:
    for name in ("code", "rollout-code"):
        stage = DOCKERFILE.partition(f"FROM build AS {name}\n")[2].partition("\nFROM ")[0]
        assert '"--release", "/build/pyproject.toml"' in stage
        assert "COPY pyproject.toml /build/" in stage
