"""A storm: twenty streams, faults at random every few seconds, and replicas of ingest killed at random.

A separate program judges afterwards: `python -m sandbox.faults_archive`. The seed is printed, and may be given in
STORM_SEED.
"""

import asyncio
import os
import random
import secrets
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from sandbox.faults_offer import write_offers
from sandbox.faults_origin import FaultOrigin, cut_media
from sandbox.film import make_film
from sandbox.scenario import Stream
from tests.conftest import REPOSITORY, Installation
from tests.faults.ingest_world import OVER, IngestWorld, ingest_world, netlocs, stream_id
from tests.faults.storm_script import storm_script

pytestmark = [pytest.mark.faults, pytest.mark.needs_ffmpeg]

STREAMS, REPLICAS = 20, 3
FILM_S, SEGMENT_S = 100.0, 2.0
KILL_EVERY_S = 10.0
LONGEST_S = 240.0
SETTINGS = {"LEASE_S": "4", "RENEW_S": "0.5", "DEAD_AFTER_S": "60", "LOG_LEVEL": "INFO"}


async def kill_at_random(world: IngestWorld, draw: random.Random) -> None:
    """As `kill -9`, one replica after another; each comes back at once."""
    while True:
        await asyncio.sleep(draw.uniform(0.7, 1.3) * KILL_EVERY_S)
        process = draw.choice(world.replicas)
        await asyncio.to_thread(process.kill)
        await asyncio.to_thread(process.start)
        await asyncio.to_thread(process.wait_ready, 60.0)


async def judged(world: IngestWorld, offers: Sequence[Path]) -> tuple[int, str]:
    """What the checker, a program of its own, says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sandbox.faults_archive", "--disturbed"),
        *("--database-url", world.installation.admin_url, "--objects", str(world.objects)),
        *("--spool", *map(str, world.spools), "--offers", *map(str, offers)),
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY / 'services'}:{REPOSITORY / 'libs'}"},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


async def test_after_a_storm_all_that_was_offered_is_archived_once_or_told(
    installation: Installation, tmp_path: Path
) -> None:
    seed = int(os.environ.get("STORM_SEED", secrets.randbelow(10**6)))
    sys.stdout.write(f"STORM_SEED={seed}\n")
    film = await asyncio.to_thread(make_film, tmp_path / "film.mp4", duration_s=FILM_S)
    cut = await cut_media(film, stream=Stream(segment_s=SEGMENT_S), folder=tmp_path)
    names = [str(stream_id(number)) for number in range(STREAMS)]
    async with AsyncExitStack() as stack:
        origins = []
        for number, name in enumerate(names):
            script = storm_script(seed, number, segments=len(cut.film.segments), length_s=FILM_S)
            origins.append(await stack.enter_async_context(FaultOrigin(cut, script=script, name=name)))
        world = await stack.enter_async_context(
            ingest_world(installation, allowed=netlocs(origins), settings=SETTINGS, replicas=REPLICAS)
        )
        await world.follow([origin.url for origin in origins])
        for origin in origins:
            origin.go_live()
        killing = asyncio.create_task(kill_at_random(world, random.Random(seed)))
        stack.callback(killing.cancel)
        await world.until(OVER, STREAMS, timeout_s=LONGEST_S)
        killing.cancel()
        await asyncio.gather(killing, return_exceptions=True)
        offers = [tmp_path / f"{name}.jsonl" for name in names]
        for origin, path in zip(origins, offers, strict=True):
            write_offers(path, origin.offers)
        status, said = await judged(world, offers)

    (tmp_path / "judgement.txt").write_text(said)
    assert 0 == status, f"STORM_SEED={seed}\n{said}"
