"""What kustomize makes of every folder that has a kustomization."""

import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
Document = dict[str, Any]


class BuildError(Exception):
    """kustomize refuses the folder, or is not there; the message says what it says."""


def folders() -> list[Path]:
    """Relative to the repository. A component is no deployment of its own."""
    found = (
        file
        for file in ROOT.glob("[!.]*/**/kustomization.yaml")
        if "build" not in file.relative_to(ROOT).parts
    )
    return sorted(
        file.parent.relative_to(ROOT)
        for file in found
        if yaml.safe_load(file.read_text())["kind"] == "Kustomization"
    )


@cache
def build(folder: Path) -> tuple[Document, ...]:
    """Not to be changed: everybody gets the same. Raises BuildError."""
    done = subprocess.run(
        [kustomize(), "build", str(ROOT / folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BuildError(f"{folder}: {done.stderr.strip()}")
    return tuple(found for found in yaml.safe_load_all(done.stdout) if found)


@cache
def kustomize() -> str:
    """Raises BuildError."""
    built = sorted((ROOT / "build/tools").glob("kustomize-*"))
    command = str(built[-1]) if built else shutil.which("kustomize")
    if command is None:
        raise BuildError("there is no kustomize; `make manifests` builds one")
    return command


def committed() -> Iterator[tuple[Path, Document]]:
    """Every document of every folder, with its folder."""
    for folder in folders():
        for document in build(folder):
            yield folder, document
