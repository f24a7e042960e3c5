"""The analyzer's composition root."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from analyzer.adapters.clip import ClipMaker
from analyzer.adapters.price_file import PACKAGED, read_prices
from analyzer.adapters.signals import SignalsProvider
from analyzer.settings import AnalyzerSettings
from analyzer.subscribers import register
from analyzer.workflow import Analyst, Provider
from shared.clock import utc_now
from shared.closures import Closures
from shared.foundation import foundation
from shared.media_runner import MediaRunner, detect_sandbox
from shared.runtime import Application
from shared.scratch import scratch_folder
from shared.stored_profiles import StoredProfiles


@asynccontextmanager
async def build(settings: AnalyzerSettings) -> AsyncIterator[Application]:
    runner = MediaRunner(ffmpeg=settings.ffmpeg, ffprobe=settings.ffprobe, sandbox=await detect_sandbox())
    signals = SignalsProvider(runner, wall_clock_s=settings.media_timeout_s)
    async with foundation("analyzer", settings) as base, model(settings, runner, signals) as understanding:
        analyst = Analyst(
            store=base.store,
            profiles=StoredProfiles(base.store),
            provider=signals,
            model=understanding,
            clock=utc_now,
            work_root=scratch_folder(settings.scratch_folder),
        )
        register(base.consumer, analyst, Closures(base.database))
        yield Application(base, ops_host=settings.ops_host, ops_port=settings.ops_port)


@asynccontextmanager
async def model(
    settings: AnalyzerSettings, runner: MediaRunner, signals: SignalsProvider
) -> AsyncIterator[Provider | None]:
    """The provider that understands what it sees, or None without a key. Raises PricesInvalid."""
    if settings.gemini_api_key is None:
        yield None
        return
    # The SDK takes seconds to import, and most installations on a desk have no key.
    from analyzer.adapters.gemini import GeminiProvider  # noqa: PLC0415
    from analyzer.adapters.gemini_api import GeminiApi, GeminiOptions  # noqa: PLC0415

    api = GeminiApi(
        GeminiOptions(
            model=settings.gemini_model,
            api_version=settings.gemini_api_version,
            base_url=settings.gemini_base_url,
            timeout_s=settings.gemini_timeout_s,
            file_ready_s=settings.gemini_file_ready_s,
            inline_max_bytes=settings.gemini_inline_max_bytes,
            thinking_level=settings.gemini_thinking_level,
            media_resolution=settings.gemini_media_resolution,
        ),
        api_key=settings.gemini_api_key.get_secret_value(),
        prices=read_prices(settings.gemini_prices or PACKAGED),
        clock=utc_now,
    )
    clips = ClipMaker(runner, wall_clock_s=settings.media_timeout_s)
    try:
        yield GeminiProvider(
            api,
            clips=clips,
            edges=signals,
            budget_s=settings.gemini_budget_s,
            fps=settings.gemini_fps,
        )
    finally:
        await api.close()
