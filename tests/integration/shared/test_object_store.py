"""What is the folder store's own: files on a real disk, atomic, and nothing left behind."""

import asyncio
import os
from pathlib import Path

import pytest

from shared.object_store import ObjectDiffers, ObjectStore, Stored, StoreUnavailable
from tests.object_stores import NOW, folder_store, keys, stored


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
def store(root: Path) -> ObjectStore:
    return folder_store(root)


async def test_replacing_an_object_leaves_one_file(store: ObjectStore, root: Path) -> None:
    for body in (b"one", b"two", b"two"):
        await store.put("k", body)
    assert ["k"] == [path.name for path in root.iterdir()]


async def test_of_writers_at_once_of_different_bytes_one_wins_and_the_others_are_told(
    store: ObjectStore, root: Path
) -> None:
    bodies = [bytes([n]) * 300_000 for n in range(8)]
    found = await asyncio.gather(*(store.put_once("a/k", body) for body in bodies), return_exceptions=True)
    [winner] = [each for each in found if isinstance(each, Stored)]
    assert 7 == sum(isinstance(each, ObjectDiffers) for each in found)
    assert winner == stored("a/k", await store.get("a/k"))
    assert ["k"] == [path.name for path in (root / "a").iterdir()]


async def test_what_is_written_once_appears_whole_or_not_at_all(
    store: ObjectStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(StoreUnavailable, match="No space left"):
        await store.put_once("a/k", b"new")
    assert [] == list((root / "a").iterdir())


async def test_what_a_crash_left_is_not_listed(store: ObjectStore, root: Path) -> None:
    await store.put("s/1/a", b"")
    (root / "s" / "1" / ".0badc0de.tmp").write_bytes(b"left by a crash")
    assert ["s/1/a"] == await keys(store, "")


async def test_a_reader_sees_one_version_or_the_other_and_never_a_mixture(store: ObjectStore) -> None:
    versions = [bytes([n]) * 300_000 for n in range(4)]
    await store.put("k", versions[0])
    writes = [store.put("k", version) for version in versions]
    reads = [store.get("k") for _ in range(12)]
    results = await asyncio.gather(*writes, *reads)
    assert all(body in versions for body in results[len(writes) :])


async def test_a_store_that_cannot_write_is_unavailable_and_leaves_nothing(
    root: Path, store: ObjectStore
) -> None:
    root.write_bytes(b"a file where the folder should be")
    with pytest.raises(StoreUnavailable):
        await store.put("a/b", b"x")


async def test_a_full_disk_is_unavailable_and_leaves_nothing(
    store: ObjectStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    await store.put("a/b", b"old")
    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(StoreUnavailable, match="No space left"):
        await store.put("a/b", b"new")
    assert await store.get("a/b") == b"old"
    assert [path.name for path in (root / "a").iterdir()] == ["b"]


async def test_deleting_a_prefix_sweeps_what_a_killed_writer_left_long_ago(
    store: ObjectStore, root: Path
) -> None:
    await store.put("s/1/a", b"x")
    old, fresh = root / "s/1/.old.tmp", root / "s/1/.fresh.tmp"
    for path, age_s in ((old, 4000), (fresh, 10)):
        path.write_bytes(b"half")
        changed = NOW.timestamp() - age_s
        os.utime(path, (changed, changed))
    assert await store.delete_prefix("s/1/") == 1
    assert (old.exists(), fresh.exists()) == (False, True)


async def test_a_folder_that_is_taken_away_while_it_is_made_is_made_once_more(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, taken = os.mkdir, []

    def make_and_take_away(path: Path, mode: int = 0o777) -> None:
        make(path, mode)
        if Path(path).name == "s" and not taken:
            taken.append(path)
            Path(path).rmdir()

    monkeypatch.setattr(os, "mkdir", make_and_take_away)
    await store.put("s/1/a", b"x")
    assert (1, b"x") == (len(taken), await store.get("s/1/a"))
