"""Many callers, few writes: who goes with whom, and what each is told."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest

from ingest.adapters.gathering import WRITERS, Gathering

PATIENCE_S = 5.0


class Writes:
    """Notes what is written together, and answers when it may."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, ...]] = []
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def __call__(self, items: Sequence[str]) -> list[str]:
        self.batches.append(tuple(items))
        await self.may_end.wait()
        if "broken" in items:
            raise ValueError("broken")
        return [item.upper() for item in items]


@pytest.fixture
def writes() -> Writes:
    return Writes()


async def until_written(writes: Writes, count: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while len(writes.batches) < count:
            await asyncio.sleep(0)


async def test_the_first_is_written_at_once_and_who_comes_after_it_goes_together(writes: Writes) -> None:
    gathering: Gathering[str, str] = Gathering(writes, every_s=0.02, most=10)
    assert "A" == await gathering.join("a")
    assert ["B", "C", "D"] == await asyncio.gather(*map(gathering.join, "bcd"))
    assert [("a",), ("b", "c", "d")] == writes.batches


async def test_no_write_takes_more_than_the_most(writes: Writes) -> None:
    gathering: Gathering[str, str] = Gathering(writes, every_s=0.0, most=2)
    await asyncio.gather(*map(gathering.join, "abcde"))
    assert [("a", "b"), ("c", "d"), ("e",)] == writes.batches


async def test_all_of_a_write_are_told_what_it_raises(writes: Writes) -> None:
    gathering: Gathering[str, str] = Gathering(writes, every_s=0.0, most=10)
    told = await asyncio.gather(*map(gathering.join, ["a", "broken"]), return_exceptions=True)
    assert [ValueError, ValueError] == [type(each) for each in told]
    assert "C" == await gathering.join("c")


async def test_who_is_cancelled_before_the_write_takes_the_item_back(writes: Writes) -> None:
    gathering: Gathering[str, str] = Gathering(writes, every_s=0.02, most=10)
    await gathering.join("a")
    withdrawn, other = [asyncio.ensure_future(gathering.join(item)) for item in "bc"]
    await asyncio.sleep(0)
    withdrawn.cancel()
    assert "C" == await other
    assert [("a",), ("c",)] == writes.batches


async def test_a_write_that_hangs_holds_up_only_its_own_items(writes: Writes) -> None:
    gathering: Gathering[str, str] = Gathering(writes, every_s=0.0, most=10)
    writes.may_end.clear()
    hanging = asyncio.ensure_future(gathering.join("a"))
    await until_written(writes, 1)
    writes.may_end = asyncio.Event()
    writes.may_end.set()
    assert "B" == await gathering.join("b")
    assert not hanging.done()
    hanging.cancel()
    with suppress(asyncio.CancelledError):
        await hanging


async def test_no_more_than_the_writers_write_at_a_time(writes: Writes) -> None:
    gathering: Gathering[str, str] = Gathering(writes, every_s=0.0, most=1)
    writes.may_end.clear()
    joining = asyncio.gather(*map(gathering.join, "abcd"))
    await until_written(writes, WRITERS)
    for _ in range(20):
        await asyncio.sleep(0)
    assert WRITERS == len(writes.batches)
    writes.may_end.set()
    assert list("ABCD") == await joining


async def test_a_write_goes_on_when_one_of_its_callers_leaves(writes: Writes) -> None:
    gathering: Gathering[str, str] = Gathering(writes, every_s=0.02, most=10)
    await gathering.join("a")
    leaving = asyncio.ensure_future(gathering.join("b"))
    writes.may_end.clear()
    staying = asyncio.ensure_future(gathering.join("c"))
    await until_written(writes, 2)
    leaving.cancel()
    writes.may_end.set()
    assert "C" == await staying
