"""The folder for bodies that wait: bounded, each process's own, and cleaned of those that are gone."""

import asyncio
from pathlib import Path

import pytest

from ingest.adapters.spool import FolderSpool
from ingest.workflow.ports import SpoolFull


def bodies(root: Path) -> list[Path]:
    return sorted(root.glob("*/*.body"))


async def test_room_is_bounded_and_comes_back(tmp_path: Path) -> None:
    spool = FolderSpool(tmp_path, limit_bytes=10)
    kept = await spool.keep(b"12345678")
    with pytest.raises(SpoolFull):
        await spool.keep(b"123")
    await spool.drop(kept)
    assert b"123" == (await spool.keep(b"123")).read_bytes()


async def test_what_many_keep_and_drop_at_once_is_counted_once(tmp_path: Path) -> None:
    spool = FolderSpool(tmp_path, limit_bytes=10)
    kept = [await spool.keep(b"1") for _ in range(10)]
    await asyncio.gather(*(spool.drop(path) for path in kept))
    assert b"1234567890" == (await spool.keep(b"1234567890")).read_bytes()


async def test_what_is_dropped_by_who_is_cancelled_is_dropped(tmp_path: Path) -> None:
    spool = FolderSpool(tmp_path, limit_bytes=1)
    dropping = asyncio.create_task(spool.drop(await spool.keep(b"1")))
    await asyncio.sleep(0)
    dropping.cancel()
    await asyncio.wait([dropping])
    async with asyncio.timeout(10):
        while bodies(tmp_path) or not await has_room(spool):
            await asyncio.sleep(0.01)


async def has_room(spool: FolderSpool) -> bool:
    try:
        await spool.drop(await spool.keep(b"2"))
    except SpoolFull:
        return False
    return True


async def test_a_disk_that_takes_nothing_counts_as_full(tmp_path: Path) -> None:
    spool = FolderSpool(tmp_path, limit_bytes=10)
    spool.close()
    with pytest.raises(SpoolFull):
        await spool.keep(b"1")


async def test_what_another_process_keeps_stays(tmp_path: Path) -> None:
    first = FolderSpool(tmp_path, limit_bytes=10)
    kept = await first.keep(b"1")
    FolderSpool(tmp_path, limit_bytes=10)
    assert [kept] == bodies(tmp_path)


async def test_what_a_dead_process_left_is_removed(tmp_path: Path) -> None:
    dead = FolderSpool(tmp_path, limit_bytes=10)
    await dead.keep(b"1")
    dead._lock.close()
    FolderSpool(tmp_path, limit_bytes=10)
    assert [] == bodies(tmp_path)
