"""Jars from Maven Central, fetched as a lock file names them and checked by their hashes; Apache Kafka's by default.

`python -m orderflow_sandbox.servers.jars` resolves COORDINATES again and rewrites kafka-jars.lock. With a file and
coordinates as arguments it writes that lock instead.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
from jgo.maven import MavenContext, PythonResolver
from jgo.parse import Coordinate

from orderflow_sandbox.servers.errors import ServerFailedError

if TYPE_CHECKING:
    from collections.abc import Sequence

# log4j-slf4j-impl is the SLF4J binding; Kafka's own jars bring log4j-core of the same version.
COORDINATES = (
    "org.apache.kafka:kafka_2.13:4.1.2",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3",
)
LOCK = Path(__file__).with_name("kafka-jars.lock")

_REQUEST_TIMEOUT_SECONDS = 60
_PARALLEL_DOWNLOADS = 8


def user_cache() -> Path:
    """The folder of this user's downloads."""
    return platformdirs.user_cache_path("orderflow")


def locked(lock: Path = LOCK) -> list[tuple[str, str, str]]:
    """The lines of a lock: coordinate, SHA-256, path in a Maven repository."""
    lines = (line.split() for line in lock.read_text().splitlines() if line[:1] not in {"", "#"})
    return [(coordinate, sha256, path) for coordinate, sha256, path in lines]


def classpath(cache: Path, lock: Path = LOCK) -> list[Path]:
    """The files of the lock below `cache`, in the lock's order. Missing ones are fetched.

    Raises ServerFailedError where a file cannot be fetched or has another hash than in the lock.
    """
    repository = cache / "maven"
    jars = {repository / path: (coordinate, sha256) for coordinate, sha256, path in locked(lock)}
    missing = [jar for jar in jars if not jar.exists()]
    if missing:
        repository.mkdir(parents=True, exist_ok=True)
        # Fetched into a folder aside and moved after the check, so that a jar in the repository is always whole.
        with (
            tempfile.TemporaryDirectory(prefix="fetch-", dir=repository) as aside,
            ThreadPoolExecutor(_PARALLEL_DOWNLOADS) as pool,
        ):
            list(pool.map(lambda jar: _fetch(jar, *jars[jar], Path(aside), lock), missing))
    return list(jars)


def resolve(repository: Path, coordinates: Sequence[str] = COORDINATES) -> list[str]:
    """The lines of a new lock: coordinate, SHA-256, path in a Maven repository."""
    context = _context(repository)
    # Without raw, jgo takes the parent of the SLF4J binding for a BOM and resolves kafka-clients 3.8.
    dependencies = [
        context.create_dependency(
            replace(Coordinate.parse(coordinate), scope="compile", raw=True),
        )
        for coordinate in coordinates
    ]
    inputs, transitive = context.resolver.resolve(dependencies)
    artifacts = [d.artifact for d in (*inputs, *transitive) if d.scope in {"compile", "runtime"}]
    return [
        f"{a.groupId}:{a.artifactId}:{a.version} {_sha256(jar)} {jar.relative_to(repository)}"
        for a in artifacts
        for jar in [a.resolve()]
    ]


def _fetch(jar: Path, coordinate: str, sha256: str, aside: Path, lock: Path) -> None:
    group, artifact, version = coordinate.split(":")
    component = _context(aside).project(group, artifact).at_version(version)
    try:
        fetched = component.artifact(packaging=jar.suffix[1:]).resolve()
    except (OSError, RuntimeError) as error:
        raise ServerFailedError(f"cannot fetch {coordinate} from Maven Central: {error}") from error
    if _sha256(fetched) != sha256:
        raise ServerFailedError(f"{coordinate} from Maven Central is not the file that {lock.name} names")
    jar.parent.mkdir(parents=True, exist_ok=True)
    fetched.replace(jar)


def _context(repository: Path) -> MavenContext:
    return MavenContext(
        resolver=PythonResolver(),
        repo_cache=repository,
        timeout=_REQUEST_TIMEOUT_SECONDS,
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _rewrite(lock: Path, coordinates: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as repository:
        lines = resolve(Path(repository), coordinates)
    head = "# Written by python -m orderflow_sandbox.servers.jars; do not edit."
    lock.write_text("\n".join([head, *lines]) + "\n")


if __name__ == "__main__":
    _rewrite(*((Path(sys.argv[1]), sys.argv[2:]) if sys.argv[1:] else (LOCK, COORDINATES)))
