"""The jars of Apache Kafka: resolved once into kafka-jars.lock, fetched by it, checked by hash; others' by their locks.

`python -m orderflow_sandbox.servers.jars` resolves COORDINATES again and rewrites the lock; with a file and coordinates
it writes another lock.
"""

import hashlib
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import platformdirs
from jgo.maven import MavenContext, PythonResolver
from jgo.parse import Coordinate

from orderflow_sandbox.servers.errors import ServerFailedError

# log4j-slf4j-impl is the SLF4J binding; Kafka's own jars bring log4j-core, of the same version.
COORDINATES = (
    "org.apache.kafka:kafka_2.13:4.1.2",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3",
)
LOCK = Path(__file__).with_name("kafka-jars.lock")

_REQUEST_TIMEOUT_SECONDS = 60
_PARALLEL_DOWNLOADS = 8


def user_cache() -> Path:
    """Where this user's downloads are kept."""
    return platformdirs.user_cache_path("orderflow")


def locked(lock: Path = LOCK) -> list[tuple[str, str, str]]:
    """A lock's lines: coordinate, SHA-256, path in a Maven repository."""
    lines = (line.split() for line in lock.read_text().splitlines() if line[:1] not in {"", "#"})
    return [(coordinate, sha256, path) for coordinate, sha256, path in lines]


def classpath(cache: Path, lock: Path = LOCK) -> list[Path]:
    """The locked files below `cache`, jars unless their paths say otherwise, in the lock's order; the missing ones are
    fetched.

    Raises ServerFailedError where one cannot be fetched or is not the one in the lock.
    """
    repository = cache / "maven"
    jars = {repository / path: (coordinate, sha256) for coordinate, sha256, path in locked(lock)}
    missing = [jar for jar in jars if not jar.exists()]
    if missing:
        repository.mkdir(parents=True, exist_ok=True)
        # Fetched aside and moved when checked: a jar that is there is whole.
        with (
            tempfile.TemporaryDirectory(prefix="fetch-", dir=repository) as aside,
            ThreadPoolExecutor(_PARALLEL_DOWNLOADS) as pool,
        ):
            list(pool.map(lambda jar: _fetch(jar, *jars[jar], Path(aside), lock), missing))
    return list(jars)


def resolve(repository: Path, coordinates: Sequence[str] = COORDINATES) -> list[str]:
    """The lock's lines: coordinate, SHA-256, path in a Maven repository."""
    context = _context(repository)
    # raw: without it jgo takes the binding's parent for a BOM, which makes kafka-clients 3.8.
    wanted = [
        context.create_dependency(
            replace(Coordinate.parse(coordinate), scope="compile", raw=True),
        )
        for coordinate in coordinates
    ]
    inputs, transitive = context.resolver.resolve(wanted)
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
        message = f"cannot fetch {coordinate} from Maven Central: {error}"
        raise ServerFailedError(message) from error
    if _sha256(fetched) != sha256:
        message = f"{coordinate} from Maven Central is not the file that {lock.name} names"
        raise ServerFailedError(message)
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
