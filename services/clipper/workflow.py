"""Cut one highlight: plan, fetch the segments, cut, verify, take the thumbnail, store, tell.

Which segments and frames belong to the clip is decided in `domain`; how FFmpeg is called, in `adapters/cutter.py`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from clipper.domain.cut_plan import Run, plan_cut
from clipper.domain.frames import FrameSpan, frame_shown_at
from clipper.domain.outcome import (
    Highlight,
    Stage,
    StoredClip,
    failed,
    ready,
    stage_in,
    thumbnail_key,
    video_key,
)
from shared import metrics
from shared.errors import PipelineError
from shared.events import Event
from shared.object_store import ObjectStore
from shared.profile import Profile, Quality


@dataclass(frozen=True, slots=True)
class LocalRun:
    """A run whose segments lie in local files, in order; `init` is the initialisation segment of fmp4."""

    run: Run
    files: tuple[Path, ...]
    init: Path | None


@dataclass(frozen=True, slots=True)
class CutClip:
    """A finished MP4 and the pictures in it, run by run."""

    path: Path
    width: int
    height: int
    spans: tuple[FrameSpan, ...]
    has_sound: bool

    @property
    def start_us(self) -> int:
        """Time of the first picture on the stream's clock."""
        return self.spans[0].start_us

    @property
    def duration_us(self) -> int:
        return sum(span.length_us for span in self.spans)


class Cutter(Protocol):
    """Makes clips from local files. Every method raises the media runner's errors."""

    async def cut(self, runs: tuple[LocalRun, ...], *, quality: Quality, work_dir: Path) -> CutClip:
        """An MP4 in `work_dir` that begins and ends on the exact pictures. Raises NoFrames."""
        ...

    async def verify(self, clip: CutClip) -> None:
        """Raises OutputInvalid unless the clip has its length, right to a picture, and decodes to its end."""
        ...

    async def thumbnail(self, clip: CutClip, *, at_us: int) -> Path:
        """A JPEG of the picture at `at_us` from the clip's start."""
        ...


class Profiles(Protocol):
    async def get(self, key: str) -> Profile:
        """The immutable profile under its key. Raises ObjectMissing, StoreUnavailable, ProfileInvalid."""
        ...


class Editor:
    """The use case of the service. The same event writes the same keys and gives the same event id again."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        profiles: Profiles,
        cutter: Cutter,
        clock: Callable[[], datetime],
        work_root: Path,
    ) -> None:
        """`clock` answers aware UTC; clips are made in folders below `work_root`, which must exist."""
        self._store = store
        self._profiles = profiles
        self._cutter = cutter
        self._clock = clock
        self._work_root = work_root

    async def cut(self, event: Highlight) -> tuple[Event, ...]:
        """`clip.ready` for the highlight's revision.

        Raises the errors of store, profiles and cutter, and NothingToCut; each carries its stage as a note.
        """
        with TemporaryDirectory(prefix="clip-", dir=self._work_root) as folder:
            work_dir = Path(folder)
            with _stage("fetch"):
                profile = await self._profiles.get(event.profile_key)
                runs = await self._fetch(event, work_dir)
            with _stage("cut"):
                clip = await self._cutter.cut(runs, quality=profile.quality, work_dir=work_dir)
            with _stage("verify"):
                await self._cutter.verify(clip)
            with _stage("thumbnail"):
                picture = await self._cutter.thumbnail(clip, at_us=frame_shown_at(clip.spans, event.peak_us))
            with _stage("store"):
                stored = await self._keep(event, clip, picture)
        metrics.clips.labels("ready").inc()
        return (ready(event, stored, occurred_at=self._clock()),)

    def give_up(self, event: Highlight, error: Exception) -> tuple[Event, ...]:
        """`clip.failed` for a highlight on which the attempts are exhausted or pointless."""
        metrics.clips.labels("failed").inc()
        known = isinstance(error, PipelineError)
        outcome = failed(
            event,
            stage=stage_in(getattr(error, "__notes__", ())),
            code=error.code if isinstance(error, PipelineError) else PipelineError.code,
            reason=str(error) if known else type(error).__name__,
            occurred_at=self._clock(),
        )
        return (outcome,)

    async def _fetch(self, event: Highlight, work_dir: Path) -> tuple[LocalRun, ...]:
        planned = plan_cut(event.segments, start_us=event.start_us, end_us=event.end_us)
        return tuple([await self._fetch_run(run, work_dir, at) for at, run in enumerate(planned)])

    async def _fetch_run(self, run: Run, work_dir: Path, number: int) -> LocalRun:
        files = [work_dir / f"run-{number}-segment-{at:04d}" for at in range(len(run.segments))]
        for ref, path in zip(run.segments, files, strict=True):
            await self._store.get_file(ref.key, path)
        init_key = run.segments[0].init_key
        init = work_dir / f"run-{number}-init" if init_key is not None else None
        if init is not None and init_key is not None:
            await self._store.get_file(init_key, init)
        return LocalRun(run=run, files=tuple(files), init=init)

    async def _keep(self, event: Highlight, clip: CutClip, picture: Path) -> StoredClip:
        thumbnail = await self._store.put_file(thumbnail_key(event), picture, content_type="image/jpeg")
        video = await self._store.put_file(video_key(event), clip.path, content_type="video/mp4")
        return StoredClip(
            video_key=video.key,
            thumbnail_key=thumbnail.key,
            start_us=clip.start_us,
            duration_us=clip.duration_us,
            width=clip.width,
            height=clip.height,
            size_bytes=video.size_bytes,
            sha256=video.sha256,
        )


@contextmanager
def _stage(name: Stage) -> Iterator[None]:
    """Times the stage, and names it on an error that passes without changing which family it belongs to."""
    try:
        with metrics.clip_s.labels(name).time():
            yield
    except PipelineError as error:
        error.add_note(name)
        raise
