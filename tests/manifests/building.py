"""The manifests that kustomize builds from each folder with a kustomization."""

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
    """kustomize rejects the folder or is missing. The message quotes kustomize."""


def folders() -> list[Path]:
    """The folders' paths relative to the repository, without components, which cannot be deployed alone."""
    files = (
        file
        for file in ROOT.glob("[!.]*/**/kustomization.yaml")
        if "build" not in file.relative_to(ROOT).parts
    )
    return sorted(
        file.parent.relative_to(ROOT)
        for file in files
        if yaml.safe_load(file.read_text())["kind"] == "Kustomization"
    )


@cache
def build(folder: Path) -> tuple[Document, ...]:
    """The folder's documents. Callers must not change them, because all callers share them. Raises BuildError."""
    process = subprocess.run(
        [kustomize(), "build", str(ROOT / folder)], capture_output=True, text=True, check=False
    )
    if process.returncode:
        raise BuildError(f"{folder}: {process.stderr.strip()}")
    return tuple(document for document in yaml.safe_load_all(process.stdout) if document)


@cache
def kustomize() -> str:
    """The command of kustomize. Raises BuildError where there is none."""
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
