"""Cancellation: whom it is meant for, and how work in a thread lives through it."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def is_meant_for_us() -> bool:
    """Whether somebody has asked the running task to end; ask while handling a CancelledError."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def in_thread(call: Callable[..., T], *args: object) -> T:
    """As `asyncio.to_thread`, but a cancelled caller waits for the thread, which nothing stops, before it cleans up."""
    running = asyncio.ensure_future(asyncio.to_thread(call, *args))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
