"""Gathers what many callers want written at about the same time into one write; knows nothing of what is written."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

ItemT = TypeVar("ItemT")
AnswerT = TypeVar("AnswerT")

WRITERS: Final = 2


@dataclass(frozen=True)
class _Waiting(Generic[ItemT, AnswerT]):
    item: ItemT
    answer: "asyncio.Future[AnswerT]"


class Gathering(Generic[ItemT, AnswerT]):
    """`write` gets at most `most` items and answers for each; what it raises, all of them are told.

    Whoever comes first after a pause is written at once; those who come within `every_s` of that go together.
    A write that hangs holds up nobody but its own items: meanwhile another goes on.
    """

    def __init__(
        self,
        write: Callable[[Sequence[ItemT]], Awaitable[Sequence[AnswerT]]],
        *,
        every_s: float,
        most: int,
    ) -> None:
        self._write = write
        self._every_s = every_s
        self._most = most
        self._queue: deque[_Waiting[ItemT, AnswerT]] = deque()
        self._writes: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._next_s = 0.0

    async def join(self, item: ItemT) -> AnswerT:
        """Wait until the item is written, and return the answer for it.

        Whoever is cancelled before the write begins takes its item back; after that it is written all the same.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[AnswerT] = loop.create_future()
        self._queue.append(_Waiting(item, answer))
        self._schedule(loop)
        return await answer

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        """In an empty context: what is bound there belongs to one caller, and the write is for many."""
        if self._timer is None and self._queue and len(self._writes) < WRITERS:
            self._timer = loop.call_at(max(loop.time(), self._next_s), self._begin, context=Context())

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer, self._next_s = None, loop.time() + self._every_s
        batch = self._take()
        if batch:
            write = loop.create_task(self._settle(batch))
            self._writes.add(write)
            write.add_done_callback(self._ended)
        self._schedule(loop)

    def _take(self) -> list[_Waiting[ItemT, AnswerT]]:
        batch: list[_Waiting[ItemT, AnswerT]] = []
        while self._queue and len(batch) < self._most:
            waiting = self._queue.popleft()
            if not waiting.answer.done():
                batch.append(waiting)
        return batch

    async def _settle(self, batch: Sequence[_Waiting[ItemT, AnswerT]]) -> None:
        items = [waiting.item for waiting in batch]
        (answers,) = await asyncio.gather(self._write(items), return_exceptions=True)
        if isinstance(answers, BaseException):
            _refuse(batch, answers)
        else:
            _tell(batch, answers)

    def _ended(self, write: "asyncio.Task[None]") -> None:
        self._writes.discard(write)
        self._schedule(asyncio.get_running_loop())


def _tell(batch: Sequence[_Waiting[ItemT, AnswerT]], answers: Sequence[AnswerT]) -> None:
    for waiting, answer in zip(batch, answers, strict=True):
        if not waiting.answer.done():
            waiting.answer.set_result(answer)


def _refuse(batch: Sequence[_Waiting[ItemT, AnswerT]], error: BaseException) -> None:
    for waiting in batch:
        if not waiting.answer.done():
            waiting.answer.set_exception(error)
