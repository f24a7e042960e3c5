"""The hostile corpus against a real ingest process: no canary is touched, none of its bytes is anywhere, and every
stream ends with a cause, while a good stream beside them is whole."""

import asyncio
import secrets
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from sandbox.faults_checker import Kept, judge
from sandbox.faults_origin import FaultOrigin, cut_media
from sandbox.film import make_film
from sandbox.scenario import Script, Stream
from tests.conftest import Installation
from tests.faults.ingest_world import OVER, IngestWorld, ingest_world, netlocs, stream_id
from tests.integration.ingest.hostile_origin import Canary, HostileOrigin

pytestmark = [pytest.mark.faults, pytest.mark.needs_ffmpeg]

# What a customer may learn: who sent the playlist will be asked to correct it.
CAUSES = {"endlist", "source_refused", "source_unreachable", "source_dead", "unsupported_encryption"}
SETTINGS = {
    "START_PATIENCE_S": "1.5",
    "DEAD_AFTER_S": "4",
    "STALL_S": "2",
    "DRAIN_S": "1",
    "SEGMENT_BUDGET_S": "6",
    "LOG_LEVEL": "DEBUG",
}
MOST_MEMORY_MIB = 400


async def test_no_canary_is_touched_and_every_stream_ends(installation: Installation, tmp_path: Path) -> None:
    secret = secrets.token_hex(32)
    canary_file = tmp_path / "canary.txt"
    canary_file.write_text(secret)
    film = await asyncio.to_thread(make_film, tmp_path / "film.mp4", duration_s=20)
    cut = await cut_media(film, stream=Stream(), folder=tmp_path)
    first = cut.film.folder / cut.film.segments[0].uri
    good = FaultOrigin(cut, script=Script(stream=Stream(speed=2, initial_segments=2)), name="good")
    async with Canary(canary_file).listening() as canary, good:
        hostile = HostileOrigin(canary, good=first.read_bytes())
        async with hostile:
            addresses = [good.url, *(f"{hostile.base_url}/{name}.m3u8" for name in hostile.names)]
            addresses += [f"file://{canary_file}", f"http://127.0.0.1:{canary.port}/master.m3u8"]
            allowed = [*netlocs([good]), hostile.base_url.removeprefix("http://")]
            async with ingest_world(installation, allowed=allowed, settings=SETTINGS) as world:
                await world.follow(addresses)
                good.go_live()
                await world.until(OVER, len(addresses), timeout_s=60)
                most_mib = _most_memory_mib(world)
                kept = await world.kept(["good"])
                causes = await _causes(world)
                left = await _everything_left(world)

    assert len(hostile.names) >= 25
    assert [] == canary.touched
    assert not [place for place, text in left.items() if secret.encode() in text]
    named = dict(zip(("good", *hostile.names, "file_address", "internal_address"), causes, strict=True))
    assert {} == {name: cause for name, cause in named.items() if cause not in CAUSES}
    assert ("source_refused", "source_refused") == (named["file_address"], named["internal_address"])
    hostile_rows = [row for row in kept.archived if row.stream != "good"]
    assert {good.offers[0].sha256} == {row.sha256 for row in hostile_rows}
    told = {row.stream for row in hostile_rows} | {missed.stream for missed in kept.missed}
    assert {} == {name: cause for n, (name, cause) in enumerate(named.items()) if _is_silent(n, cause, told)}
    assert () == judge(good.offers, _of_good(kept)).violations
    assert most_mib < MOST_MEMORY_MIB


def _is_silent(number: int, cause: str, told: set[str]) -> bool:
    """A stream that came to its end without a segment and without a gap."""
    return number > 0 and cause == "endlist" and str(stream_id(number)) not in told


def _of_good(kept: Kept) -> Kept:
    return replace(kept, missed=tuple(missed for missed in kept.missed if missed.stream == "good"))


def _most_memory_mib(world: IngestWorld) -> int:
    status = Path(f"/proc/{world.replicas[0].pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


async def _causes(world: IngestWorld) -> list[str]:
    """In the order of the addresses."""
    connection = await asyncpg.connect(world.installation.admin_url)
    rows = await connection.fetch("SELECT cause FROM ingest.followed ORDER BY stream_id")
    await connection.close()
    return [row["cause"] for row in rows]


async def _everything_left(world: IngestWorld) -> dict[str, bytes]:
    """All rows of ingest, all objects, all logs."""
    files = [path for path in world.installation.folder.rglob("*") if path.is_file()]
    found = {str(path): path.read_bytes() for path in files if path.name != "canary.txt"}
    connection = await asyncpg.connect(world.installation.admin_url)
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'ingest'")
    for (table,) in tables:
        rows = await connection.fetch(f'SELECT t::text FROM ingest."{table}" t')
        found[table] = "\n".join(row[0] for row in rows).encode()
    await connection.close()
    return found
