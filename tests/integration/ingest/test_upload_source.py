"""An uploaded film becomes segments: read from its parts in the object store."""

import hashlib
import json
from pathlib import Path

import pytest

from ingest.adapters.remux.file_bytes import open_upload
from ingest.adapters.remux.file_source import FileSource
from ingest.domain.actions import FailureKind
from ingest.domain.recorder import Progress
from ingest.workflow.ports import FetchFailed
from sandbox.film import make_film, read_frame_numbers
from shared import keys
from shared.clock import utc_now
from shared.object_store import FolderObjectStore
from tests.builders import ORGANIZATION
from tests.integration.ingest.file_server import Workbench, read_all, workbench

pytestmark = pytest.mark.needs_ffmpeg

UPLOAD = "upl_0123456789ab"


@pytest.fixture
def store(tmp_path: Path) -> FolderObjectStore:
    return FolderObjectStore(
        tmp_path / "objects", public_base_url="http://x", signing_secret="s" * 32, clock=utc_now
    )


async def upload(
    store: FolderObjectStore,
    body: bytes,
    *,
    part_bytes: int,
    missing: int | None = None,
    damaged: int | None = None,
) -> None:
    parts = []
    for offset in range(0, len(body), part_bytes):
        part = body[offset : offset + part_bytes]
        sha256 = hashlib.sha256(part).hexdigest()
        parts.append({"offset": offset, "size_bytes": len(part), "sha256": sha256})
        if offset != missing:
            key = keys.upload_part(ORGANIZATION, UPLOAD, offset=offset, sha256=sha256)
            await store.put(key, bytes(len(part)) if offset == damaged else part)
    manifest = {"size_bytes": len(body), "parts": parts, "name": "film.mp4", "content_type": "video/mp4"}
    await store.put(keys.upload_manifest(ORGANIZATION, UPLOAD), json.dumps(manifest).encode())


def uploaded(bench: Workbench, store: FolderObjectStore) -> FileSource:
    return FileSource(
        lambda: open_upload(store, organization_id=ORGANIZATION, upload_id=UPLOAD),
        workshop=bench.workshop,
        spool=bench.spool,
        progress=Progress(),
    )


async def test_an_upload_is_read_across_its_parts(store: FolderObjectStore, tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mp4", duration_s=6)
    await upload(store, film.read_bytes(), part_bytes=10_007)
    async with workbench(tmp_path) as bench:
        read = await read_all(uploaded(bench, store))
    frames = read_frame_numbers(read.write(tmp_path / "read.mp4"))
    assert list(range(150)) == [number for _, number in frames]


@pytest.mark.parametrize("missing", [0, pytest.param(20_014, marks=pytest.mark.faults)])
async def test_a_part_that_is_gone_is_told(missing: int, store: FolderObjectStore, tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mp4", duration_s=6)
    await upload(store, film.read_bytes(), part_bytes=10_007, missing=missing)
    async with workbench(tmp_path) as bench:
        with pytest.raises(FetchFailed, match="upload is not there") as caught:
            await read_all(uploaded(bench, store))
    assert FailureKind.REFUSED is caught.value.failure.kind


async def test_a_part_that_is_not_what_was_uploaded_is_told(store: FolderObjectStore) -> None:
    body = bytes(range(1, 251)) * 100
    await upload(store, body, part_bytes=10_000, damaged=10_000)
    opened = await open_upload(store, organization_id=ORGANIZATION, upload_id=UPLOAD)
    read = bytearray()

    with pytest.raises(FetchFailed, match="not what was uploaded") as caught:
        async for chunk in opened.read(5):
            read += chunk
    assert (FailureKind.REFUSED, body[5:10_000]) == (caught.value.failure.kind, bytes(read))


async def test_an_upload_without_a_manifest_is_told(store: FolderObjectStore, tmp_path: Path) -> None:
    async with workbench(tmp_path) as bench:
        with pytest.raises(FetchFailed, match="upload is not there"):
            await read_all(uploaded(bench, store))
