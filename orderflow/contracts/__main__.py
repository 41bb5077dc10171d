"""`make contracts` writes the contracts; `make compatibility` holds their schemas against another revision's.

python -m orderflow.contracts write FOLDER
python -m orderflow.contracts compatibility FOLDER [--base REVISION] [--readers-first]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from orderflow.contracts.documents import files
from orderflow.contracts.history import NO_RELEASE, NoHistoryError, last_release, unpack
from orderflow.version import add_option

if TYPE_CHECKING:
    from collections.abc import Sequence


def write(folder: Path) -> int:
    """Writes every contract, and takes away what is none any more."""
    wanted = {folder / path: text for path, text in files().items()}
    for stale in {file for file in folder.rglob("*.json") if file not in wanted}:
        stale.unlink()
    for file, content in wanted.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return 0


def compare(folder: Path, base: str, options: Sequence[str]) -> int:
    """The exit code of orderflow.contracts.compatibility for the schemas in the folder and those of a revision."""
    from orderflow.contracts import compatibility  # it needs jsonschema, which only developers have

    with tempfile.TemporaryDirectory() as old:
        try:
            revision = base or last_release(folder)
            if not revision:
                sys.stdout.write(f"{NO_RELEASE}, so nothing to be compatible with.\n")
                return 0
            unpack(folder, revision, Path(old), "schemas")
        except NoHistoryError as error:
            sys.stderr.write(f"{error}\n")
            return 2
        sys.stdout.write(f"held against {revision}:\n")
        return compatibility.main([str(Path(old) / "schemas"), str(folder / "schemas"), *options])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m orderflow.contracts", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    writing = verbs.add_parser("write", help="write every contract into a folder")
    comparing = verbs.add_parser("compatibility", help="hold the schemas against another revision's")
    for each in (writing, comparing):
        each.add_argument("folder", type=Path)
    comparing.add_argument("--base", default="", help="a revision of git; left out: the last release")
    comparing.add_argument("--readers-first", action="store_true")
    add_option(parser)
    given = parser.parse_args(arguments)
    if given.verb == "write":
        return write(given.folder)
    return compare(given.folder, given.base, ["--readers-first"] if given.readers_first else [])


if __name__ == "__main__":
    sys.exit(main())
