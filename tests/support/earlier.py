"""The release before this one, as it was: its code, with the packages that it named."""

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
    """python has its packages; migrations is its folder of them."""

    revision: str
    root: Path
    python: str

    @property
    def migrations(self) -> Path:
        return self.root / MIGRATIONS.relative_to(ROOT)


def before() -> str:
    """The last release's tag. While there is none: the commit before the newest migration came, or, where that is not
    committed yet, the present one. Raises NoHistoryError."""
    if tag := last_release(ROOT):
        return tag
    newest = MIGRATIONS / f"{required_migrations()[-1]}.sql"
    came = _git("log", "--max-count=1", "--diff-filter=A", "--format=%H", "--", str(newest))
    return _git("rev-parse", "--verify", f"{came}^" if came else "HEAD")


def unpacked(folder: Path) -> Release:
    """In a folder that is there and empty. Raises NoHistoryError."""
    revision = before()
    root = folder / "code"
    root.mkdir()
    unpack(ROOT, revision, root, ".")
    if (root / REQUIREMENTS).read_bytes() == (ROOT / REQUIREMENTS).read_bytes():
        return Release(revision, root, sys.executable)
    uv = str(Path(sys.executable).with_name("uv"))
    packages = folder / "packages"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(packages)], check=True)
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--require-hashes", "--requirement", str(root / REQUIREMENTS)],
        env=dict(os.environ) | {"VIRTUAL_ENV": str(packages)},
        check=True,
    )
    return Release(revision, root, str(packages / "bin/python"))


def _git(*command: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoHistoryError(f"git {command[0]}: {done.stderr.strip()}")
    return done.stdout.strip()
