"""The previous release: its code, and an environment with the packages that its requirements.txt names."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from orderflow.adapters.postgres.schema import MIGRATIONS, required_migrations
from orderflow.contracts.history import NoHistoryError, last_release, unpack
from support.stage import ROOT

REQUIREMENTS = "requirements.txt"


@dataclass(frozen=True, slots=True)
class Release:
    """python is the interpreter of an environment with the release's packages."""

    revision: str
    root: Path
    python: str

    @property
    def migrations(self) -> Path:
        """The folder of its migrations, wherever it was in that release."""
        (folder,) = (self.root / "orderflow").rglob("migrations")
        return folder


def previous_revision() -> str:
    """The tag of the last release. If there is no release yet: the parent of the commit that added the newest
    migration, or the current commit where that migration is not committed. Raises NoHistoryError."""
    if tag := last_release(ROOT):
        return tag
    # In any folder, and without renames: a commit that only moved the migration did not add it.
    path = f":(glob)**/{MIGRATIONS.name}/{required_migrations()[-1]}.sql"
    log = ("log", "--find-renames", "--max-count=1", "--diff-filter=A", "--format=%H")
    added_by = _git(*log, "--", path)
    return _git("rev-parse", "--verify", f"{added_by}^" if added_by else "HEAD")


def unpacked(folder: Path) -> Release:
    """Unpacks the release into an empty folder. Raises NoHistoryError."""
    revision = previous_revision()
    root = folder / "code"
    root.mkdir()
    unpack(ROOT, revision, root, ".")
    if (root / REQUIREMENTS).read_bytes() == (ROOT / REQUIREMENTS).read_bytes():
        return Release(revision, root, sys.executable)
    uv = str(Path(sys.executable).with_name("uv"))
    packages = folder / "packages"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(packages)], check=True)
    # The release itself is a package too: its code asks for its version.
    for what in (["--require-hashes", "--requirement", str(root / REQUIREMENTS)], ["--no-deps", str(root)]):
        subprocess.run(
            [uv, "pip", "install", "--quiet", *what],
            env=dict(os.environ) | {"VIRTUAL_ENV": str(packages)},
            check=True,
        )
    return Release(revision, root, str(packages / "bin/python"))


def _git(*command: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoHistoryError(f"git {command[0]}: {done.stderr.strip()}")
    return done.stdout.strip()
