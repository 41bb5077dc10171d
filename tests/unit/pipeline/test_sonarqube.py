"""A temporary SonarQube: its requirements, how its start is detected, and that it leaves nothing behind.

Here the server is a short program; `make sonar` runs the real one.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from support.processes import runs
from support.waiting import until

from orderflow_sandbox.servers.errors import ServerFailedError
from pipeline.commands import NotReadyError
from pipeline.sonarqube import jdk, require_resources, runner, served

SERVER = """\
import json, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qsl
import base64

settings = dict(word[2:].split("=", 1) for word in sys.argv if word.startswith("-D"))
logs = Path(settings["sonar.path.logs"])
if Path(sys.argv[2]).with_name("broken").exists():
    (logs / "web.log").write_text("INFO all well\\n00:00 ERROR web[] it failed\\nbecause of this\\nmore\\n")
    sys.exit(0)
below = subprocess.Popen(["sleep", "600"])
Path(settings["sonar.path.temp"], "below").write_text(str(below.pid))
(logs / "below").write_text(str(below.pid))
requests = 0
password = "admin"


class Handler(BaseHTTPRequestHandler):
    def answer(self, code, content=None):
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode() if content else b"")

    def do_GET(self):
        global requests
        requests += 1
        self.answer(200, {"status": "UP" if requests > 2 else "STARTING"})

    def do_POST(self):
        global password
        form = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        expected = "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()
        if self.headers["Authorization"] != expected:
            return self.answer(401)
        if self.path.endswith("users/change_password"):
            password = form["password"]
            return self.answer(204)
        if self.path.endswith("user_tokens/generate"):
            return self.answer(200, {"token": f"of {form['type']}"})
        self.answer(404, {"errors": [{"msg": "no such thing"}]})

    def log_message(self, *_):
        pass


HTTPServer((settings["sonar.web.host"], int(settings["sonar.web.port"])), Handler).serve_forever()
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home/lib").mkdir(parents=True)
    (tmp_path / "home/lib/sonar-application-1.jar").touch()
    for name in ("data", "logs", "temp"):
        (tmp_path / "state" / name).mkdir(parents=True)
    return tmp_path / "home"


@pytest.fixture
def java(tmp_path: Path) -> Path:
    return program(tmp_path / "java", f"#!{sys.executable}\n{SERVER}")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def program(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o755)
    return file


def modules(file: Path, *names: str) -> Path:
    """A java that has these modules."""
    return program(file, f"#!/bin/sh\nprintf '%s\\n' {' '.join(names)}\n")


def test_it_is_up_with_a_password_of_its_own_and_a_token(java: Path, home: Path, state: Path) -> None:
    with served(java, home, state, None) as server:
        assert server.get("system/status") == {"status": "UP"}
        assert server.token == "of GLOBAL_ANALYSIS_TOKEN"
        assert server.password != "admin"
        assert server.password not in repr(server)
        assert server.token not in repr(server)
        with pytest.raises(ServerFailedError, match="no such thing"):
            server.post("nothing")


@pytest.mark.parametrize("end", [None, KeyboardInterrupt, RuntimeError])
def test_nothing_of_it_is_left_but_its_logs_however_it_ends(
    java: Path, home: Path, state: Path, end: type[BaseException] | None
) -> None:
    try:
        with served(java, home, state, None) as server:
            below = int((state / "logs/below").read_text())
            assert runs(below)
            if end is not None:
                raise end
    except (KeyboardInterrupt, RuntimeError) as error:
        assert type(error) is end  # noqa: PT017 - what is raised within comes out again
    until(lambda: not runs(below))
    assert [each.name for each in state.iterdir()] == ["logs"]
    with pytest.raises(ServerFailedError, match="did not answer"):
        server.get("system/status")


def test_one_that_does_not_come_up_says_why(java: Path, home: Path, state: Path) -> None:
    (home / "lib/broken").touch()
    with (
        pytest.raises(
            ServerFailedError, match=r"ended with exit code 0(?s:.*)it failed(?s:.*)because of this"
        ) as raised,
        served(java, home, state, None),
    ):
        pass
    assert "more" not in str(raised.value)
    assert str(state / "logs") in str(raised.value)


def test_a_machine_that_is_too_small_is_told_before_anything_is_fetched() -> None:
    require_resources(3_000_000_000, 4_000_000_000)
    with pytest.raises(NotReadyError, match=r"of memory, and 1\.0 GB are free"):
        require_resources(1_000_000_000, 4_000_000_000)
    with pytest.raises(NotReadyError, match=r"of disk, and 1\.0 GB are free"):
        require_resources(3_000_000_000, 1_000_000_000)


def test_a_jre_or_an_old_jdk_will_not_do(tmp_path: Path) -> None:
    modules(tmp_path / "a/bin/java", "java.base@25.0.1")
    modules(tmp_path / "b/bin/java", "java.base@17.0.1", "jdk.jlink@17.0.1")
    with pytest.raises(NotReadyError, match=r"needs a JDK 21(?s:.*)b/bin/java"):
        jdk(str(tmp_path / "nowhere"), None, tmp_path)
    good = modules(tmp_path / "c/bin/java", "java.base@21.0.1", "jdk.jlink@21.0.1")
    assert jdk(None, None, tmp_path) == good
    assert jdk(None, str(good), tmp_path / "nowhere") == good
    named = modules(tmp_path / "named/jdk/bin/java", "jdk.jlink@25.0.1")
    assert jdk(str(named.parents[1]), str(good), tmp_path) == named


def test_root_does_not_run_it_and_only_root_can_have_another_user_do_so() -> None:
    if os.geteuid() == 0:
        for user in ("root", "nobody-of-that-name"):
            with pytest.raises(NotReadyError):
                runner(user)
        account = runner("nobody")
        assert account is not None
        assert account.pw_name == "nobody"
    else:
        assert runner(None) is None
        with pytest.raises(NotReadyError, match="only root"):
            runner("nobody")
