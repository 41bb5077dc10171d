"""The embedded Kafka and PostgreSQL, with the real programs."""

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from confluent_kafka import Consumer, Producer
from support.waiting import DEADLINE_SECONDS, until

from orderflow_sandbox.servers.errors import ServerFailedError, TopicMismatchError
from orderflow_sandbox.servers.kafka import EmbeddedKafka
from orderflow_sandbox.servers.nodes import Quorum, choose_ports
from orderflow_sandbox.servers.postgres import EmbeddedPostgres
from orderflow_sandbox.servers.topics import admin_client, create_topics


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka(tmp_path_factory.mktemp("own-kafka")) as server:
        create_topics(server.bootstrap, ["records"], partitions=1)
        yield server


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(tmp_path_factory.mktemp("own-postgres")) as server:
        with psycopg.connect(server.url) as connection:
            connection.execute("CREATE TABLE stored (value text)")
        yield server


def kill(server: EmbeddedKafka | EmbeddedPostgres) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: server.pid is None)


def produce(bootstrap: str, topic: str, value: bytes) -> None:
    errors: list[object] = []
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "acks": "all"})
    producer.produce(topic, value, on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(DEADLINE_SECONDS) == 0
    assert errors == [None]


def consume(bootstrap: str, topic: str) -> list[bytes]:
    """All records of a topic with one partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": uuid.uuid4().hex,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
        },
    )
    consumer.subscribe([topic])
    values: list[bytes] = []
    deadline = time.monotonic() + DEADLINE_SECONDS
    try:
        while time.monotonic() < deadline:
            record = consumer.poll(0.1)
            if record is not None and record.error():
                return values
            if record is not None:
                values.append(record.value() or b"")
    finally:
        consumer.close()
    pytest.fail(f"the end of {topic} was not reached; only {values} came")


def stored_values(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [value for (value,) in connection.execute("SELECT value FROM stored ORDER BY value")]


def store(url: str, value: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO stored VALUES (%s)", [value])


def test_an_acked_record_survives_stop_and_kill_at_the_same_address(kafka: EmbeddedKafka) -> None:
    address = kafka.bootstrap
    produce(address, "records", b"before the stop")
    kafka.stop()
    assert kafka.start() == address
    produce(address, "records", b"before the kill")
    kill(kafka)
    assert kafka.start() == address
    assert consume(address, "records") == [b"before the stop", b"before the kill"]


def test_topics_are_created_once_and_with_all_their_partitions(kafka: EmbeddedKafka) -> None:
    for _ in range(2):
        create_topics(kafka.bootstrap, ["several", "empty"], partitions=3)
    topics = admin_client(kafka.bootstrap).list_topics(timeout=DEADLINE_SECONDS).topics
    assert len(topics["several"].partitions) == 3
    assert len(topics["empty"].partitions) == 3


def test_another_partition_count_is_refused_before_anything_is_created(
    kafka: EmbeddedKafka,
) -> None:
    with pytest.raises(TopicMismatchError, match="topic records has 1 partitions, not 2"):
        create_topics(kafka.bootstrap, ["never-created", "records"], partitions=2)
    topics = admin_client(kafka.bootstrap).list_topics(timeout=DEADLINE_SECONDS).topics
    assert "never-created" not in topics


def test_no_topic_comes_into_being_by_asking_for_it(kafka: EmbeddedKafka) -> None:
    admin = admin_client(kafka.bootstrap)
    admin.list_topics("requested-topic", timeout=DEADLINE_SECONDS)
    assert "requested-topic" not in admin.list_topics(timeout=DEADLINE_SECONDS).topics


def test_kafka_listens_on_loopback_only(kafka: EmbeddedKafka) -> None:
    assert kafka.pid is not None
    addresses = [
        connection.laddr.ip
        for connection in psutil.Process(kafka.pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert addresses
    assert {address.removeprefix("::ffff:") for address in addresses} == {"127.0.0.1"}


def test_a_kafka_that_is_given_a_host_tells_clients_that_address(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path, host="127.0.0.2") as server:
        brokers = admin_client(server.bootstrap).list_topics(timeout=DEADLINE_SECONDS).brokers.values()
        assert [(broker.host, str(broker.port)) for broker in brokers] == [tuple(server.bootstrap.split(":"))]
        assert server.bootstrap.startswith("127.0.0.2:")


def test_a_second_kafka_on_the_same_state_is_refused_by_name(kafka: EmbeddedKafka) -> None:
    second = EmbeddedKafka(kafka.state, start_seconds=0.2)
    with pytest.raises(ServerFailedError, match=f"runs already on .* \\(process {kafka.pid}\\)"):
        second.start()
    assert admin_client(kafka.bootstrap).list_topics(timeout=DEADLINE_SECONDS).brokers


def test_a_kafka_that_cannot_start_names_its_log(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    tmp_path.joinpath("data").write_text("not a folder")
    broken = EmbeddedKafka(tmp_path)
    with pytest.raises(ServerFailedError, match=rf"its log is {tmp_path}/\w+\.log"):
        broken.start()
    assert kafka.pid is not None


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_the_servers_die_with_a_parent_that_is_killed_and_start_again(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib, threading\n"
        "from orderflow_sandbox.servers.kafka import EmbeddedKafka\n"
        "from orderflow_sandbox.servers.postgres import EmbeddedPostgres\n"
        "state = pathlib.Path(sys.argv[1])\n"
        "kafka, postgres = EmbeddedKafka(state / 'kafka'), EmbeddedPostgres(state / 'pg')\n"
        "for server in (kafka, postgres):\n"
        # As from asyncio.to_thread: the thread that starts a server may end before it.
        "    starter = threading.Thread(target=server.start)\n"
        "    starter.start()\n"
        "    starter.join()\n"
        "print(kafka.pid, postgres.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(psutil.pid_exists(pid) for pid in pids)
        parent.kill()
    with EmbeddedKafka(tmp_path / "kafka"), EmbeddedPostgres(tmp_path / "pg"):
        assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_pid_file_of_a_dead_run_is_no_hindrance(kafka: EmbeddedKafka) -> None:
    kafka.stop()
    kafka.state.joinpath("kafka.pid").write_text(str(os.getpid()))
    kafka.start()
    assert kafka.pid is not None


def test_a_cluster_id_may_begin_with_a_dash(tmp_path: Path) -> None:
    ports = choose_ports()
    quorum = Quorum("-DUGtV5TSqmpgvV8dSqlRw", {1: ports.controller})
    with EmbeddedKafka(tmp_path, ports=ports, quorum=quorum) as server:
        assert admin_client(server.bootstrap).list_topics(timeout=10).cluster_id == quorum.cluster_id


def test_a_port_that_others_took_is_left_to_them(kafka: EmbeddedKafka) -> None:
    kafka.stop()
    host, port = kafka.bootstrap.split(":")
    with socket.create_server((host, int(port))):
        assert kafka.start() != f"{host}:{port}"
        produce(kafka.bootstrap, "records", b"after the move")


def test_a_committed_row_survives_stop_and_kill_at_the_same_url(
    postgres: EmbeddedPostgres,
) -> None:
    url = postgres.url
    store(url, "1 before the stop")
    postgres.stop()
    assert postgres.start() == url
    store(url, "2 before the kill")
    kill(postgres)
    assert postgres.start() == url
    assert stored_values(url) == ["1 before the stop", "2 before the kill"]


def test_a_stopped_postgres_is_gone(postgres: EmbeddedPostgres) -> None:
    pid = postgres.pid
    assert pid is not None
    postgres.stop()
    assert not psutil.pid_exists(pid)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(postgres.url)
    postgres.start()


def test_a_postmaster_pid_of_another_process_is_no_hindrance(postgres: EmbeddedPostgres) -> None:
    postgres.stop()
    postgres.state.joinpath("data", "postmaster.pid").write_text(f"{os.getpid()}\n")
    postgres.start()
    assert postgres.pid is not None


def test_a_second_postgres_on_the_same_state_is_refused_by_name(
    postgres: EmbeddedPostgres,
) -> None:
    second = EmbeddedPostgres(postgres.state, start_seconds=0.2)
    with pytest.raises(ServerFailedError, match=f"runs already on .* \\(process {postgres.pid}\\)"):
        second.start()
    assert postgres.pid is not None


def test_postgres_keeps_full_durability(postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.url) as connection:
        settings = connection.execute(
            "SELECT current_setting('fsync'), current_setting('synchronous_commit'),"
            " current_setting('full_page_writes'),"
            " current_setting('server_version_num')::int / 10000",
        ).fetchone()
    assert settings == ("on", "on", "on", 18)


def test_postgres_listens_where_its_settings_say(tmp_path: Path) -> None:
    port = str(choose_ports("127.0.0.2").broker)
    settings = {"listen_addresses": "127.0.0.2", "port": port}
    with (
        EmbeddedPostgres(tmp_path, settings=settings) as server,
        psycopg.connect(server.url.partition("host=")[0] + f"host=127.0.0.2&port={port}") as over_tcp,
    ):
        assert over_tcp.execute("SELECT current_setting('port')").fetchone() == (port,)


def test_a_long_state_path_gets_a_short_socket(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / ("long" * 30)) as server, psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_postgres_that_cannot_start_names_its_log(tmp_path: Path) -> None:
    broken = EmbeddedPostgres(tmp_path, settings={"max_connections": "many"})
    with pytest.raises(ServerFailedError, match=rf"its log is {tmp_path}/console\.log"):
        broken.start()


def test_a_fresh_database_is_empty(fresh_database: str) -> None:
    with psycopg.connect(fresh_database) as connection:
        tables = connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'",
        ).fetchone()
    assert tables == (0,)


def test_the_shared_broker_answers(kafka_bootstrap: str) -> None:
    topic = f"shared-{uuid.uuid4().hex}"
    create_topics(kafka_bootstrap, [topic], partitions=1)
    produce(kafka_bootstrap, topic, b"one")
    assert consume(kafka_bootstrap, topic) == [b"one"]
