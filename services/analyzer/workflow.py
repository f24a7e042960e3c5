"""Judge one window: fetch its media and profile, ask the provider, turn the answer into events.

What counts as credible is decided in `domain/verdict.py`; which provider answers, in `app.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, Literal, Protocol

from analyzer.domain.analysis import Analysis
from analyzer.domain.verdict import conclude, fail, sift
from shared import metrics
from shared.errors import PermanentError, PipelineError, RetryableError
from shared.events import Event, SegmentReady, Verdict
from shared.ids import Position, StreamId
from shared.object_store import ObjectStore
from shared.profile import Profile


class ProviderUnavailable(RetryableError):
    """The provider cannot be reached, is overloaded, or refuses for now (quota)."""

    code: ClassVar[str] = "provider_unavailable"


class ProviderRefused(PermanentError):
    """The provider will never judge this window: content policy, unreadable media, nothing it can see."""

    code: ClassVar[str] = "provider_refused"


class AnswerInvalid(RetryableError):
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
    """Judges windows. Raises ProviderUnavailable, ProviderRefused or AnswerInvalid, never answers an error."""

    @property
    def name(self) -> str: ...

    async def score(self, window: MediaWindow, profile: Profile) -> Analysis:
        """Moments with times from the window's start, scored on the profile's dimensions only."""
        ...


class Profiles(Protocol):
    async def get(self, key: str) -> Profile:
        """The immutable profile under its key. Raises ObjectMissing, StoreUnavailable, ProfileInvalid."""
        ...


class Analyst:
    """The use case of the service. Stateless between windows: the same event gives the same events again."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        profiles: Profiles,
        provider: Provider,
        clock: Callable[[], datetime],
        work_root: Path,
    ) -> None:
        """`clock` answers aware UTC; windows are unpacked in folders below `work_root`, which must exist."""
        self._store = store
        self._profiles = profiles
        self._provider = provider
        self._clock = clock
        self._work_root = work_root

    async def analyze(self, event: SegmentReady) -> tuple[Event, ...]:
        """`candidate.scored` for each credible moment, then `segment.analyzed`.

        Raises the provider's and the store's errors, and AnswerInvalid when moments came and none is credible.
        """
        profile = await self._profiles.get(event.profile_key)
        with TemporaryDirectory(prefix="window-", dir=self._work_root) as folder:
            window = await self._fetch(event, Path(folder))
            with metrics.analysis_s.labels(self._provider.name).time():
                analysis = await self._provider.score(window, profile)
        dimensions = frozenset(dimension.name for dimension in profile.dimensions)
        sifted = sift(analysis.moments, length_us=window.length_us, dimensions=dimensions)
        if sifted.faults and not sifted.moments:
            raise AnswerInvalid(f"window {event.stream_id} {event.position}: {'; '.join(sifted.faults)}")
        metrics.windows.labels(self._provider.name, Verdict.ANALYSED.value).inc()
        return conclude(event, analysis, sifted, occurred_at=self._clock())

    def give_up(self, event: SegmentReady, error: Exception) -> tuple[Event, ...]:
        """The verdict `failed` for a window on which the attempts are exhausted or pointless."""
        reason = (
            f"{error.code}: {error}"
            if isinstance(error, PipelineError)
            else f"internal: {type(error).__name__}"
        )
        metrics.windows.labels(self._provider.name, Verdict.FAILED.value).inc()
        verdict = fail(event, provider=self._provider.name, reason=reason, occurred_at=self._clock())
        return (verdict,)

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
