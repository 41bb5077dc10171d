"""One deployment for all tests of this folder; `make e2e-cluster` says against which cluster."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.servers import Servers
from tests.cluster.stack import Options, Stack


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    # Run by root, the database is another user's, and every pytest that starts closes pytest's own folder to others.
    with tempfile.TemporaryDirectory(prefix="orderflow-") as folder:
        options = Options.from_environment(Path(folder))
        with (
            Servers(options.state / "servers", options.host, options.partitions) as servers,
            Stack(options, servers) as up,
        ):
            yield up
