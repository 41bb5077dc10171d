"""Where kn order finds query: the options, the environment, or the sandbox on this machine."""

import os
from pathlib import Path

import pytest

from orderflow.kn_order import connection
from orderflow.kn_order.connection import Connection
from orderflow.kn_order.errors import OperatorError
from orderflow_sandbox.address import Address

QUERY = "http://127.0.0.1:8081"


def sandbox(state: Path, pid: int) -> None:
    """Writes the file that a sandbox writes."""
    state.mkdir()
    others = dict.fromkeys(("kafka", "database", "intake", "mailbox", "delivery"), "-")
    Address(pid=pid, query=QUERY, **others).save(state)


def test_the_sandbox_on_this_machine_is_found(tmp_path: Path) -> None:
    sandbox(tmp_path / "state", os.getpid())
    assert connection.find(None, None, {"USER": "anna"}, tmp_path / "state") == Connection(QUERY, "", "anna")


def test_a_sandbox_that_has_ended_is_not_found(tmp_path: Path) -> None:
    sandbox(tmp_path / "state", 2**22 + 1)
    with pytest.raises(OperatorError, match="ORDERFLOW_SERVER"):
        connection.find(None, None, {}, tmp_path / "state")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"pid": "x", "query": "y"}'])
def test_a_damaged_file_counts_as_no_sandbox(tmp_path: Path, content: str) -> None:
    (tmp_path / "sandbox.json").write_text(content)
    with pytest.raises(OperatorError, match="ORDERFLOW_SERVER"):
        connection.find(None, None, {}, tmp_path)


def test_the_option_comes_before_the_environment_and_that_before_the_sandbox(tmp_path: Path) -> None:
    sandbox(tmp_path / "state", os.getpid())
    environ = {"ORDERFLOW_SERVER": "http://query.example/", "ORDERFLOW_KEY": "ofk_1"}
    assert connection.find(None, None, environ, tmp_path / "state").server == "http://query.example"
    chosen = connection.find("https://other.example", None, environ, tmp_path / "state")
    assert (chosen.server, chosen.key) == ("https://other.example", "ofk_1")
