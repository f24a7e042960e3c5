"""The pitfalls of live HLS (section 6 of the facts) against a real ingest process: nothing that could be had is lost,
what could not is told with its true cause, and each stream ends as it must."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from sandbox.faults_checker import judge
from sandbox.faults_origin import FaultOrigin, cut_media
from sandbox.film import make_film
from sandbox.scenario import Stream, read_script
from tests.conftest import REPOSITORY, Installation
from tests.faults.ingest_world import OVER, ingest_world, netlocs

pytestmark = [pytest.mark.faults, pytest.mark.needs_ffmpeg]

SCRIPTS = sorted((REPOSITORY / "libs/sandbox/scenarios/section_six").glob("*.yaml"))
FILM_S = 60.0
# A source that falls silent is given up soon here; else each such scenario would take ten minutes.
SETTINGS = {"DEAD_AFTER_S": "30", "STALL_S": "8", "START_PATIENCE_S": "30", "LOG_LEVEL": "INFO"}
ENDINGS = {"silence": "source_dead", "playlist_gone": "source_dead"}


async def test_nothing_that_could_be_had_is_lost_and_the_rest_is_told_truly(
    installation: Installation, tmp_path: Path
) -> None:
    film = await asyncio.to_thread(make_film, tmp_path / "film.mp4", duration_s=FILM_S)
    cut = await cut_media(film, stream=Stream(), folder=tmp_path)
    async with AsyncExitStack() as stack:
        origins = [
            await stack.enter_async_context(FaultOrigin(cut, script=read_script(path), name=path.stem))
            for path in SCRIPTS
        ]
        world = await stack.enter_async_context(
            ingest_world(installation, allowed=netlocs(origins), settings=SETTINGS)
        )
        await world.follow([origin.url for origin in origins])
        for origin in origins:
            origin.go_live()
        await world.until(OVER, len(origins), timeout_s=150)
        kept = await world.kept([path.stem for path in SCRIPTS])

    offers = [offer for origin in origins for offer in origin.offers]
    judgement = judge(offers, kept, most_gaps=1.0)
    assert () == judgement.violations
    assert 0.0 == judgement.lost_though_offered_s
    assert {name: ENDINGS.get(name, "endlist") for name in (path.stem for path in SCRIPTS)} == dict(
        kept.endings
    )
