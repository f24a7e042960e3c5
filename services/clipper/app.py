"""The clipper's composition root."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from clipper.adapters.cutter import FfmpegCutter
from clipper.settings import ClipperSettings
from clipper.subscribers import register
from clipper.workflow import Editor
from shared.clock import utc_now
from shared.closures import Closures
from shared.foundation import foundation
from shared.media_runner import MediaRunner, detect_sandbox
from shared.runtime import Application
from shared.scratch import scratch_folder
from shared.stored_profiles import StoredProfiles


@asynccontextmanager
async def build(settings: ClipperSettings) -> AsyncIterator[Application]:
    runner = MediaRunner(ffmpeg=settings.ffmpeg, ffprobe=settings.ffprobe, sandbox=await detect_sandbox())
    async with foundation("clipper", settings) as base:
        editor = Editor(
            store=base.store,
            profiles=StoredProfiles(base.store),
            cutter=FfmpegCutter(runner, wall_clock_s=settings.media_timeout_s),
            clock=utc_now,
            work_root=scratch_folder(settings.scratch_folder),
        )
        register(base.consumer, editor, Closures(base.database))
        yield Application(base, ops_host=settings.ops_host, ops_port=settings.ops_port)
