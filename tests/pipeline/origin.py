"""The repository that the builds clone. It has the commits of this checkout, and not its uncommitted changes."""

import subprocess
from pathlib import Path

from orderflow_sandbox.sandbox import ROOT
from tests.pipeline import bad

BRANCH = "main"
_AUTHOR = ("-c", "user.name=Pipeline", "-c", "user.email=pipeline@example.org")


class Origin:
    """A bare repository in `folder`. The head of its branch is the commit that is checked out here."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "origin.git"
        self._folder = folder
        self.commit = git(ROOT, "rev-parse", "HEAD")
        git(folder, "clone", "--quiet", "--bare", str(ROOT), str(self.path))
        git(self.path, "update-ref", f"refs/heads/{BRANCH}", self.commit)
        git(self.path, "symbolic-ref", "HEAD", f"refs/heads/{BRANCH}")
        self.before = git(self.path, "rev-parse", f"{self.commit}~1")

    def clone(self, name: str, commit: str) -> Path:
        """Returns a checkout of the commit."""
        checkout = self._folder / name
        git(self._folder, "clone", "--quiet", str(self.path), str(checkout))
        git(checkout, "checkout", "--quiet", "-B", BRANCH, commit)
        return checkout

    def add_bad_commit(self) -> str:
        """Pushes a bad commit on top of the branch, and returns its id."""
        checkout = self.clone("spoiling", self.commit)
        bad.spoil(checkout)
        git(checkout, *_AUTHOR, "commit", "--quiet", "--all", "--message", bad.MESSAGE)
        git(checkout, "push", "--quiet", "origin", BRANCH)
        return git(checkout, "rev-parse", "HEAD")


def git(folder: Path, *arguments: str) -> str:
    process = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    )
    return process.stdout.strip()
