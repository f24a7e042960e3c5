"""A stream that failed because its source was not there runs again under its own id, through all services."""

from pathlib import Path

import pytest

from sandbox.film import make_film
from sandbox.origin import HlsOrigin
from tests.conftest import Installation
from tests.pipeline.product import customer_of, product, until_terminal

pytestmark = [pytest.mark.faults, pytest.mark.needs_ffmpeg]


async def test_a_stream_that_came_too_late_completes_when_it_is_retried(
    installation: Installation, tmp_path: Path
) -> None:
    film = make_film(tmp_path / "film.mp4", duration_s=20)
    async with (
        HlsOrigin(film, speed=10, initial_segments=1) as origin,
        product(
            installation, reachable=(origin.url,), start_patience_s="1", stream_start_deadline_s="30"
        ) as made,
        customer_of(made) as customer,
    ):
        failed = await customer.call("POST", "/v1/streams", {"source_url": origin.url})
        failed = await until_terminal(customer, failed["id"])
        origin.go_live()
        again = await customer.call("POST", f"/v1/streams/{failed['id']}/retry")
        done = await until_terminal(customer, again["id"])
        told = await made.rows("SELECT DISTINCT type, sequence FROM gateway.public_events ORDER BY sequence")
    assert ("error", "pending", None) == (failed["status"], again["status"], again["error"])
    assert (failed["id"], "completed", False, 100.0) == (
        done["id"],
        done["status"],
        done["partial"],
        done["progress"]["coverage_pct"],
    )
    kinds = [row["type"] for row in told]
    assert ("stream.error", "stream.completed") == (kinds[0], kinds[-1])
