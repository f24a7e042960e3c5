"""How tus speaks of a file, and what ingest is told of its parts."""

import base64
import hashlib
import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

import pytest

from gateway.domain.refusals import Unacceptable
from gateway.domain.uploads import (
    MAX_METADATA,
    Part,
    Upload,
    UploadId,
    manifest,
    read_checksum,
    read_metadata,
)
from gateway.routes.edge import paced
from gateway.routes.uploads import is_chunk
from gateway.workflow.uploads import BodyBroken
from tests.builders import ORGANIZATION


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_metadata_is_pairs_of_words_and_base64() -> None:
    text = f"FileName {encoded('Finále, set 1.mp4')}, filetype {encoded('video/mp4')},is_private"

    assert {"filename": "Finále, set 1.mp4", "filetype": "video/mp4", "is_private": ""} == dict(
        read_metadata(text)
    )
    assert {} == dict(read_metadata(""))


def test_metadata_loses_what_cannot_be_stored() -> None:
    long = encoded("a\x00b" + "x" * 300)

    assert {"filename": "ab" + "x" * 253} == dict(read_metadata(f"filename {long}"))


@pytest.mark.parametrize("text", ["filename ???", "filename /w==", "a" * (MAX_METADATA + 1)])
def test_metadata_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Unacceptable) as refusal:
        read_metadata(text)
    assert "Upload-Metadata" == refusal.value.field


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_a_checksum_fits_its_own_bytes_only(algorithm: str) -> None:
    digest = base64.b64encode(hashlib.new(algorithm, b"abc").digest()).decode()
    checksum = read_checksum(f"{algorithm} {digest}")

    assert (True, False) == (checksum.fits(b"abc"), checksum.fits(b"abd"))


@pytest.mark.parametrize("text", ["", "md5 AAAA", "sha1", "sha1 ???", "sha256 AAAA"])
def test_what_is_no_checksum_is_refused(text: str) -> None:
    with pytest.raises(Unacceptable):
        read_checksum(text)


def test_the_manifest_names_the_parts_in_their_order() -> None:
    upload = Upload(
        upload_id=UploadId("upl_0123456789ab"),
        organization_id=ORGANIZATION,
        name="a.mp4",
        content_type="video/mp4",
        metadata="",
        size_bytes=30,
        created_at=datetime.now(UTC),
        expires_at=datetime.now(UTC),
    )
    parts = [
        Part(offset_bytes=0, size_bytes=20, sha256="a"),
        Part(offset_bytes=20, size_bytes=10, sha256="b"),
    ]

    assert {
        "size_bytes": 30,
        "parts": [
            {"offset": 0, "size_bytes": 20, "sha256": "a"},
            {"offset": 20, "size_bytes": 10, "sha256": "b"},
        ],
        "name": "a.mp4",
        "content_type": "video/mp4",
    } == json.loads(manifest(upload, parts))


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("PATCH", "/v1/uploads/upl_0123456789ab", True),
        ("PATCH", "/api/v1/uploads/upl_0123456789ab", True),
        ("POST", "/v1/uploads/upl_0123456789ab", False),
        ("POST", "/v1/uploads", False),
        ("PATCH", "/v1/uploads/upl_0123456789ab/x", False),
        ("PATCH", "/v1/webhooks/whk_0123456789ab", False),
    ],
)
def test_only_the_chunks_of_uploads_may_be_longer_than_other_bodies(
    method: str, path: str, expected: bool
) -> None:
    assert expected is is_chunk({"method": method, "path": path})


class Line:
    """A connection that brings a piece now and then, and the clock of whoever waits for it."""

    def __init__(self, *, pieces: int, piece_bytes: int, every_s: float) -> None:
        self.pieces, self.piece_bytes, self.every_s = pieces, piece_bytes, every_s
        self.now_s = 0.0

    async def stream(self) -> AsyncGenerator[bytes]:
        for _ in range(self.pieces):
            self.now_s += self.every_s
            yield bytes(self.piece_bytes)

    async def take(self, *, storing_s: float = 0.0) -> int:
        taken_bytes = 0
        async for chunk in paced(self.stream(), now_s=lambda: self.now_s):
            taken_bytes += len(chunk)
            self.now_s += storing_s
        return taken_bytes


async def test_a_body_that_only_drips_is_not_waited_for() -> None:
    line = Line(pieces=100, piece_bytes=1, every_s=14)

    with pytest.raises(BodyBroken, match="only 3 bytes came in 42 s"):
        await line.take()
    assert 42 == line.now_s


async def test_a_slow_line_is_waited_for_and_so_is_a_slow_store() -> None:
    assert 1_000_000 == await Line(pieces=100, piece_bytes=10_000, every_s=1).take()
    assert 100 == await Line(pieces=100, piece_bytes=1, every_s=0.1).take(storing_s=20)
