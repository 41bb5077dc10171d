"""Batches of what is in flight: rules of the Batcher."""

import asyncio
from collections.abc import Sequence

import pytest

from orderflow.errors import TransientError
from orderflow.messaging.batching import Batcher

Item = tuple[str, int]


class Work:
    """Records what was run together; each batch ends when the test says so."""

    def __init__(self) -> None:
        self.batches: list[list[Item]] = []
        self.open = asyncio.Semaphore(0)
        self.bad: dict[Item, Exception] = {}

    async def run(self, items: Sequence[Item]) -> None:
        self.batches.append(list(items))
        await self.open.acquire()
        for item in items:
            if item in self.bad:
                raise self.bad[item]


def submitted(coalescer: Batcher[Item], items: Sequence[Item]) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(coalescer.submit(item)) for item in items]


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_the_first_item_starts_at_once_and_what_came_meanwhile_goes_together() -> None:
    work = Work()
    coalescer = Batcher(work.run, lambda item: item[0], parallel=1)
    tasks = submitted(coalescer, [("a", 1)])
    await settled()
    assert work.batches == [[("a", 1)]]
    tasks += submitted(coalescer, [("b", 1), ("c", 1), ("d", 1)])
    await settled()
    assert len(work.batches) == 1
    work.open.release()
    await settled()
    assert work.batches[1] == [("b", 1), ("c", 1), ("d", 1)]
    work.open.release()
    await asyncio.gather(*tasks)


async def test_two_of_one_key_are_never_in_flight_together_and_keep_their_sequence() -> None:
    work = Work()
    coalescer = Batcher(work.run, lambda item: item[0], parallel=3)
    items = [(key, number) for number in range(5) for key in "ab"]
    tasks = submitted(coalescer, items)
    for _ in range(20):
        await settled()
        work.open.release()
    await asyncio.gather(*tasks)
    assert all(len({key for key, _ in batch}) == len(batch) for batch in work.batches)
    for key in "ab":
        assert [number for batch in work.batches for each, number in batch if each == key] == [0, 1, 2, 3, 4]


async def test_a_bad_item_does_not_fail_its_neighbours() -> None:
    work = Work()
    work.bad[("b", 1)] = ValueError("bad")
    coalescer = Batcher(work.run, lambda item: item[0])
    for _ in range(10):
        work.open.release()
    tasks = submitted(coalescer, [("a", 1), ("b", 1), ("c", 1)])
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in results] == [type(None), ValueError, type(None)]


async def test_trouble_that_is_everyones_is_not_tried_item_by_item() -> None:
    work = Work()
    work.bad[("a", 1)] = TransientError("away")
    coalescer = Batcher(work.run, lambda item: item[0])
    for _ in range(10):
        work.open.release()
    results = await asyncio.gather(*submitted(coalescer, [("a", 1), ("b", 1)]), return_exceptions=True)
    assert all(isinstance(each, TransientError) for each in results)
    assert len(work.batches) == 1


async def test_a_batch_has_an_end() -> None:
    work = Work()
    coalescer = Batcher(work.run, lambda item: item[0], max_items=2, parallel=1)
    for _ in range(10):
        work.open.release()
    await asyncio.gather(*submitted(coalescer, [(str(number), 1) for number in range(7)]))
    assert max(map(len, work.batches)) == 2


async def test_an_item_whose_caller_went_away_does_not_hold_up_its_key() -> None:
    work = Work()
    coalescer = Batcher(work.run, lambda item: item[0], parallel=1)
    (gone,) = submitted(coalescer, [("a", 1)])
    await settled()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    work.open.release()
    work.open.release()
    await asyncio.gather(*submitted(coalescer, [("a", 2)]))


async def test_what_is_submitted_in_the_moment_in_which_the_last_batch_ends_does_not_wait_for_ever() -> None:
    async def at_once(_: Sequence[Item]) -> None:
        return

    coalescer = Batcher(at_once, lambda item: item[0], parallel=1)

    async def a_moment_later() -> None:
        await asyncio.sleep(0)
        await coalescer.submit(("b", 1))

    # The worker of the first item runs right before the second is submitted, and has not been tidied away yet.
    await asyncio.wait_for(asyncio.gather(coalescer.submit(("a", 1)), a_moment_later()), 5)


async def test_a_batch_that_hangs_fails_in_time_and_frees_its_key_and_its_slot() -> None:
    work = Work()
    batcher = Batcher(work.run, lambda item: item[0], parallel=1, seconds=0.05)
    with pytest.raises(TransientError, match="was not done within"):
        await batcher.submit(("a", 1))
    work.open.release()
    await batcher.submit(("a", 2))
    assert work.batches == [[("a", 1)], [("a", 2)]]


async def test_an_item_whose_caller_has_given_up_while_it_waited_is_left_out() -> None:
    work = Work()
    batcher = Batcher(work.run, lambda item: item[0], parallel=1)
    tasks = submitted(batcher, [("a", 1)])
    await settled()
    given_up, *others = submitted(batcher, [("b", 1), ("c", 1)])
    await settled()
    given_up.cancel()
    await settled()
    for _ in range(2):
        work.open.release()
    await asyncio.gather(*tasks, *others)
    assert work.batches == [[("a", 1)], [("c", 1)]]


async def test_where_too_many_items_wait_a_further_one_is_refused() -> None:
    work = Work()
    batcher = Batcher(work.run, lambda item: item[0], parallel=1, max_pending=2)
    tasks = submitted(batcher, [("a", 1)])
    await settled()
    tasks += submitted(batcher, [("b", 1), ("c", 1)])
    await settled()
    with pytest.raises(TransientError, match="too many"):
        await batcher.submit(("d", 1))
    for _ in range(2):
        work.open.release()
    await asyncio.gather(*tasks)
