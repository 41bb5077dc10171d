"""One deployment for all tests of this folder; `make e2e-cluster` names the cluster."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.servers import Servers
from tests.cluster.stack import Options, Stack


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    # Where root runs the tests, the database belongs to another user, who cannot enter pytest's own temporary folder.
    with tempfile.TemporaryDirectory(prefix="orderflow-") as folder:
        options = Options.from_environment(Path(folder))
        with (
            Servers(options.state / "servers", options.host, options.partitions) as servers,
            Stack(options, servers) as deployed_stack,
        ):
            yield deployed_stack
