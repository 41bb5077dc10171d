"""The programs that a run needs besides Python packages, and where to get each."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from orderflow_sandbox.sandbox import ROOT

BUILT: Final = ROOT / "build/tools"
"""`make pipeline-tools` builds these programs."""
BUILT_PROGRAMS: Final = ("buildkitd", "buildx", "cosign", "syft")
PROGRAMS: Final[Mapping[str, str]] = {
    "git": "Debian's package of that name",
    "make": "Debian's package of that name",
    "node": "Node 20",
    "npm": "Node 20",
    "docker": "docker's client, and an engine",
    "docker-registry": "Debian's package of that name",
    "htpasswd": "Debian's package apache2-utils",
    "runc": "Debian's package of that name, for buildkitd",
    "kubectl": "the cluster's version",
    "prometheus": "Debian's package of that name",
    "setsid": "Debian's package util-linux",
}


def missing(docker: str) -> list[str]:
    """A sentence for each missing program. `docker` is the command of docker's client."""
    sources = {docker if name == "docker" else name: source for name, source in PROGRAMS.items()}
    sentences = [f"{name}: {source}" for name, source in sources.items() if shutil.which(name) is None]
    return sentences + [
        f"{name}: `make pipeline-tools` builds it" for name in BUILT_PROGRAMS if not (BUILT / name).exists()
    ]


def install(folder: Path) -> Path:
    """Fills the folder that comes first on the PATH of the agents. Its `snyk` is the stand-in."""
    folder.mkdir(parents=True)
    (folder / "cosign").symlink_to(BUILT / "cosign")
    (folder / "snyk").symlink_to(Path(__file__).parent / "stand_in/snyk")
    return folder
