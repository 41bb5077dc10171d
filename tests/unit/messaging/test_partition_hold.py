"""Events of new partitions wait, others do not."""

import pytest
from support.events import paid

from orderflow.errors import TransientError
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.messaging.partition_hold import hold_back


async def handle(event: CloudEvent) -> str:
    return event.id


def event_of_partition(partition: str) -> CloudEvent:
    return paid("o-1").with_extensions(knativekafkapartition=partition)


@pytest.mark.parametrize("partition", ["4", "5", "100"])
async def test_what_comes_from_a_new_partition_comes_again(partition: str) -> None:
    with pytest.raises(TransientError):
        await hold_back(handle, 4)(event_of_partition(partition))


@pytest.mark.parametrize("partition", ["0", "3", "", "-1", "9" * 5000, "²"])
async def test_what_comes_from_an_old_partition_or_from_none_is_taken(partition: str) -> None:
    event = event_of_partition(partition)
    assert await hold_back(handle, 4)(event) == event.id


async def test_without_the_setting_nothing_is_held() -> None:
    assert hold_back(handle, None) is handle
