"""Fills the gaps of a run that is over from a recording: align, cut, archive, tell.

It goes from one group of neighbouring gaps to the next. Each is committed by itself under the job's fence, so whoever
takes over goes on behind it. What cannot be filled is told with the reason.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from ingest.domain import repair
from ingest.domain.media_body import MediaBody
from ingest.domain.recorder import Followed
from ingest.domain.repair import CutPiece, CutPlan, Filled, GapGroup, Refusal
from ingest.domain.ts import read_clock
from ingest.domain.windows import Window, WindowPlan
from ingest.workflow.archive import Archive, Kept
from ingest.workflow.ports import FetchedSegment, LeaseLost
from ingest.workflow.repair_ports import (
    GapOutcome,
    Job,
    OpenRecording,
    RecordingCutter,
    RecordingRegister,
    RecordingUnusable,
    RepairJobs,
    Task,
)
from shared import metrics, trace
from shared.clock import Clock
from shared.database import DatabaseUnavailable
from shared.errors import PermanentError, PipelineError, RetryableError
from shared.events import RecordingAvailable, SegmentRef
from shared.ids import WindowId
from shared.keyring import Keyring, SecretUnreadable
from shared.logs import bound
from shared.loops import Loop
from shared.middleware import UnitOfWork
from shared.repairs import repair_epoch

log = structlog.get_logger()

MOST_PIECE_BYTES: Final = 128 * 1024**2  # one is read into memory
UNREADABLE: Final = "Its sealed address cannot be opened with the keys of this installation."


class TooSlow(RetryableError):
    """A recording took longer than one attempt may."""

    code = "repair_too_slow"


class Broken(PermanentError):
    """Every attempt at a recording ended without a word: whoever worked on it was killed, or broke."""

    code = "repair_broken"


@dataclass(frozen=True, kw_only=True)
class RepairPolicy:
    """`attempt_s` bounds one attempt at a recording, `attempts` how often a recording is tried."""

    plan: WindowPlan
    lease_s: float = 30.0
    attempts: int = 4
    pause_s: float = 30.0
    attempt_s: float = 900.0


class RecordingIntake:
    """State handler; works in the transaction of its message."""

    def __init__(self, *, register: RecordingRegister, wake: asyncio.Event) -> None:
        self._register = register
        self._wake = wake

    async def on_recording_available(self, event: RecordingAvailable, unit: UnitOfWork) -> None:
        await self._register.add(unit.session, event)
        asyncio.get_running_loop().call_later(0.05, self._wake.set)


class Repairs:
    """The repairs that this replica does, one recording at a time."""

    def __init__(
        self,
        *,
        owner: str,
        jobs: RepairJobs,
        cutter: RecordingCutter,
        archive: Archive,
        keyring: Keyring,
        clock: Clock,
        policy: RepairPolicy,
        wake: asyncio.Event,
    ) -> None:
        self._owner = owner
        self._jobs = jobs
        self._cutter = cutter
        self._archive = archive
        self._keyring = keyring
        self._clock = clock
        self._policy = policy
        self._wake = wake
        self._doing: asyncio.Task[None] | None = None

    def loop(self) -> Loop:
        return Loop("repairs", self.turn, pause_s=2.0, wake=self._wake)

    async def turn(self) -> bool:
        """Begin with one recording whose run is over, unless one is being worked on; a turn itself is short."""
        self._wake.clear()
        if self._doing is not None:
            return False
        jobs = await self._jobs.claim(self._owner, limit=1, lease_s=self._policy.lease_s)
        for job in jobs:
            with bound(stream_id=job.stream_id, organization_id=job.organization_id):
                self._doing = asyncio.create_task(self.do(job), name=f"repair {job.stream_id}")
                self._doing.add_done_callback(self._done)
        return False

    def _done(self, task: "asyncio.Task[None]") -> None:
        """One that broke keeps its claim until that runs out: nothing is tried in a tight circle."""
        self._doing = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            metrics.loop_failures.labels("ingest", "repair", type(error).__name__).inc()
            log.error("repair_failed", exc_info=error)
        self._wake.set()

    async def stop(self) -> None:
        """Give back what is being worked on: another replica goes on behind the last gap at once."""
        if self._doing is not None:
            self._doing.cancel()
            await asyncio.gather(self._doing, return_exceptions=True)

    async def do(self, job: Job) -> None:
        """Repair what the job's recording can repair."""
        try:
            async with self._held(job):
                await self._attempt(job)
        except LeaseLost as lost:
            log.warning("repair_lost", recording_id=job.recording_id, reason=str(lost))
        except asyncio.CancelledError:
            with suppress(DatabaseUnavailable):
                await asyncio.shield(self._jobs.release(job))
            raise

    @asynccontextmanager
    async def _held(self, job: Job) -> AsyncIterator[None]:
        keeping = asyncio.create_task(self._keep(job))
        try:
            yield
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping

    async def _keep(self, job: Job) -> None:
        while True:
            await asyncio.sleep(self._policy.lease_s / 3)
            with suppress(DatabaseUnavailable):
                await self._jobs.extend(job, lease_s=self._policy.lease_s)

    async def _attempt(self, job: Job) -> None:
        task = await self._jobs.open(job)
        if task is None or not task.gaps:
            log.info("nothing_to_repair", recording_id=job.recording_id)
            await self._jobs.finish(job)
            return
        with trace.span("repair", parent=task.traceparent, attributes={"tldr.stream_id": job.stream_id}):
            await self._repair(job, task)

    async def _repair(self, job: Job, task: Task) -> None:
        try:
            if job.attempts > self._policy.attempts:
                raise Broken(f"{self._policy.attempts} attempts broke off")
            await self._fill_in_time(job, task)
        except LeaseLost:
            raise
        except RetryableError as error:
            if job.attempts < self._policy.attempts:
                log.warning("repair_postponed", recording_id=job.recording_id, reason=str(error))
                await self._jobs.postpone(job, pause_s=self._policy.pause_s * 2 ** (job.attempts - 1))
                return
            await self._give_up(job, error)
        except PermanentError as error:
            await self._give_up(job, error)
        await self._jobs.finish(job)

    async def _fill_in_time(self, job: Job, task: Task) -> None:
        try:
            async with asyncio.timeout(self._policy.attempt_s):
                await self._fill_all(job, task)
        except TimeoutError as error:
            raise TooSlow(f"the repair took longer than {self._policy.attempt_s:g} s") from error

    async def _give_up(self, job: Job, error: PipelineError) -> None:
        """What stands already stays; of every other gap it is told that, and why, it stays."""
        log.warning("repair_given_up", recording_id=job.recording_id, code=error.code, reason=str(error))
        task = await self._jobs.open(job)
        for group in repair.grouped(task.gaps) if task else ():
            assert task is not None
            await self._commit(job, self._failed(task.stream, group, f"{error.code}: {error}"))

    async def _fill_all(self, job: Job, task: Task) -> None:
        """The address is asked only where there is something to cut."""
        planned = [
            (group, repair.plan_cut(group.whole, task.recording)) for group in repair.grouped(task.gaps)
        ]
        for group, plan in planned:
            if isinstance(plan, Refusal):
                await self._commit(job, self._failed(task.stream, group, plan.reason))
        cuts = [(group, plan) for group, plan in planned if isinstance(plan, CutPlan)]
        if cuts:
            async with self._cutter.open(self._address(task)) as recording:
                for group, plan in cuts:
                    await self._commit(job, await self._fill(task, group, plan, recording))

    def _address(self, task: Task) -> str:
        try:
            return self._keyring.decrypt(task.sealed_url, context=f"stream:{task.stream.stream_id}")
        except SecretUnreadable as error:
            raise RecordingUnusable(UNREADABLE) from error

    async def _fill(
        self, task: Task, group: GapGroup, plan: CutPlan, recording: OpenRecording
    ) -> tuple[GapOutcome, ...]:
        first = group.gaps[0]
        epoch = repair_epoch(first.index, revision=first.revision)
        pieces = [piece async for piece in self._archived(task.stream, recording, plan, epoch=epoch)]
        segments = repair.placed(pieces, epoch=epoch, plan=plan, recording=task.recording)
        windows = repair.windows_of(segments, self._policy.plan, excluded=task.excluded)
        if segments and not windows:
            return self._failed(task.stream, group, repair.ONLY_ADS_THERE)
        segments = repair.within(windows, segments)
        came_out = repair.filled(plan, segments)
        if isinstance(came_out, Refusal):
            return self._failed(task.stream, group, came_out.reason)
        return self._filled(task.stream, group, came_out, segments, windows)

    async def _archived(
        self, stream: Followed, recording: OpenRecording, plan: CutPlan, *, epoch: int
    ) -> AsyncIterator[CutPiece]:
        number = 0
        async for cut in recording.cut(from_us=plan.cut_from_us, to_us=plan.cut_to_us):
            body = await asyncio.to_thread(_read, cut.path)
            clock = read_clock(body)
            if clock is None or clock.duration_us <= 0:
                continue
            media = MediaBody(container="mpegts", pts_us=clock.pts_us, duration_us=clock.duration_us)
            digest = hashlib.sha256(body).hexdigest()
            fetched = FetchedSegment(body=body, sha256=digest, media=media)
            kept = await self._archive.keep(stream, epoch=epoch, sequence=number, fetched=fetched)
            await self._deliver(kept)
            number += 1
            yield CutPiece(
                key=kept.segment.key,
                sha256=digest,
                size_bytes=len(body),
                start_us=clock.pts_us + plan.shift_us,
                duration_us=clock.duration_us,
            )

    async def _deliver(self, kept: Kept) -> None:
        """A recording can be cut again, so nothing of it waits in the spool for long."""
        try:
            await self._archive.deliver(kept.waiting)
        finally:
            await self._archive.discard(kept.waiting)

    def _filled(
        self,
        stream: Followed,
        group: GapGroup,
        plan: CutPlan,
        segments: tuple[SegmentRef, ...],
        windows: tuple[Window, ...],
    ) -> tuple[GapOutcome, ...]:
        at, shares = self._clock(), repair.shares(group, plan)
        lead = next((share for share in shares if share.outcome != "failed"), None)
        if lead is None:
            return self._failed(stream, group, repair.NOTHING_THERE)
        ready = repair.ready_events(stream, lead.gap, segments, windows, at=at)
        outcomes = [
            self._told(
                stream,
                share,
                _note(share, plan),
                windows=repair.window_ids(stream, lead, windows, share=share),
                at=at,
            )
            for share in shares
        ]
        leading = outcomes[shares.index(lead)]
        outcomes[shares.index(lead)] = replace(leading, segments=segments, events=(*ready, *leading.events))
        return tuple(outcomes)

    def _failed(self, stream: Followed, group: GapGroup, reason: str) -> tuple[GapOutcome, ...]:
        at = self._clock()
        shares = (
            Filled(gap=gap, outcome="failed", from_us=gap.from_us, to_us=gap.to_us) for gap in group.gaps
        )
        return tuple(self._told(stream, share, reason, at=at) for share in shares)

    def _told(
        self,
        stream: Followed,
        share: Filled,
        reason: str,
        *,
        windows: tuple[WindowId, ...] = (),
        at: datetime,
    ) -> GapOutcome:
        windows = () if share.outcome == "failed" else windows
        event = repair.repaired_event(stream, share, reason=reason, windows=windows, at=at)
        return GapOutcome(filled=share, reason=reason, windows=windows, events=(event,))

    async def _commit(self, job: Job, outcomes: tuple[GapOutcome, ...]) -> None:
        await self._jobs.commit(job, outcomes)
        for outcome in outcomes:
            filled = outcome.filled
            metrics.repairs.labels(filled.outcome).inc()
            log.info("gap_repair", gap=filled.gap.index, outcome=filled.outcome, reason=outcome.reason)


def _read(path: Path) -> bytes:
    if path.stat().st_size > MOST_PIECE_BYTES:
        raise RecordingUnusable("The recording has key frames too far apart to be cut in pieces.")
    return path.read_bytes()


def _note(share: Filled, plan: CutPlan) -> str:
    return repair.NOTHING_THERE if share.outcome == "failed" else plan.note
