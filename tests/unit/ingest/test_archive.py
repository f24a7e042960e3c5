"""Bodies on their way to the store: a live one does not wait for a store that is silent, a recording does."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ingest.adapters.spool import FolderSpool
from ingest.domain.media_body import MediaBody
from ingest.domain.recorder import Followed, Source
from ingest.workflow.archive import Archive, Waiting
from ingest.workflow.ports import FetchedSegment
from shared.events import Lane
from tests.builders import ORGANIZATION, STREAM
from tests.object_stores import folder_store

LIVE = Followed(
    stream_id=STREAM,
    organization_id=ORGANIZATION,
    run=0,
    lane=Lane.LIVE,
    profile_key="profiles/0.json",
    source=Source(sealed_url="x", display_url="x"),
)
FETCHED = FetchedSegment(
    body=b"media",
    sha256=hashlib.sha256(b"media").hexdigest(),
    media=MediaBody(container="fmp4"),
    init=b"init",
)


class SilentStore:
    """Takes bodies, and answers when it is released."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.asked: list[str] = []

    async def put_once(self, key: str, body: bytes, *, sha256: str | None) -> None:
        self.asked.append(key)
        await self.released.wait()


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[FolderSpool]:
    made = FolderSpool(tmp_path, limit_bytes=1000)
    yield made
    made.close()


async def test_a_live_body_goes_to_the_spool_when_the_store_is_silent(
    spool: FolderSpool, tmp_path: Path
) -> None:
    silent = SilentStore()
    kept = await Archive(silent, spool, live_patience_s=0.01).keep(  # type: ignore[arg-type]
        LIVE, epoch=0, sequence=7, fetched=FETCHED
    )
    assert [b"init", b"media"] == [each.path.read_bytes() for each in kept.waiting]
    assert silent.asked == [each.key for each in kept.waiting]

    store = folder_store(tmp_path / "objects")
    await Archive(store, spool).deliver(kept.waiting)
    assert b"media" == await store.get(kept.segment.key)


async def test_a_recording_waits_for_the_store(spool: FolderSpool) -> None:
    silent = SilentStore()
    archive = Archive(silent, spool, live_patience_s=0)  # type: ignore[arg-type]
    keeping = asyncio.create_task(
        archive.keep(replace(LIVE, lane=Lane.VOD), epoch=0, sequence=7, fetched=replace(FETCHED, init=None))
    )
    while not (silent.asked or keeping.done()):
        await asyncio.sleep(0)
    silent.released.set()
    assert () == (await keeping).waiting


async def test_fetching_again_writes_nothing_again(spool: FolderSpool, tmp_path: Path) -> None:
    store = folder_store(tmp_path / "objects")
    first = await Archive(store, spool).keep(LIVE, epoch=0, sequence=7, fetched=FETCHED)
    written = store.file_of(first.segment.key).stat()
    again = await Archive(store, spool).keep(LIVE, epoch=0, sequence=7, fetched=FETCHED)
    assert again == first
    found = store.file_of(first.segment.key).stat()
    assert (written.st_ino, written.st_mtime_ns) == (found.st_ino, found.st_mtime_ns)


async def test_a_damaged_object_is_repaired_and_told_and_no_stream_is_lost(
    spool: FolderSpool, tmp_path: Path
) -> None:
    store = folder_store(tmp_path / "objects")
    kept = await Archive(store, spool).keep(LIVE, epoch=0, sequence=7, fetched=FETCHED)
    await store.put(kept.segment.key, b"damaged")
    waiting = Waiting(key=kept.segment.key, path=await spool.keep(b"media"))
    with capture_logs() as logs:
        again = await Archive(store, spool).keep(LIVE, epoch=0, sequence=7, fetched=FETCHED)
        await store.put(kept.segment.key, b"damaged")
        await Archive(store, spool).deliver((waiting,))
    assert again == kept
    assert b"media" == await store.get(kept.segment.key)
    assert [kept.segment.key] * 2 == [
        line["key"] for line in logs if "archived_object_differs" == line["event"]
    ]
