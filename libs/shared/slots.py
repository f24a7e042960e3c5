"""Slots for long jobs in one process: a live job takes the next free one, however many recordings wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from heapq import heappop, heappush
from itertools import count

from shared.events import Lane

_RANK = {Lane.LIVE: 0, Lane.VOD: 1}


class Slots:
    """At most `total` holders at once. Waiters of one lane are served in order of arrival."""

    def __init__(self, total: int) -> None:
        self._free = total
        self._arrivals = count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def held(self, lane: Lane) -> AsyncIterator[None]:
        await self._take(lane)
        try:
            yield
        finally:
            self._give_back()

    async def _take(self, lane: Lane) -> None:
        if self._free > 0:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heappush(self._waiting, (_RANK[lane], next(self._arrivals), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back()
            raise

    def _give_back(self) -> None:
        while self._waiting:
            _rank, _arrival, turn = heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
