"""The folder store on a real disk: atomic, idempotent, and never outside its root."""

import asyncio
import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.object_store import (
    FolderObjectStore,
    KeyInvalid,
    ObjectMissing,
    ObjectStore,
    Stored,
    StoreUnavailable,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def stored(key: str, body: bytes) -> Stored:
    return Stored(key=key, size_bytes=len(body), sha256=hashlib.sha256(body).hexdigest())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
def store(root: Path) -> ObjectStore:
    return FolderObjectStore(
        root,
        public_base_url="http://gateway",
        signing_secret="secret",
        clock=lambda: NOW,
    )


async def keys(store: ObjectStore, prefix: str) -> list[str]:
    return [key async for key in store.list(prefix)]


async def test_what_was_put_is_got_back_whole_and_in_part(store: ObjectStore) -> None:
    put = await store.put("a/b.bin", b"0123456789", content_type="application/octet-stream")
    assert put == stored("a/b.bin", b"0123456789")
    assert await store.get("a/b.bin") == b"0123456789"
    assert await store.get_range("a/b.bin", 2, 5) == b"234"
    assert await store.get_range("a/b.bin", 8, 99) == b"89"
    assert await store.get_range("a/b.bin", 99, 100) == b""
    assert await store.head("a/b.bin") == put


async def test_putting_again_replaces_and_putting_the_same_changes_nothing(
    store: ObjectStore, root: Path
) -> None:
    for body in (b"one", b"two", b"two"):
        assert await store.put("k", body) == stored("k", body)
    assert await store.get("k") == b"two"
    assert [path.name for path in root.iterdir()] == ["k"]


async def test_a_file_goes_in_and_out(store: ObjectStore, tmp_path: Path) -> None:
    body = bytes(range(256)) * 10_000
    source, target = tmp_path / "in.ts", tmp_path / "out.ts"
    source.write_bytes(body)
    assert await store.put_file("archive/x.ts", source) == stored("archive/x.ts", body)
    assert await store.get_file("archive/x.ts", target) == stored("archive/x.ts", body)
    assert target.read_bytes() == body


async def test_what_is_not_there_is_missing(store: ObjectStore, tmp_path: Path) -> None:
    await store.put("a/b", b"x")
    for key in ("a", "none", "a/b/c"):
        with pytest.raises(ObjectMissing):
            await store.get(key)
        with pytest.raises(ObjectMissing):
            await store.get_range(key, 0, 1)
        with pytest.raises(ObjectMissing):
            await store.get_file(key, tmp_path / "t")
        assert await store.head(key) is None
    assert not (tmp_path / "t").exists()


async def test_listing_is_by_text_prefix_in_order(store: ObjectStore, root: Path) -> None:
    for key in ("s/10/b", "s/1/a", "s/1/b/c", "s-1", "t/x"):
        await store.put(key, b"")
    (root / "s" / "1" / ".0badc0de.tmp").write_bytes(b"left by a crash")
    assert await keys(store, "") == ["s-1", "s/1/a", "s/1/b/c", "s/10/b", "t/x"]
    assert await keys(store, "s/1") == ["s/1/a", "s/1/b/c", "s/10/b"]
    assert await keys(store, "s/1/") == ["s/1/a", "s/1/b/c"]
    assert await keys(store, "none/") == []


async def test_deleting_is_idempotent_and_by_prefix_spares_the_neighbours(store: ObjectStore) -> None:
    for key in ("s/1/a", "s/1/b/c", "s/10/b"):
        await store.put(key, b"")
    assert await store.delete_prefix("s/1/") == 2
    assert await store.delete_prefix("s/1/") == 0
    assert await keys(store, "") == ["s/10/b"]
    await store.delete("s/10/b")
    await store.delete("s/10/b")
    assert await keys(store, "") == []


@pytest.mark.parametrize("prefix", ["", "/", "s/1", "../", "s/../"])
async def test_a_prefix_that_could_take_too_much_is_refused(store: ObjectStore, prefix: str) -> None:
    with pytest.raises(KeyInvalid):
        await store.delete_prefix(prefix)


@pytest.mark.parametrize("key", ["../outside", "/etc/passwd", "", "a/../../b", ".x"])
async def test_no_key_leads_out_of_the_root(store: ObjectStore, tmp_path: Path, key: str) -> None:
    (tmp_path / "outside").write_bytes(b"secret")
    for call in (store.get(key), store.put(key, b""), store.delete(key), store.head(key)):
        with pytest.raises(KeyInvalid):
            await call
    with pytest.raises(KeyInvalid):
        await store.signed_url(key, expires_s=1)
    assert (tmp_path / "outside").read_bytes() == b"secret"


async def test_a_reader_sees_one_version_or_the_other_and_never_a_mixture(store: ObjectStore) -> None:
    versions = [bytes([n]) * 300_000 for n in range(4)]
    await store.put("k", versions[0])
    writes = [store.put("k", version) for version in versions]
    reads = [store.get("k") for _ in range(12)]
    results = await asyncio.gather(*writes, *reads)
    assert all(body in versions for body in results[len(writes) :])


async def test_putting_while_the_prefix_is_deleted_does_not_fail(store: ObjectStore) -> None:
    puts = [store.put(f"s/1/{n}", b"x") for n in range(40)]
    deletes = [store.delete_prefix("s/1/") for _ in range(5)]
    await asyncio.gather(*puts, *deletes)


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
