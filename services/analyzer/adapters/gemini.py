"""The `gemini` provider: shows a window to the model, reads its answer, and looks twice where that is worth it.

How the API is called stands in `gemini_api.py`; what is asked and what is believed, in `domain/gemini`.
"""

import asyncio
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

import structlog
from google.genai import types

from analyzer.adapters.clip import Clip
from analyzer.adapters.gemini_api import OPERATOR_PAUSE_S, PROVIDER, Errand, GeminiApi, Reply, Turn
from analyzer.domain.analysis import Analysis, Moment
from analyzer.domain.gemini.answer import AnswerUnreadable, Reading, read_answer
from analyzer.domain.gemini.outcomes import Outcome, outcome_of
from analyzer.domain.gemini.prompt import (
    SYSTEM_INSTRUCTION,
    answer_schema,
    brief,
    pictures_a_second,
    refine_task,
    repair_task,
    task,
)
from analyzer.domain.verdict import Sifted, sift
from analyzer.workflow import (
    AnswerInvalid,
    MediaWindow,
    ProviderError,
    ProviderMisconfigured,
    ProviderRefused,
    ProviderUnavailable,
)
from shared.errors import PipelineError
from shared.profile import Profile, Quality

log = structlog.get_logger()

MOMENTS_MAX = 8
"""Windows last 30 s at most; what names more moments than this is no choice."""
LAST_STEPS_S = 12.0
"""Of a window's budget, what a second look leaves for the rest: an upload is still to be deleted."""
_EARLIER_CHARS_MAX = 4000


class Clips(Protocol):
    async def make(self, window: MediaWindow, *, include_audio: bool) -> Clip:
        """As `ClipMaker`."""
        ...


class SnapPoints(Protocol):
    async def snap_points(self, window: MediaWindow, profile: Profile) -> tuple[int, ...]:
        """Cuts and pauses in microseconds from the window's start. Raises the media runner's errors."""
        ...


@dataclass(frozen=True, slots=True)
class _Talk:
    """What one window's questions have in common."""

    clip: Clip
    video: types.Part
    profile: Profile
    errand: Errand

    @property
    def dimensions(self) -> frozenset[str]:
        return frozenset(each.name for each in self.profile.dimensions)

    def question(self, text: str) -> Turn:
        return Turn((brief(self.profile), text))

    def sifted(self, reading: Reading) -> Sifted:
        span = self.clip.span
        return sift(
            reading.moments,
            length_us=span.to_us - span.from_us,
            dimensions=self.dimensions,
            unread=reading.faults,
        )


class GeminiProvider:
    """Scores windows by a model that sees and hears them. Holds nothing between windows."""

    name = PROVIDER

    def __init__(
        self,
        api: GeminiApi,
        *,
        clips: Clips,
        edges: SnapPoints,
        budget_s: float,
        fps: float | None = None,
    ) -> None:
        """`edges` measures locally what a model cannot tell to the frame; `budget_s` bounds a whole window.

        `fps` is how many pictures a second every window is seen at, whatever its profile says.
        """
        self._api = api
        self._clips = clips
        self._edges = edges
        self._budget_s = budget_s
        self._fps = fps

    async def score(self, window: MediaWindow, profile: Profile) -> Analysis:
        """As the port says; raises the provider's errors, which carry what was paid, and the media runner's."""
        self._api.check_in_service()
        clip = await self._clips.make(window, include_audio=profile.include_audio)
        errand = Errand(until=monotonic() + self._budget_s)
        edges = asyncio.create_task(self._edges_of(window, profile))
        try:
            async with asyncio.timeout(self._budget_s):
                analysis = await self._seen(clip, profile, errand, edges)
        except TimeoutError:
            error: ProviderError = ProviderUnavailable(f"Gemini did not finish within {self._budget_s:g} s")
            error.usage = errand.usage
            raise error from None
        except ProviderError as known:
            known.usage = errand.usage
            raise
        finally:
            edges.cancel()
            await asyncio.gather(edges, return_exceptions=True)
        return analysis

    async def _edges_of(self, window: MediaWindow, profile: Profile) -> tuple[int, ...]:
        """Snap points are a help: without them the paid answer still counts."""
        try:
            return await self._edges.snap_points(window, profile)
        except PipelineError as error:
            log.warning("no_snap_points", stream_id=window.stream_id, code=error.code, reason=str(error))
            return ()

    async def _seen(
        self, clip: Clip, profile: Profile, errand: Errand, edges: "asyncio.Task[tuple[int, ...]]"
    ) -> Analysis:
        async with self._api.shown(clip, errand, fps=self._fps or pictures_a_second(profile)) as video:
            talk = _Talk(clip, video, profile, errand)
            reading, model = await self._found(talk)
            note = ""
            if profile.quality is Quality.PREMIUM and reading.moments:
                reading, note = await self._refined(talk, reading)
        return Analysis(
            moments=reading.moments,
            provider=self.name,
            snap_points_us=await edges,
            model=model,
            usage=errand.usage,
            note=note,
            faults=reading.faults,
        )

    async def _found(self, talk: _Talk) -> tuple[Reading, str]:
        """The first answer, or the repaired one; one repair at most."""
        question = talk.question(task(talk.clip.span, moments_max=MOMENTS_MAX))
        reply = await self._asked(talk, (question,))
        reading, faults = _read(reply, talk)
        if reading is not None:
            return reading, reply.model
        log.info("model_answer_repaired", faults=len(faults))
        earlier = Turn((reply.text[:_EARLIER_CHARS_MAX] or "(nothing)",), said_by_model=True)
        reply = await self._asked(talk, (question, earlier, Turn((repair_task(faults),))))
        reading, faults = _read(reply, talk)
        if reading is None:
            raise AnswerInvalid(f"Gemini's answer cannot be used: {'; '.join(faults)}")
        return reading, reply.model

    async def _refined(self, talk: _Talk, first: Reading) -> tuple[Reading, str]:
        """The second look of the tier `premium`; where it brings nothing usable, the first look stands."""
        credible = talk.sifted(first).moments
        question = talk.question(refine_task(credible, talk.clip.span))
        try:
            async with asyncio.timeout(talk.errand.until - monotonic() - LAST_STEPS_S):
                reading, faults = _read(await self._asked(talk, (question,)), talk)
        except TimeoutError:
            return first, "not refined: no time was left"
        except ProviderError as error:
            log.warning("model_not_refined", code=error.code, reason=str(error))
            return first, f"not refined: {error.code}"
        if reading is None or not _within(reading.moments, credible):
            return first, f"not refined: {'; '.join(faults) or 'the second look named other moments'}"
        return Reading(reading.moments, (*first.faults, *reading.faults)), ""

    async def _asked(self, talk: _Talk, turns: tuple[Turn, ...]) -> Reply:
        """Raises ProviderRefused, AnswerInvalid or ProviderMisconfigured where the model gave no answer."""
        reply = await self._api.ask(
            turns,
            video=talk.video,
            system=SYSTEM_INSTRUCTION,
            schema=answer_schema(talk.profile, talk.clip.span, moments_max=MOMENTS_MAX),
            errand=talk.errand,
        )
        _check_ended(reply)
        return reply


def _check_ended(reply: Reply) -> None:
    outcome = outcome_of(finish_reason=reply.finish_reason, block_reason=reply.block_reason)
    told = reply.block_reason or reply.finish_reason or "without a reason"
    if outcome is Outcome.REFUSED:
        raise ProviderRefused(f"Gemini will not judge this window: {told}")
    if outcome is Outcome.BARRED:
        raise ProviderMisconfigured(f"Gemini has limited the account: {told}", retry_after_s=OPERATOR_PAUSE_S)
    if outcome is Outcome.INVALID:
        raise AnswerInvalid(f"Gemini gave no answer: {told}")


def _read(reply: Reply, talk: _Talk) -> tuple[Reading | None, tuple[str, ...]]:
    """The answer, and why it cannot be used where it is None: unreadable, or nothing of it is credible."""
    cut = outcome_of(finish_reason=reply.finish_reason, block_reason=None) is Outcome.CUT
    try:
        reading = read_answer(reply.text, span=talk.clip.span, moments_max=MOMENTS_MAX, cut=cut)
    except AnswerUnreadable as error:
        return None, (str(error),)
    sifted = talk.sifted(reading)
    usable = bool(sifted.moments) or not sifted.faults
    return (reading if usable else None), sifted.faults


def _within(refined: tuple[Moment, ...], first: tuple[Moment, ...]) -> bool:
    """Whether each refined moment is one of the first look: overlapping it."""
    return all(
        any(new.start_us < old.end_us and old.start_us < new.end_us for old in first) for new in refined
    )
