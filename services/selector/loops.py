"""What runs by itself in the selector: the deadline of windows that never became complete."""

from selector.workflow import Selection
from shared.loops import Loop

LIMIT = 50


def deadline_loop(selection: Selection) -> Loop:
    async def turn() -> bool:
        return await selection.expire_due(limit=LIMIT) == LIMIT

    return Loop("deadlines", turn, pause_s=2.0)
