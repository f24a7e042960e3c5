"""Slots: bounded, live first, and none is lost when a waiter goes away."""

import asyncio

from shared.events import Lane
from shared.slots import Slots


class Jobs:
    """Jobs that note when they begin, and end when told."""

    def __init__(self, total: int) -> None:
        self.slots = Slots(total)
        self.begun: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}

    async def _run(self, name: str, lane: Lane) -> None:
        async with self.slots.held(lane):
            self.begun.append(name)
            await self.ends[name].wait()

    async def start(self, name: str, lane: Lane) -> "asyncio.Task[None]":
        self.ends[name] = asyncio.Event()
        task = asyncio.create_task(self._run(name, lane))
        await settle()
        return task

    async def end(self, name: str) -> None:
        self.ends[name].set()
        await settle()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_more_jobs_run_than_there_are_slots() -> None:
    jobs = Jobs(2)
    for name in "abc":
        await jobs.start(name, Lane.LIVE)
    assert ["a", "b"] == jobs.begun
    await jobs.end("a")
    assert ["a", "b", "c"] == jobs.begun


async def test_a_live_job_goes_before_recordings_that_came_earlier() -> None:
    jobs = Jobs(1)
    await jobs.start("running", Lane.VOD)
    await jobs.start("vod 1", Lane.VOD)
    await jobs.start("vod 2", Lane.VOD)
    await jobs.start("live", Lane.LIVE)
    for name in ("running", "live", "vod 1"):
        await jobs.end(name)
    assert ["running", "live", "vod 1", "vod 2"] == jobs.begun


async def test_a_waiter_that_goes_away_loses_no_slot() -> None:
    jobs = Jobs(1)
    await jobs.start("running", Lane.LIVE)
    waiting = await jobs.start("waiting", Lane.LIVE)
    waiting.cancel()
    await settle()
    await jobs.end("running")
    await jobs.start("next", Lane.VOD)
    assert ["running", "next"] == jobs.begun


async def test_a_waiter_cancelled_at_its_turn_passes_the_slot_on() -> None:
    jobs = Jobs(1)
    holder = jobs.slots.held(Lane.LIVE)
    await holder.__aenter__()
    waiting = await jobs.start("waiting", Lane.LIVE)
    await jobs.start("last", Lane.VOD)
    await holder.__aexit__(None, None, None)
    waiting.cancel()  # its turn has come, and it has not woken yet
    await settle()
    assert waiting.cancelled()
    assert ["last"] == jobs.begun
