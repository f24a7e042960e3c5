"""Judge one window: fetch its media and profile, ask the provider, turn the answer into events.

What counts as credible is decided in `domain/verdict.py`; which provider answers, in `app.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, Literal, Protocol

from analyzer.domain.analysis import Analysis, Usage
from analyzer.domain.bills import Bill, Bills
from analyzer.domain.verdict import conclude, fail, sift
from shared import metrics
from shared.errors import PermanentError, PipelineError, RetryableError
from shared.events import Event, SegmentReady, Verdict
from shared.ids import Position, StreamId, WindowId, window_id
from shared.object_store import ObjectStore
from shared.profile import Profile, Quality


class ProviderError(PipelineError):
    """A provider gave no usable answer. `usage` is what was paid for all the same."""

    usage: Usage = Usage()


class ProviderUnavailable(ProviderError, RetryableError):
    """The provider cannot be reached, is overloaded, or refuses for now (quota)."""

    code: ClassVar[str] = "provider_unavailable"


class ProviderMisconfigured(ProviderError, RetryableError):
    """The provider turns us away, not this window: key, account, model's name. Somebody must act, and may in time."""

    code: ClassVar[str] = "provider_misconfigured"


class ProviderRefused(ProviderError, PermanentError):
    """The provider will never judge this window: content policy, unreadable media, nothing it can see."""

    code: ClassVar[str] = "provider_refused"


class AnswerInvalid(ProviderError, RetryableError):
    """The provider answered, and nothing of it can be believed; the next answer may be better."""

    code: ClassVar[str] = "provider_answer_invalid"


@dataclass(frozen=True, slots=True)
class MediaWindow:
    """The window's segments as local files in play order, contiguous, and what they cover on the stream's clock.

    `media_start_us` is where the first file begins; it may lie before `start_us`. `init` is the initialisation
    segment of fmp4. `work_dir` holds the files, is the provider's to write in, and vanishes after the answer.
    """

    stream_id: StreamId
    position: Position
    start_us: int
    end_us: int
    media_start_us: int
    files: tuple[Path, ...]
    container: Literal["mpegts", "fmp4"]
    init: Path | None
    work_dir: Path

    @property
    def length_us(self) -> int:
        return self.end_us - self.start_us


class Provider(Protocol):
    """Judges windows. Raises one of the four errors above, never answers an error."""

    @property
    def name(self) -> str: ...

    async def score(self, window: MediaWindow, profile: Profile) -> Analysis:
        """Moments with times from the window's start, scored on the profile's dimensions only."""
        ...


_NOT_ASKED = "nothing stirs in this window, so the model was not asked"


class Profiles(Protocol):
    async def get(self, key: str) -> Profile:
        """The immutable profile under its key. Raises ObjectMissing, StoreUnavailable, ProfileInvalid."""
        ...


class Analyst:
    """The use case of the service. Between windows it keeps nothing but what failed attempts have cost."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        profiles: Profiles,
        provider: Provider,
        clock: Callable[[], datetime],
        work_root: Path,
        model: Provider | None = None,
    ) -> None:
        """`clock` answers aware UTC; windows are unpacked in folders below `work_root`, which must exist.

        `provider` judges by measurement; `model`, where there is one, by understanding, for every tier but `fast`.
        """
        self._store = store
        self._profiles = profiles
        self._provider = provider
        self._model = model
        self._bills = Bills()
        self._clock = clock
        self._work_root = work_root

    async def analyze(self, event: SegmentReady) -> tuple[Event, ...]:
        """`candidate.scored` for each credible moment, then `segment.analyzed`.

        Raises the provider's and the store's errors, and AnswerInvalid when moments came and none is credible.
        """
        profile = await self._profiles.get(event.profile_key)
        with TemporaryDirectory(prefix="window-", dir=self._work_root) as folder:
            window = await self._fetch(event, Path(folder))
            analysis = await self._judge(window, profile)
        dimensions = frozenset(dimension.name for dimension in profile.dimensions)
        sifted = sift(
            analysis.moments, length_us=window.length_us, dimensions=dimensions, unread=analysis.faults
        )
        analysis = self._with_earlier_costs(event, analysis)
        if sifted.faults and not sifted.moments:
            self._bills.add(_window_of(event), provider=analysis.provider, usage=analysis.usage)
            raise AnswerInvalid(f"window {event.stream_id} {event.position}: {'; '.join(sifted.faults)}")
        metrics.windows.labels(analysis.provider, Verdict.ANALYSED.value).inc()
        return conclude(event, analysis, sifted, occurred_at=self._clock())

    def give_up(self, event: SegmentReady, error: Exception) -> tuple[Event, ...]:
        """The verdict `failed` for a window on which the attempts are exhausted or pointless."""
        reason = (
            f"{error.code}: {error}"
            if isinstance(error, PipelineError)
            else f"internal: {type(error).__name__}"
        )
        bill = self._bills.settle(_window_of(event)) or Bill(self._provider.name, Usage())
        metrics.windows.labels(bill.provider, Verdict.FAILED.value).inc()
        verdict = fail(
            event, provider=bill.provider, reason=reason, usage=bill.usage, occurred_at=self._clock()
        )
        return (verdict,)

    async def _judge(self, window: MediaWindow, profile: Profile) -> Analysis:
        if self._model is None or profile.quality is Quality.FAST:
            return await self._ask(self._provider, window, profile)
        if profile.quality is Quality.STANDARD:
            calm = await self._calm(window, profile)
            if calm is not None:
                return calm
        return await self._ask(self._model, window, profile)

    async def _calm(self, window: MediaWindow, profile: Profile) -> Analysis | None:
        """The local verdict on a window in which nothing stirs, which the tier `standard` does not pay for."""
        try:
            local = await self._ask(self._provider, window, profile)
        except ProviderRefused:
            return None  # the profile's dimensions cannot be measured, so the model must look
        return None if local.moments else replace(local, degraded=False, note=_NOT_ASKED)

    async def _ask(self, provider: Provider, window: MediaWindow, profile: Profile) -> Analysis:
        try:
            with metrics.analysis_s.labels(provider.name).time():
                return await provider.score(window, profile)
        except PipelineError as error:
            usage = error.usage if isinstance(error, ProviderError) else Usage()
            key = window_id(window.stream_id, window.position)
            self._bills.add(key, provider=provider.name, usage=usage)
            raise

    def _with_earlier_costs(self, event: SegmentReady, analysis: Analysis) -> Analysis:
        bill = self._bills.settle(_window_of(event))
        return replace(analysis, usage=bill.usage + analysis.usage) if bill else analysis

    async def _fetch(self, event: SegmentReady, work_dir: Path) -> MediaWindow:
        first = event.segments[0]
        files = [work_dir / f"segment-{at:04d}" for at in range(len(event.segments))]
        for ref, path in zip(event.segments, files, strict=True):
            await self._store.get_file(ref.key, path)
        init = work_dir / "init" if first.init_key is not None else None
        if init is not None and first.init_key is not None:
            await self._store.get_file(first.init_key, init)
        return MediaWindow(
            stream_id=event.stream_id,
            position=event.position,
            start_us=event.start_us,
            end_us=event.end_us,
            media_start_us=first.start_us,
            files=tuple(files),
            container=first.container,
            init=init,
            work_dir=work_dir,
        )


def _window_of(event: SegmentReady) -> WindowId:
    return window_id(event.stream_id, event.position)
