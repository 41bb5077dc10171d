"""Compiles what an image imports and lays it out below /image, from where the image takes it as it is.

A process that starts from zero has no time to compile: without bytecode a stage takes four times as long. Bytecode is
marked "unchecked", since nobody changes a source inside an image: so neither is the source looked at, nor does the
bytecode carry its date. All dates are SOURCE_DATE_EPOCH's and all modes the same, so that it does not matter when, and
from whose checkout, an image is built.

    python assemble.py FOLDER ...            # where they will be in the image, too
    python assemble.py --standard-library    # only the bytecode: the rest is in the base
    python assemble.py --release pyproject.toml FOLDER    # with a note of the version, as an installation leaves one
"""

import argparse
import compileall
import os
import re
import shutil
import stat
import sys
import sysconfig
import tomllib
from pathlib import Path
from py_compile import PycInvalidationMode

NEVER_IMPORTED = re.compile(r"/(site-packages|dist-packages|test|tests|idlelib|lib2to3|turtledemo)/")
"""In the standard library; packages have folders of their own."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Compile Python and lay it out for an image.")
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--standard-library", action="store_true", help="of the Python that runs this")
    parser.add_argument("--release", type=Path, help="the pyproject.toml of what is in the folders")
    parser.add_argument("--into", type=Path, default=Path("/image"), help="instead of /image")
    given = parser.parse_args()
    fine = True
    for folder in given.folders:
        if given.release:
            _note(given.release, folder)
        fine = _compiled(folder) and fine
        shutil.copytree(folder, given.into / folder.relative_to("/"), symlinks=True)
    if given.standard_library:
        library = Path(sysconfig.get_path("stdlib"))
        fine = _compiled(library, skipped=NEVER_IMPORTED) and fine
        for folder in library.rglob("__pycache__"):
            if not NEVER_IMPORTED.search(f"{folder}/"):
                shutil.copytree(folder, given.into / folder.relative_to("/"))
    _settle(given.into)
    return 0 if fine else 1


def _note(release: Path, folder: Path) -> None:
    """Where importlib.metadata looks for it: code that is copied, not installed, must know which release it is."""
    project = tomllib.loads(release.read_text())["project"]
    note = folder / f"{project['name']}-{project['version']}.dist-info/METADATA"
    note.parent.mkdir(exist_ok=True)
    note.write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")


def _compiled(folder: Path, skipped: re.Pattern[str] | None = None) -> bool:
    mode = PycInvalidationMode.UNCHECKED_HASH
    return bool(compileall.compile_dir(folder, quiet=1, rx=skipped, workers=0, invalidation_mode=mode))


def _settle(image: Path) -> None:
    """Dates and modes: whoever may run a file may run it in the image, and nobody may write."""
    date = int(os.environ["SOURCE_DATE_EPOCH"])
    # A folder after what is in it, since a change of the one dates the other.
    for path in [*sorted(image.rglob("*"), reverse=True), image]:
        if not path.is_symlink():
            runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if runs else 0o644)
        os.utime(path, (date, date), follow_symlinks=False)


if __name__ == "__main__":
    sys.exit(main())
