"""A SonarQube Community Build on loopback, for as long as a command needs it.

It is downloaded from Maven Central by its coordinates and SHA-256 (sonarqube.lock), unpacked once into build/sonarqube,
and starts empty each time. Its Elasticsearch needs a JDK, which no Python package has, and refuses to run as root: for
root another user runs the server.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import psutil

from orderflow_sandbox.address import LOOPBACK, free_port
from orderflow_sandbox.servers import jars
from orderflow_sandbox.servers.child import Child, Step
from orderflow_sandbox.servers.errors import ServerFailedError, with_log
from pipeline.commands import NotReadyError

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER: Final = Path("build/sonarqube")
LOCK: Final = Path(__file__).with_name("sonarqube.lock")
OTHER_USER: Final = "nobody"
_MEMORY: Final = 2_500_000_000
"""Bytes: three JVMs with at most 0.5 GB of heap each, and a scanner."""
_DISK: Final = 3_000_000_000
"""Bytes: the archive, its content, the data of a run."""
_START_SECONDS: Final = 600.0
_STOP_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.5
_ADMIN: Final = "admin"
_SHORT_LIVED: Final = "-XX:TieredStopAtLevel=1"
_JDK: Final = 21
_JDKS: Final = Path("/usr/lib/jvm")
_JDK_MODULE: Final = re.compile(r"^jdk\.jlink@(\d+)", re.MULTILINE)
"""A module that Elasticsearch needs and no JRE has, with its version."""


@dataclass(frozen=True, slots=True)
class SonarQube:
    """A running server. Analyses need `token`; all other requests need the administrator's name and password."""

    url: str
    logs: Path
    password: str = field(repr=False)
    token: str = field(default="", repr=False)
    name: str = _ADMIN

    def get(self, path: str, /, **parameters: str | int) -> dict[str, Any]:
        """Returns the answer to GET api/`path`. Raises ServerFailedError with the server's message."""
        return self._request("GET", path, params=parameters)

    def post(self, path: str, /, **parameters: str | int) -> dict[str, Any]:
        """Returns the answer to POST api/`path`, {} where that is empty. Raises ServerFailedError."""
        return self._request("POST", path, data=parameters)

    def _request(self, method: str, path: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - as httpx
        try:
            answer = httpx.request(
                method,
                f"{self.url}/api/{path}",
                auth=(self.name, self.password),
                timeout=60,
                trust_env=False,
                **options,
            )
        except httpx.HTTPError as error:
            raise ServerFailedError(
                f"SonarQube did not answer api/{path}: {error}; logs: {self.logs}"
            ) from error
        if answer.is_error:
            raise ServerFailedError(
                f"SonarQube answered api/{path} with {answer.status_code}: {answer.text[:500]}"
            )
        content: dict[str, Any] = answer.json() if answer.content else {}
        return content


@contextlib.contextmanager
def sonarqube(
    folder: Path = FOLDER, *, user: str | None = None, cache: Path | None = None
) -> Iterator[SonarQube]:
    """A running server with a random password and a token for analyses. It is always stopped at the end.

    Where this process is root, `user` runs the server (default: nobody). The server writes to `folder`/run-<id of this
    process>; the logs in it stay until a later start. `cache` is the user's cache folder by default.

    Raises NotReadyError where the machine is too small or the user cannot run the server, and ServerFailedError, with
    the end of the log, where the server cannot be downloaded or does not start.
    """
    folder = folder.absolute()
    account = runner(user)
    java = jdk(os.environ.get("JAVA_HOME"), shutil.which("java"))
    folder.mkdir(parents=True, exist_ok=True)
    require_resources(psutil.virtual_memory().available, shutil.disk_usage(folder).free)
    home = _unpack(folder, cache or jars.user_cache())
    if account is not None:
        _require_readable(account, home, java)
    with served(java, home, _prepare_state(folder, home, account), account) as server:
        yield server


@contextlib.contextmanager
def served(java: Path, home: Path, state: Path, account: pwd.struct_passwd | None) -> Iterator[SonarQube]:
    """Runs the server of `home` as `account`, or as the user of this process. Raises ServerFailedError."""
    server = SonarQube(f"http://{LOOPBACK}:{free_port()}", state / "logs", _ADMIN)
    child = Child(
        [str(java), "-jar", *_arguments(home, state, server.url)],
        console=server.logs / "console.log",
        on_orphaned=signal.SIGTERM,
        user=account.pw_name if account is not None else None,
        # The server reads settings from these variables too; here they are meant for the scanner.
        env={name: value for name, value in os.environ.items() if not name.startswith("SONAR_")},
    )
    try:
        _wait_until_up(server, child)
        yield _secured(server)
    finally:
        _stop(child)
        for name in ("data", "temp"):
            shutil.rmtree(state / name, ignore_errors=True)


def require_resources(memory: int, disk: int) -> None:
    """Takes the free bytes of each. Raises NotReadyError."""
    for kind, free, needed in (("memory", memory, _MEMORY), ("disk", disk, _DISK)):
        if free < needed:
            raise NotReadyError(
                f"SonarQube needs {needed / 1e9:.1f} GB of {kind}, and {free / 1e9:.1f} GB are free"
            )


def runner(user: str | None) -> pwd.struct_passwd | None:
    """The account that runs the server; None for the user of this process. Raises NotReadyError."""
    if os.geteuid() != 0:
        if user is not None:
            raise NotReadyError(f"only root can have SonarQube run by another user, {user!r}")
        return None
    try:
        account = pwd.getpwnam(user or OTHER_USER)
    except KeyError:
        raise NotReadyError(
            f"there is no user {user or OTHER_USER!r} to run SonarQube, which refuses to run as root"
        ) from None
    if account.pw_uid == 0:
        raise NotReadyError("SonarQube refuses to run as root")
    return account


def _unpack(folder: Path, cache: Path) -> Path:
    """Returns the folder of the server, and downloads and unpacks it first where the folder is missing."""
    ((_, _, archive),) = jars.locked(LOCK)
    home = folder / Path(archive).stem.replace("sonar-application", "sonarqube")
    if home.exists():
        return home
    (file,) = jars.classpath(cache, LOCK)
    # Unpack elsewhere and rename: an existing folder is always complete.
    with tempfile.TemporaryDirectory(prefix="unpack-", dir=folder) as temporary:
        with zipfile.ZipFile(file) as content:
            content.extractall(temporary)
        (Path(temporary) / home.name).rename(home)
    return home


def jdk(java_home: str | None, java_on_path: str | None, jdks: Path = _JDKS) -> Path:
    """The java of the first sufficient JDK: that of JAVA_HOME, the one on the PATH, or one in Debian's folder of JDKs.

    Raises NotReadyError.
    """
    candidates = [Path(java_home) / "bin/java"] if java_home else []
    candidates += [Path(java_on_path)] if java_on_path else []
    candidates += sorted(jdks.glob("*/bin/java"))
    for java in candidates:
        with contextlib.suppress(OSError):
            done = subprocess.run([str(java), "--list-modules"], capture_output=True, text=True, check=False)  # noqa: S603
            if (version := _JDK_MODULE.search(done.stdout)) and int(version[1]) >= _JDK:
                return java
    raise NotReadyError(
        f"SonarQube needs a JDK {_JDK} or newer, and not only a JRE; set JAVA_HOME to its folder "
        f"(tried: {', '.join(map(str, candidates)) or 'nothing'})"
    )


def _require_readable(account: pwd.struct_passwd, home: Path, java: Path) -> None:
    for file in (next((home / "lib").glob("*.jar")), java):
        done = subprocess.run(  # noqa: S603 - a fixed command
            ["/bin/sh", "-c", 'test -r "$0"', str(file)],
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=[],
            check=False,
        )
        if done.returncode != 0:
            closed = next((each for each in reversed(file.parents) if not each.stat().st_mode & 0o001), file)
            raise NotReadyError(
                f"the user {account.pw_name}, who runs SonarQube, cannot read {file}: {closed} is not open to others"
            )


def _prepare_state(folder: Path, home: Path, account: pwd.struct_passwd | None) -> Path:
    """Makes the empty folder for the server's files, and removes those of processes that have ended."""
    for old in folder.glob("run-*"):
        pid = old.name.removeprefix("run-")
        if not pid.isdecimal() or int(pid) == os.getpid() or not psutil.pid_exists(int(pid)):
            shutil.rmtree(old, ignore_errors=True)
    state = folder / f"run-{os.getpid()}"
    for name in (".", "data", "logs", "temp"):
        (state / name).mkdir()
    if account is not None:
        # The server also writes to `extensions` in its own folder.
        for each in (state, *state.iterdir(), home / "extensions", *(home / "extensions").rglob("*")):
            os.chown(each, account.pw_uid, account.pw_gid)
    return state


def _arguments(home: Path, state: Path, url: str) -> list[str]:
    settings = {
        "sonar.web.host": LOOPBACK,
        "sonar.web.port": url.rpartition(":")[2],
        "sonar.search.host": LOOPBACK,
        "sonar.search.port": "0",
        "sonar.embeddedDatabase.port": str(free_port()),
        # The server runs for minutes, in which C2 would cost more than it saves.
        "sonar.web.javaAdditionalOpts": _SHORT_LIVED,
        "sonar.ce.javaAdditionalOpts": _SHORT_LIVED,
        # Memory maps need a higher vm.max_map_count than the default of Linux.
        "sonar.search.javaAdditionalOpts": f"-Dnode.store.allow_mmap=false {_SHORT_LIVED}",
        "sonar.path.data": str(state / "data"),
        "sonar.path.logs": str(state / "logs"),
        "sonar.path.temp": str(state / "temp"),
        # No connections to SonarSource.
        "sonar.telemetry.enable": "false",
        "sonar.updatecenter.activate": "false",
    }
    (jar,) = (home / "lib").glob("sonar-application-*.jar")
    return [str(jar), *(f"-D{name}={value}" for name, value in settings.items())]


def _wait_until_up(server: SonarQube, child: Child) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while child.alive:
        with contextlib.suppress(ServerFailedError, ValueError):
            if server.get("system/status")["status"] == "UP":
                return
        if time.monotonic() > deadline:
            raise _failed(f"SonarQube was not up in {_START_SECONDS:g} s", server.logs)
        child.wait(_POLL_SECONDS)
    raise _failed(f"SonarQube ended with exit code {child.returncode} instead of starting", server.logs)


def _failed(problem: str, logs: Path) -> ServerFailedError:
    """Adds the first errors of each log, with the line below each; without any, the end of the console."""
    errors = []
    for log in sorted(logs.glob("*.log")):
        lines = log.read_text(errors="replace").splitlines()
        numbers = [number for number, line in enumerate(lines) if " ERROR " in line]
        errors += [
            f"{log.name}: {line[:300]}" for number in numbers[:3] for line in lines[number : number + 2]
        ]
    if errors:
        return ServerFailedError("\n  ".join([f"{problem}; its logs are in {logs}", *errors]))
    return with_log(problem, logs / "console.log")


def _secured(server: SonarQube) -> SonarQube:
    """Sets a random password, and makes a token."""
    password = f"aA1!{secrets.token_urlsafe(24)}"  # SonarQube asks for each kind of character
    server.post(
        "users/change_password", login=server.name, previousPassword=server.password, password=password
    )
    server = replace(server, password=password)
    answer = server.post("user_tokens/generate", name="analysis", type="GLOBAL_ANALYSIS_TOKEN")
    return replace(server, token=answer["token"])


def _stop(child: Child) -> None:
    child.stop(Step(signal.SIGTERM, _STOP_SECONDS))
    # A server that was killed leaves processes behind; they are in its process group.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
