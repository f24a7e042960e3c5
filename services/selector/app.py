"""The selector's composition root."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from selector.adapters.run_rows import RunRows
from selector.loops import deadline_loop
from selector.settings import SelectorSettings
from selector.subscribers import register
from selector.workflow import Selection
from shared.clock import utc_now
from shared.closures import Closures
from shared.foundation import foundation
from shared.runtime import Application
from shared.stored_profiles import StoredProfiles


@asynccontextmanager
async def build(settings: SelectorSettings) -> AsyncIterator[Application]:
    async with foundation("selector", settings) as base:
        selection = Selection(
            runs=RunRows(base.database),
            profiles=StoredProfiles(base.store),
            closures=Closures(base.database),
            database=base.database,
            outbox=base.outbox,
            clock=utc_now,
            deadline_s=settings.window_deadline_s,
        )
        register(base.consumer, selection)
        yield Application(
            base,
            ops_host=settings.ops_host,
            ops_port=settings.ops_port,
            loops=(deadline_loop(selection),),
        )
