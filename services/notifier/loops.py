"""What runs by itself: the courier, which keeps as many attempts in flight as are due and allowed, and the cleaner."""

import asyncio
from collections.abc import Iterable

import structlog

from notifier.domain.delivery import Claim, Result
from notifier.workflow import Deliveries, Ledger
from shared.database import DatabaseUnavailable
from shared.loops import Loop

log = structlog.get_logger()

POLL_S = 0.5
CLEANING_PAUSE_S = 60.0


class Courier:
    """Each turn records what has ended since the last one, in one transaction, and claims what is due.

    `wake` is set after a commit that made something due, and whenever an attempt ends.
    """

    def __init__(self, deliveries: Deliveries, *, wake: asyncio.Event, concurrency: int) -> None:
        self._deliveries = deliveries
        self._wake = wake
        self._concurrency = concurrency
        self._running: dict[asyncio.Task[Result], Claim] = {}
        self._claiming: asyncio.Task[None] | None = None

    def loop(self) -> Loop:
        return Loop("deliveries", self.turn, pause_s=POLL_S, wake=self._wake)

    @property
    def in_flight(self) -> int:
        """Attempts that run, or that ended and are not recorded yet."""
        return len(self._running)

    async def turn(self) -> bool:
        self._wake.clear()
        await self._record_ended()
        free = self._concurrency - len(self._running)
        if free > 0:
            # Shielded: a claim that is cancelled on its way back would hold its leases until they expire.
            self._claiming = asyncio.create_task(self._claim(at_most=free))
            await asyncio.shield(self._claiming)
        return False

    async def stop(self, *, grace_s: float) -> None:
        """Let attempts end for a while, cancel and give back the others, record what there is."""
        if self._claiming is not None:
            await asyncio.gather(self._claiming, return_exceptions=True)
        if self._running:
            await asyncio.wait(self._running, timeout=grace_s)
        late = [task for task in self._running if not task.done()]
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        given_back = [self._running.pop(task) for task in late]
        try:
            await self._deliveries.release(given_back)
            await self._record_ended()
        except DatabaseUnavailable as error:
            log.warning("leases_left_to_expire", reason=str(error), deliveries=len(late))

    async def _claim(self, *, at_most: int) -> None:
        for claim in await self._deliveries.claim(at_most=at_most):
            self._start(claim)

    def _start(self, claim: Claim) -> None:
        task = asyncio.create_task(self._deliveries.attempt(claim), name=claim.delivery_id)
        self._running[task] = claim
        task.add_done_callback(lambda _done: self._wake.set())

    async def _record_ended(self) -> None:
        """What ended stays among the running until it is on record, so a failing database loses nothing."""
        ended = [task for task in self._running if task.done()]
        if not ended:
            return
        await self._deliveries.record(list(self._results(ended)))
        for task in ended:
            del self._running[task]

    def _results(self, ended: Iterable[asyncio.Task[Result]]) -> Iterable[Result]:
        for task in ended:
            error = task.exception()
            yield task.result() if error is None else self._deliveries.broken(self._running[task], error)


def cleaner(ledger: Ledger, *, keep_days: int) -> Loop:
    """Forgets deliveries, with bodies and log, that ended longer ago than `keep_days`."""

    async def turn() -> bool:
        return await ledger.forget(keep_days=keep_days)

    return Loop("cleaner", turn, pause_s=CLEANING_PAUSE_S)
