"""A SonarQube Community Build on loopback, for as long as it is needed.

It comes from Maven Central by its coordinates and its SHA-256 (sonarqube.lock), is unpacked once into build/sonarqube
and starts empty each time. Its Elasticsearch needs a whole JDK, which no package of ours has, and refuses to be run by
root: a root's server is run by another user.
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
"""Bytes: three JVMs, of 0.5 GB of heap each at most, and a scanner beside them."""
_DISK: Final = 3_000_000_000
"""Bytes: the archive, what is in it, a run's data."""
_START_SECONDS: Final = 600.0
_STOP_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.5
_ADMIN: Final = "admin"
_SHORT_LIVED: Final = "-XX:TieredStopAtLevel=1"
_JDK: Final = 21
_JDKS: Final = Path("/usr/lib/jvm")
_OF_A_JDK: Final = re.compile(r"^jdk\.jlink@(\d+)", re.MULTILINE)
"""The module that Elasticsearch wants and no JRE has, with its version."""


@dataclass(frozen=True, slots=True)
class SonarQube:
    """A running server. `token` sends analyses; name and password are the administrator's, for all other questions."""

    url: str
    logs: Path
    password: str = field(repr=False)
    token: str = field(default="", repr=False)
    name: str = _ADMIN

    def ask(self, path: str, /, **parameters: str | int) -> dict[str, Any]:
        """What GET api/`path` answers. Raises ServerFailedError, with the server's own words."""
        return self._call("GET", path, params=parameters)

    def tell(self, path: str, /, **parameters: str | int) -> dict[str, Any]:
        """What POST api/`path` answers, {} where it says nothing. Raises ServerFailedError."""
        return self._call("POST", path, data=parameters)

    def _call(self, method: str, path: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - httpx's own
        try:
            answer = httpx.request(
                method,
                f"{self.url}/api/{path}",
                auth=(self.name, self.password),
                timeout=60,
                trust_env=False,
                **more,
            )
        except httpx.HTTPError as error:
            raise ServerFailedError(
                f"SonarQube did not answer api/{path}: {error}; logs: {self.logs}"
            ) from error
        if answer.is_error:
            raise ServerFailedError(
                f"SonarQube answered api/{path} with {answer.status_code}: {answer.text[:500]}"
            )
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found


@contextlib.contextmanager
def sonarqube(
    folder: Path = FOLDER, *, user: str | None = None, cache: Path | None = None
) -> Iterator[SonarQube]:
    """A server that is up, with a password of its own and a token for analyses, and is stopped whatever happens.

    `user` runs it where we are root, `nobody` unless given. What it writes lies in `folder`/run-<our process id>, of
    which the logs are kept until a later start. `cache` is the user's cache folder unless given.

    Raises NotReadyError where the machine is too small or that user cannot run it, and ServerFailedError, with the end
    of its log, where it cannot be fetched or does not come up.
    """
    folder = folder.absolute()
    account = runner(user)
    java = jdk(os.environ.get("JAVA_HOME"), shutil.which("java"))
    folder.mkdir(parents=True, exist_ok=True)
    must_have_room(psutil.virtual_memory().available, shutil.disk_usage(folder).free)
    home = _unpacked(folder, cache or jars.user_cache())
    if account is not None:
        _must_be_readable(account, home, java)
    with served(java, home, _state(folder, home, account), account) as server:
        yield server


@contextlib.contextmanager
def served(java: Path, home: Path, state: Path, account: pwd.struct_passwd | None) -> Iterator[SonarQube]:
    """The server in `home`, run by `account` or by whoever runs this. Raises ServerFailedError."""
    server = SonarQube(f"http://{LOOPBACK}:{free_port()}", state / "logs", _ADMIN)
    child = Child(
        [str(java), "-jar", *_arguments(home, state, server.url)],
        console=server.logs / "console.log",
        on_orphaned=signal.SIGTERM,
        user=account.pw_name if account is not None else None,
        # It takes settings from variables of this name, as the scanner does, whose they are here.
        env={name: value for name, value in os.environ.items() if not name.startswith("SONAR_")},
    )
    try:
        _wait_until_up(server, child)
        yield _opened(server)
    finally:
        _stop(child)
        for name in ("data", "temp"):
            shutil.rmtree(state / name, ignore_errors=True)


def must_have_room(memory: int, disk: int) -> None:
    """In bytes, what is free. Raises NotReadyError."""
    for kind, free, needed in (("memory", memory, _MEMORY), ("disk", disk, _DISK)):
        if free < needed:
            raise NotReadyError(
                f"SonarQube needs {needed / 1e9:.1f} GB of {kind}, and {free / 1e9:.1f} GB are free"
            )


def runner(user: str | None) -> pwd.struct_passwd | None:
    """Who is to run it; None is whoever runs this. Raises NotReadyError."""
    if os.geteuid() != 0:
        if user is not None:
            raise NotReadyError(f"only root can have SonarQube run by another user, {user!r}")
        return None
    try:
        account = pwd.getpwnam(user or OTHER_USER)
    except KeyError:
        raise NotReadyError(
            f"there is no user {user or OTHER_USER!r} to run SonarQube, which root may not"
        ) from None
    if account.pw_uid == 0:
        raise NotReadyError("SonarQube must not be run by root")
    return account


def _unpacked(folder: Path, cache: Path) -> Path:
    """The server's own folder; fetched and unpacked where it is not there."""
    ((_, _, archive),) = jars.locked(LOCK)
    home = folder / Path(archive).stem.replace("sonar-application", "sonarqube")
    if home.exists():
        return home
    (file,) = jars.classpath(cache, LOCK)
    # Unpacked aside: what is there is whole.
    with tempfile.TemporaryDirectory(prefix="unpack-", dir=folder) as aside:
        with zipfile.ZipFile(file) as content:
            content.extractall(aside)
        (Path(aside) / home.name).rename(home)
    return home


def jdk(given: str | None, found: str | None, places: Path = _JDKS) -> Path:
    """A JDK's java: JAVA_HOME's, the PATH's, or one where Debian keeps them; the first that will do.

    Raises NotReadyError.
    """
    tried = [Path(given) / "bin/java"] if given else []
    tried += [Path(found)] if found else []
    tried += sorted(places.glob("*/bin/java"))
    for java in tried:
        with contextlib.suppress(OSError):
            told = subprocess.run([str(java), "--list-modules"], capture_output=True, text=True, check=False)  # noqa: S603
            if (version := _OF_A_JDK.search(told.stdout)) and int(version[1]) >= _JDK:
                return java
    raise NotReadyError(
        f"SonarQube needs a JDK {_JDK} or newer, for which a JRE is not enough; name its folder as JAVA_HOME "
        f"(looked at: {', '.join(map(str, tried)) or 'nothing'})"
    )


def _must_be_readable(account: pwd.struct_passwd, home: Path, java: Path) -> None:
    for file in (next((home / "lib").glob("*.jar")), java):
        asked = subprocess.run(  # noqa: S603 - our own command
            ["/bin/sh", "-c", 'test -r "$0"', str(file)],
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=[],
            check=False,
        )
        if asked.returncode != 0:
            closed = next((each for each in reversed(file.parents) if not each.stat().st_mode & 0o001), file)
            raise NotReadyError(
                f"{account.pw_name}, who is to run SonarQube, cannot read {file}: {closed} is closed"
            )


def _state(folder: Path, home: Path, account: pwd.struct_passwd | None) -> Path:
    """An empty folder of the server's. Those of processes that are gone are removed."""
    for left in folder.glob("run-*"):
        pid = left.name.removeprefix("run-")
        if not pid.isdecimal() or int(pid) == os.getpid() or not psutil.pid_exists(int(pid)):
            shutil.rmtree(left, ignore_errors=True)
    state = folder / f"run-{os.getpid()}"
    for name in (".", "data", "logs", "temp"):
        (state / name).mkdir()
    if account is not None:
        # The server writes to one folder of its own as well.
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
        # It lives for minutes: the better compiler would cost more than it saves.
        "sonar.web.javaAdditionalOpts": _SHORT_LIVED,
        "sonar.ce.javaAdditionalOpts": _SHORT_LIVED,
        # Memory maps need a vm.max_map_count that a machine seldom has.
        "sonar.search.javaAdditionalOpts": f"-Dnode.store.allow_mmap=false {_SHORT_LIVED}",
        "sonar.path.data": str(state / "data"),
        "sonar.path.logs": str(state / "logs"),
        "sonar.path.temp": str(state / "temp"),
        # It talks to nobody but us.
        "sonar.telemetry.enable": "false",
        "sonar.updatecenter.activate": "false",
    }
    (jar,) = (home / "lib").glob("sonar-application-*.jar")
    return [str(jar), *(f"-D{name}={value}" for name, value in settings.items())]


def _wait_until_up(server: SonarQube, child: Child) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while child.alive:
        with contextlib.suppress(ServerFailedError, ValueError):
            if server.ask("system/status")["status"] == "UP":
                return
        if time.monotonic() > deadline:
            raise _failed(f"SonarQube was not up in {_START_SECONDS:g} s", server.logs)
        child.wait(_POLL_SECONDS)
    raise _failed(f"SonarQube ended with exit code {child.returncode} instead of starting", server.logs)


def _failed(problem: str, logs: Path) -> ServerFailedError:
    """With what its parts call errors, and the line below each, which says why; else with the end of its own log."""
    told = []
    for log in sorted(logs.glob("*.log")):
        lines = log.read_text(errors="replace").splitlines()
        at = [number for number, line in enumerate(lines) if " ERROR " in line]
        told += [f"{log.name}: {line[:300]}" for number in at[:3] for line in lines[number : number + 2]]
    if told:
        return ServerFailedError("\n  ".join([f"{problem}; its logs are in {logs}", *told]))
    return with_log(problem, logs / "console.log")


def _opened(server: SonarQube) -> SonarQube:
    """With a password of its own, and a token."""
    password = f"aA1!{secrets.token_urlsafe(24)}"  # one of each kind that it asks for
    server.tell(
        "users/change_password", login=server.name, previousPassword=server.password, password=password
    )
    server = replace(server, password=password)
    made = server.tell("user_tokens/generate", name="analysis", type="GLOBAL_ANALYSIS_TOKEN")
    return replace(server, token=made["token"])


def _stop(child: Child) -> None:
    child.stop(Step(signal.SIGTERM, _STOP_SECONDS))
    # Its own processes are in its group: none is left behind where it was killed.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
