"""The whole product with its objects in S3: nothing in a folder, and clips that open by the URLs of the bucket."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from localcluster.s3 import S3Server
from sandbox.film import make_film, read_frame_numbers
from sandbox.origin import HlsOrigin
from tests.conftest import Installation
from tests.object_stores import keys, new_bucket, s3_store
from tests.pipeline.product import customer_of, product, until_terminal

FPS = 25
LENGTH_S = 40
MOMENT = (14.0, 18.0)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", duration_s=LENGTH_S, moments=(MOMENT,))


@pytest.mark.faults
async def test_a_stream_becomes_clips_in_the_bucket_that_open_by_signed_urls(
    installation: Installation, film: Path, s3_server: S3Server
) -> None:
    bucket = new_bucket(s3_server)
    in_s3 = {name.lower(): value for name, value in s3_server.settings(bucket).items()}
    async with (
        HlsOrigin(film, speed=10, initial_segments=1) as origin,
        product(installation, reachable=(origin.url,), **in_s3) as made,
        customer_of(made) as customer,
    ):
        origin.go_live()
        stream = await customer.call("POST", "/v1/streams", {"source_url": origin.url})
        stream = await until_terminal(customer, stream["id"])
        highlights = await customer.highlights(stream["id"])
        clip, picture = installation.folder / "clip.mp4", installation.folder / "picture.jpg"
        await customer.fetch(highlights[0]["video_url"], clip)
        await customer.fetch(highlights[0]["thumbnail_url"], picture)
    assert ("completed", False, 100.0) == (
        stream["status"],
        stream["partial"],
        stream["progress"]["coverage_pct"],
    )
    url = highlights[0]["video_url"]
    assert url.startswith(f"{s3_server.url}/{bucket}/clips/")
    assert {"X-Amz-Signature", "X-Amz-Expires"} <= parse_qs(urlsplit(url).query).keys()
    frames = [number for _, number in read_frame_numbers(clip)]
    assert round(highlights[0]["start_s"] * FPS) == frames[0]
    assert round(highlights[0]["end_s"] * FPS) == frames[-1] + 1
    assert b"\xff\xd8" == picture.read_bytes()[:2]
    async with s3_store(s3_server, bucket=bucket) as store:
        found = await keys(store, "")
    assert {"archive", "clips", "profiles"} == {key.partition("/")[0] for key in found}
    assert not made.environment.objects.exists()
