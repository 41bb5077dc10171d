"""`make contracts` writes the contracts; `make compatibility` compares their schemas with those of another revision.

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
    """Writes every contract, and deletes files of contracts that no longer exist."""
    contracts = {folder / path: text for path, text in files().items()}
    for obsolete in {file for file in folder.rglob("*.json") if file not in contracts}:
        obsolete.unlink()
    for file, content in contracts.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return 0


def compare(folder: Path, base: str, flags: Sequence[str]) -> int:
    """Compares the folder's schemas with those of a revision. The exit code is orderflow.contracts.compatibility's."""
    from orderflow.contracts import compatibility  # it needs jsonschema, a development dependency

    with tempfile.TemporaryDirectory() as old:
        try:
            revision = base or last_release(folder)
            if not revision:
                sys.stdout.write(f"{NO_RELEASE}, so there is nothing to be compatible with.\n")
                return 0
            unpack(folder, revision, Path(old), "schemas")
        except NoHistoryError as error:
            sys.stderr.write(f"{error}\n")
            return 2
        sys.stdout.write(f"compared with {revision}:\n")
        return compatibility.main([str(Path(old) / "schemas"), str(folder / "schemas"), *flags])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m orderflow.contracts", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    write_parser = verbs.add_parser("write", help="write every contract into a folder")
    compare_parser = verbs.add_parser(
        "compatibility", help="compare the schemas with those of another revision"
    )
    for subparser in (write_parser, compare_parser):
        subparser.add_argument("folder", type=Path)
    compare_parser.add_argument("--base", default="", help="a git revision; default: the last release")
    compare_parser.add_argument("--readers-first", action="store_true")
    add_option(parser)
    options = parser.parse_args(arguments)
    if options.verb == "write":
        return write(options.folder)
    return compare(options.folder, options.base, ["--readers-first"] if options.readers_first else [])


if __name__ == "__main__":
    sys.exit(main())
