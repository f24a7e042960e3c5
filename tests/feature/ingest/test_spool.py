"""The folder for bodies that wait: bounded, each process's own, and cleaned of those that are gone."""

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
