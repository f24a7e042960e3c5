"""A film by its address, without any playlist: segments, highlights and clips as of any other stream."""

from pathlib import Path

import pytest

from sandbox.film import make_film
from tests.conftest import Installation
from tests.integration.ingest.file_server import FileServer
from tests.pipeline.product import customer_of, product, until_terminal

pytestmark = pytest.mark.needs_ffmpeg


@pytest.mark.faults
async def test_a_film_by_its_address_becomes_highlights_with_clips(
    installation: Installation, tmp_path: Path
) -> None:
    film = make_film(tmp_path / "film.mp4", duration_s=40, moments=[(18, 26)])
    async with (
        FileServer(film) as server,
        product(installation, reachable=(server.base_url,)) as made,
        customer_of(made) as customer,
    ):
        body = {"source_url": f"{server.url}.mp4", "live": False}
        stream = await customer.call("POST", "/v1/streams", body)
        stream = await until_terminal(customer, stream["id"])
        highlights = await customer.highlights(stream["id"])
    assert ("completed", False, 100.0) == (
        stream["status"],
        stream["partial"],
        stream["progress"]["coverage_pct"],
    )
    assert 40 == pytest.approx(stream["duration"], abs=0.1)
    assert ["ready"] == [each["clip_status"] for each in highlights]
    assert 18 <= highlights[0]["peak_s"] <= 26
