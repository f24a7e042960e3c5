"""A source that runs faster than real time, in two renditions, of which the better one breaks off.

Its dates run at the wall clock's pace (half a second from one segment of two seconds to the next at four times the
speed), as `make demo`'s origin writes them.
"""

from itertools import pairwise
from pathlib import Path

import pytest
from aiohttp import web

from ingest.domain.actions import EndCause
from sandbox.film import make_film
from sandbox.origin import HlsOrigin
from shared.events import SegmentMissed, StreamEnded
from tests.conftest import Installation
from tests.integration.ingest.test_following import STARTS, bench_for, online

SPEED = 4.0
LENGTH_S = 28


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", duration_s=LENGTH_S)


@pytest.mark.faults
async def test_nothing_is_dropped_where_another_variant_goes_on_at_four_times_the_speed(
    installation: Installation, film: Path
) -> None:
    origin = HlsOrigin(film, renditions=(film,), speed=SPEED, initial_segments=2)
    async with origin, bench_for(installation, origin) as bench:
        origin.faults[r"stream_0/.*0000(0[5-9]|1\d)\.ts"] = lambda _: web.Response(status=503)
        await bench.handle(bench.intake.on_stream_online, online(origin.url))
        origin.go_live()
        await bench.until_ended(bench.replica("a"))
        (ended,) = await bench.events(StreamEnded)
        rows = await bench.rows(STARTS)
        assert (EndCause.ENDLIST, [], LENGTH_S * 1_000_000) == (
            ended.cause,
            await bench.events(SegmentMissed),
            ended.media_duration_us,
        )
        assert list(range(len(origin.window.segments))) == [sequence for sequence, _, _ in rows]
        assert all(after[1] == before[1] + before[2] for before, after in pairwise(rows))
        assert any(one.path.endswith(".ts") and "stream_1" in one.path for one in origin.requests)
