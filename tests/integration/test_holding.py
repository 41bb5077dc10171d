"""The setting HOLD_FROM_PARTITION in each stage that a KafkaSource feeds. Each stage starts as in its manifest."""

from pathlib import Path

import pytest
from support.events import paid
from support.stage import Stage

NOTIFICATIONS = """
[shop]
name = "Shop"
url = "https://shop.example"
[email]
from = "orders@shop.example"
smtp_url = "smtp://127.0.0.1:1"
"""


@pytest.mark.parametrize("name", ["validate", "track", "notify", "shelve"])
def test_events_of_new_partitions_come_again_and_others_get_as_far_as_ever(name: str, tmp_path: Path) -> None:
    """Kafka and the database are away, so an event that is not held back fails for another reason."""
    (tmp_path / "notifications.toml").write_text(NOTIFICATIONS)
    environment = {
        "KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "KAFKA_ACK_SECONDS": "0.5",
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "DATABASE_WAIT_SECONDS": "0.5",
        "NOTIFICATIONS_FILE": str(tmp_path / "notifications.toml"),
        "HOLD_FROM_PARTITION": "64",
    }
    with Stage(name, tmp_path / "log", **environment) as stage:
        new, old = (
            stage.binary(paid("o-1"), **{"ce-knativekafkapartition": partition}) for partition in ("64", "63")
        )
    assert new.status_code == 503
    assert "held back" in new.text
    assert "held back" not in old.text
