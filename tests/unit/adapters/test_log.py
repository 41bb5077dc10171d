"""The end of a log is believed only where it is not short of what was to be read."""

from dataclasses import dataclass

import pytest

from orderflow.adapters.kafka.log import UnreadableError, _records_in_range
from orderflow.errors import TransientError


@dataclass
class Error:
    code: str

    def name(self) -> str:
        return self.code


@dataclass
class Message:
    """As confluent-kafka gives it: a record, or an error at an offset."""

    at: int
    code: str = ""

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.at

    def error(self) -> Error | None:
        return Error(self.code) if self.code else None


class Consumer:
    def __init__(self) -> None:
        self.completed = 0

    def incremental_unassign(self, places: list[object]) -> None:
        self.completed += len(places)


def read(pending: dict[int, int], *messages: Message) -> tuple[list[int], bool]:
    """The offsets of the records, and whether the partition is read to its end."""
    consumer = Consumer()
    records = _records_in_range(consumer, "t", list(messages), pending)  # type: ignore[arg-type]
    return [record.offset() or 0 for record in records], not pending


def test_an_end_below_what_was_to_be_read_is_no_end() -> None:
    """A new leader may not know yet what the old leader had confirmed."""
    pending = {0: 10}
    assert read(pending, Message(4), Message(5, "_PARTITION_EOF")) == ([4], False)
    assert read(pending, *(Message(offset) for offset in range(5, 10))) == ([5, 6, 7, 8, 9], True)


def test_an_end_behind_a_transactions_marker_is_an_end() -> None:
    assert read({0: 10}, Message(8), Message(10, "_PARTITION_EOF")) == ([8], True)


def test_a_record_behind_the_range_ends_it_and_is_left_out() -> None:
    assert read({0: 10}, Message(8), Message(12)) == ([8], True)


def test_a_record_that_cannot_be_unpacked_is_told_from_a_broker_that_is_away() -> None:
    with pytest.raises(UnreadableError):
        read({0: 10}, Message(4, "_BAD_COMPRESSION"))
    with pytest.raises(TransientError) as error:
        read({0: 10}, Message(4, "_ALL_BROKERS_DOWN"))
    assert not isinstance(error.value, UnreadableError)
