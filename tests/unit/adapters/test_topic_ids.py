"""The ids of topics, as librdkafka gives them."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import TopicCollection, Uuid
from confluent_kafka.admin import AdminClient

from orderflow.adapters.kafka.topic_ids import topic_ids
from orderflow.messaging.places import Place


class Admin:
    """An admin client of a broker that has one topic with that id."""

    def __init__(self, topic_id: Uuid) -> None:
        self._topic_id = topic_id

    def describe_topics(self, _: TopicCollection, **__: Any) -> dict[str, Future[Any]]:
        described: Future[Any] = Future()
        described.set_result(SimpleNamespace(topic_id=self._topic_id))
        return {"t": described}


@pytest.mark.parametrize("bits", [-1, 0, 0x3E3F_3E3F_3E3F_3E3F, -0x0410_4104_1041_0411])
def test_every_topics_id_makes_a_place_that_can_be_read_again(bits: int) -> None:
    admin = cast("AdminClient", Admin(Uuid(bits, bits)))
    place = Place(topic_ids(admin, ["t"], 1)["t"], 3, 7)
    assert Place.parse(str(place)) == place
