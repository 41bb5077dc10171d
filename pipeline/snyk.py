"""Snyk's scans, and one verdict: `make snyk SCANS="dependencies code manifests"`.

Snyk exits with 1 where it found something, with 2 where it failed, with 3 where there was nothing that it knows. A
failure is no finding and no pass: it is tried again, and then is what it is. build/snyk/verdict says the same in one
word, since make has one exit code for all failures. Exit code 0: clean; 1: findings; 2: nothing is known.
"""

from __future__ import annotations

import argparse
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.commands import NotReadyError, run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.commands import Run

FOLDER: Final = Path("build/snyk")
ATTEMPTS: Final = 3
_FOUND: Final = 1


class Verdict(StrEnum):
    CLEAN = "clean"
    FINDINGS = "findings"
    FAILED = "failed"


def commands(image: str) -> dict[str, list[str]]:
    """Each scan's command; its report goes to build/snyk."""

    def scan(name: str, *words: str) -> list[str]:
        return ["snyk", *words, "--severity-threshold=high", f"--json-file-output={FOLDER / name}.json"]

    return {
        "dependencies": scan("dependencies", "test", "--file=requirements.txt", "--package-manager=pip"),
        "code": scan("code", "code", "test"),
        "manifests": scan("manifests", "iac", "test", "knative", "kafka-source", "kafka", "argo"),
        "image": scan("image", "container", "test", image, "--file=Dockerfile"),
    }


def scan(names: Sequence[str], image: str, execute: Run) -> dict[str, Verdict]:
    """The verdict of each scan. All are made, whatever the first one says."""
    known = commands(image)
    return {name: _one(known[name], execute) for name in names}


def _one(command: Sequence[str], execute: Run) -> Verdict:
    for _ in range(ATTEMPTS):
        code = execute(command)
        if code == 0:
            return Verdict.CLEAN
        if code == _FOUND:
            return Verdict.FINDINGS
    return Verdict.FAILED


def overall(verdicts: Mapping[str, Verdict]) -> Verdict:
    """A finding is one whatever else failed; without any, a failure says that nothing is known."""
    found = set(verdicts.values())
    for verdict in (Verdict.FINDINGS, Verdict.FAILED):
        if verdict in found:
            return verdict
    return Verdict.CLEAN if verdicts else Verdict.FAILED


def main(arguments: Sequence[str] | None = None, execute: Run = run) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.snyk", description=__doc__)
    parser.add_argument("scans", nargs="+", choices=[*commands("")])
    parser.add_argument("--image", default="")
    given = parser.parse_args(arguments)
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "verdict").write_text(f"{Verdict.FAILED}\n")
    try:
        if not os.environ.get("SNYK_TOKEN"):
            raise NotReadyError("SNYK_TOKEN is not set; it is the credential snyk-token")  # noqa: TRY301
        if "image" in given.scans and not given.image:
            raise NotReadyError("the image to scan is not named: make snyk SCANS=image IMAGE=...")  # noqa: TRY301
        verdicts = scan(given.scans, given.image, execute)
    except NotReadyError as error:
        sys.stderr.write(f"snyk: {error}\n")
        return 2
    for name, verdict in verdicts.items():
        sys.stdout.write(f"snyk {name}: {verdict}\n")
    verdict = overall(verdicts)
    (FOLDER / "verdict").write_text(f"{verdict}\n")
    if verdict is Verdict.FAILED:
        sys.stderr.write("snyk: it failed, so nothing is known; this is no finding\n")
    return list(Verdict).index(verdict)


if __name__ == "__main__":
    sys.exit(main())
