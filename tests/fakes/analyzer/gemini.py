"""A desk for the `gemini` provider: the real SDK, the double over HTTP, real clips; nothing sleeps."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analyzer.adapters.clip import Clip, ClipMaker
from analyzer.adapters.gemini import GeminiProvider
from analyzer.adapters.gemini_api import GeminiApi, GeminiOptions
from analyzer.adapters.price_file import PACKAGED, read_prices
from analyzer.domain.analysis import Analysis
from analyzer.domain.gemini.breaker import Breaker
from analyzer.domain.gemini.prompt import ClipSpan
from analyzer.workflow import MediaWindow
from sandbox.gemini import GeminiDouble
from shared.errors import PipelineError
from shared.ids import Position, StreamId
from shared.media_runner import MediaRunner, Sandbox
from shared.profile import Profile
from tests.fakes.shared.stored_profiles import default_profile

KEY = "AIza-a-secret-key-of-the-operator"
NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
MODEL = "gemini-3.5-flash-lite"
TIMEOUT_S = 10.0


@dataclass
class FakeEdges:
    """Snap points as told, or an error."""

    answer: tuple[int, ...] | PipelineError = (1_000_000,)

    async def snap_points(self, window: MediaWindow, profile: Profile) -> tuple[int, ...]:
        if isinstance(self.answer, PipelineError):
            raise self.answer
        return self.answer


@dataclass
class ReadyClips:
    """One clip for every window, made before."""

    path: Path

    async def make(self, window: MediaWindow, *, include_audio: bool) -> Clip:
        start_us = window.start_us - window.media_start_us
        span = ClipSpan(start_us, start_us + window.length_us)
        return Clip(self.path, "video/mp4", self.path.stat().st_size, span)


@dataclass
class Desk:
    double: GeminiDouble
    api: GeminiApi
    provider: GeminiProvider
    edges: FakeEdges
    media: Path
    folder: Path
    breaker: Breaker
    slept: list[float] = field(default_factory=list)

    def cleared(self, folder: Path) -> "Desk":
        """As it was at first, with another folder: making an SDK's client anew for each test takes long."""
        usual_double(self.double)
        self.api.options = replace(self.api.options, model=MODEL, timeout_s=TIMEOUT_S)
        self.edges.answer = FakeEdges().answer
        self.slept.clear()
        self.breaker.succeeded()
        self.folder = folder
        return self

    def window(
        self, *, from_s: float = 0.0, to_s: float = 8.0, media_start_s: float = 0.0, name: str = "window"
    ) -> MediaWindow:
        work_dir = self.folder / name
        work_dir.mkdir(exist_ok=True)
        segment = work_dir / "segment-0000"
        segment.write_bytes(self.media.read_bytes())
        return MediaWindow(
            stream_id=StreamId("str_0123456789ab"),
            position=Position(0, 0),
            start_us=round(from_s * 1e6),
            end_us=round(to_s * 1e6),
            media_start_us=round(media_start_s * 1e6),
            files=(segment,),
            container="mpegts",
            init=None,
            work_dir=work_dir,
        )

    def hurried(self, *, budget_s: float) -> "Desk":
        """The same desk with a provider that has only so long for a window."""
        clips = ReadyClips(self.media.with_suffix(".mp4"))
        provider = GeminiProvider(self.api, clips=clips, edges=self.edges, budget_s=budget_s)
        return replace(self, provider=provider)

    async def judge(self, profile: Profile | None = None, **window: Any) -> Analysis:
        return await self.provider.score(self.window(**window), profile or default_profile())


@asynccontextmanager
async def desk(
    media: Path,
    folder: Path,
    *,
    clip: Path | None = None,
    budget_s: float = 60.0,
    fps: float | None = None,
    **options: Any,
) -> AsyncIterator[Desk]:
    """Everything put together; with `clip` no clip is made anew. `options` are those of GeminiOptions."""
    slept: list[float] = []

    async def sleep(pause_s: float) -> None:
        slept.append(pause_s)

    async with GeminiDouble() as double:
        usual_double(double)
        breaker = Breaker()
        chosen = replace(GeminiOptions(model=MODEL, base_url=double.base_url, timeout_s=TIMEOUT_S), **options)
        api = GeminiApi(
            chosen,
            api_key=KEY,
            prices=read_prices(PACKAGED),
            clock=lambda: NOW,
            sleep=sleep,
            share=lambda: 0.5,
            breaker=breaker,
        )
        edges = FakeEdges()
        clips = ReadyClips(clip) if clip else ClipMaker(MediaRunner(sandbox=Sandbox.LIMITS_ONLY))
        provider = GeminiProvider(api, clips=clips, edges=edges, budget_s=budget_s, fps=fps)
        try:
            yield Desk(double, api, provider, edges, media, folder, breaker, slept)
        finally:
            await api.close()


def usual_double(double: GeminiDouble) -> None:
    """One good moment for every question, one key, nothing scripted, nothing remembered."""
    double.answer_of = lambda _asked: answer(moment())
    double.keys = {KEY}
    double.processing_polls, double.fails_processing, double.model_version = 1, False, None
    for script in double.script.values():
        script.clear()
    for memory in (double.always, double.calls, double.files, double.deleted):
        memory.clear()


def moment(start_s: float = 2.0, end_s: float = 5.0, **changes: Any) -> dict[str, Any]:
    """One item of an answer, as the schema asks for it."""
    item: dict[str, Any] = {
        "start_s": start_s,
        "end_s": end_s,
        "peak_s": (start_s + end_s) / 2,
        "scores": {each.name: 0.8 for each in default_profile().dimensions},
        "confidence": 0.9,
        "title": "A save",
        "description": "The keeper saves twice.",
        "reason": "two saves in two seconds",
        "tags": ["save"],
    }
    return item | changes


def answer(*moments: dict[str, Any]) -> str:
    return json.dumps({"moments": list(moments)})


def texts_of(desk_: Desk) -> Sequence[str]:
    return [text for asked in desk_.double.asked for text in asked.texts]
