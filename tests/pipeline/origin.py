"""The repository that the builds clone: this checkout's commits and no more."""

import subprocess
from pathlib import Path

from orderflow_sandbox.sandbox import ROOT
from tests.pipeline import bad

BRANCH = "main"
_AUTHOR = ("-c", "user.name=Pipeline", "-c", "user.email=pipeline@example.org")


class Origin:
    """In folder; the commit that is checked out is the newest of its branch."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "origin.git"
        self._folder = folder
        self.commit = git(ROOT, "rev-parse", "HEAD")
        git(folder, "clone", "--quiet", "--bare", str(ROOT), str(self.path))
        git(self.path, "update-ref", f"refs/heads/{BRANCH}", self.commit)
        git(self.path, "symbolic-ref", "HEAD", f"refs/heads/{BRANCH}")
        self.before = git(self.path, "rev-parse", f"{self.commit}~1")

    def clone(self, name: str, commit: str) -> Path:
        """A checkout of it."""
        there = self._folder / name
        git(self._folder, "clone", "--quiet", str(self.path), str(there))
        git(there, "checkout", "--quiet", "-B", BRANCH, commit)
        return there

    def spoiled(self) -> str:
        """A bad commit on top, pushed; its id."""
        there = self.clone("spoiling", self.commit)
        bad.spoil(there)
        git(there, *_AUTHOR, "commit", "--quiet", "--all", "--message", bad.MESSAGE)
        git(there, "push", "--quiet", "origin", BRANCH)
        return git(there, "rev-parse", "HEAD")


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
