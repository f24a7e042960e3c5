"""Tells a cancellation that is meant for the running task from one that leaked out of what it awaited."""

import asyncio


def is_meant_for_us() -> bool:
    """Whether somebody has asked the running task to end; ask while handling a CancelledError."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
