"""Compiles what an image imports, and gives it dates that do not depend on when it was built.

A process that starts from zero has no time to compile: without bytecode a stage takes four times as
long. Bytecode is marked "unchecked", since nobody changes a source inside an image, so neither is the
source looked at, nor does the bytecode carry its date.

    python bytecode.py FOLDER ...
    python bytecode.py --standard-library
"""

import argparse
import compileall
import os
import re
import sys
import sysconfig
from pathlib import Path
from py_compile import PycInvalidationMode

NEVER_IMPORTED = re.compile(r"/(site-packages|dist-packages|test|tests|idlelib|lib2to3|turtledemo)/")
"""In the standard library; packages have folders of their own."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Compile the Python below some folders and settle their dates."
    )
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--standard-library", action="store_true", help="of the Python that runs this")
    given = parser.parse_args()
    fine = True
    for folder in given.folders:
        fine = _compiled(folder, skipped=None) and fine
        _date(_below(folder))
    if given.standard_library:
        library = Path(sysconfig.get_path("stdlib"))
        fine = _compiled(library, skipped=NEVER_IMPORTED) and fine
        # Only what is new: a file that is touched is in the layer once more.
        for folder in library.rglob("__pycache__"):
            _date([*_below(folder), folder.parent])
    return 0 if fine else 1


def _compiled(folder: Path, *, skipped: re.Pattern[str] | None) -> bool:
    return bool(
        compileall.compile_dir(
            folder,
            quiet=1,
            rx=skipped,
            workers=0,
            invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
        )
    )


def _below(folder: Path) -> list[Path]:
    """Whatever is in a folder, before the folder itself: a change of the one dates the other."""
    return [*sorted(folder.rglob("*"), reverse=True), folder]


def _date(paths: list[Path]) -> None:
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    for path in paths:
        os.utime(path, (epoch, epoch), follow_symlinks=False)


if __name__ == "__main__":
    sys.exit(main())
