"""What every object store promises, whatever it keeps the objects in: the folder and S3 pass the same tests."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from localcluster.s3 import S3Server
from shared.errors import PermanentError
from shared.object_store import (
    KeyInvalid,
    ObjectDiffers,
    ObjectMissing,
    ObjectStore,
    StoreUnavailable,
)
from shared.patient_store import PatientObjectStore
from shared.s3_store import S3ObjectStore
from shared.s3_upload import MULTIPART_BYTES
from tests.object_stores import folder_store, in_bucket, keys, new_bucket, s3_store, stored

LINKS = {"folder": "http://gateway/objects/", "s3": "http://127.0.0.1:"}


@pytest.fixture(scope="module")
async def s3(s3_server: S3Server) -> AsyncIterator[S3ObjectStore]:
    async with s3_store(s3_server) as made:
        yield made


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if "folder" == request.param:
        return folder_store(tmp_path / "objects")
    bucket = new_bucket(request.getfixturevalue("s3_server"))
    return in_bucket(request.getfixturevalue("s3"), bucket)


async def test_what_was_put_is_got_back_whole_and_in_part(store: ObjectStore) -> None:
    put = await store.put("a/b.bin", b"0123456789", content_type="application/octet-stream")
    assert stored("a/b.bin", b"0123456789") == put
    assert b"0123456789" == await store.get("a/b.bin")
    assert b"234" == await store.get_range("a/b.bin", 2, 5)
    assert b"89" == await store.get_range("a/b.bin", 8, 99)
    assert b"" == await store.get_range("a/b.bin", 99, 100)
    assert b"" == await store.get_range("a/b.bin", 3, 3)
    assert put == await store.head("a/b.bin")


async def test_an_empty_object_is_an_object(store: ObjectStore, tmp_path: Path) -> None:
    assert stored("empty", b"") == await store.put("empty", b"")
    assert b"" == await store.get("empty")
    assert b"" == await store.get_range("empty", 0, 10)
    assert stored("empty", b"") == await store.get_file("empty", tmp_path / "out")
    assert stored("empty", b"") == await store.head("empty")


async def test_putting_again_replaces_and_putting_the_same_changes_nothing(store: ObjectStore) -> None:
    for body in (b"one", b"two", b"two"):
        assert stored("k", body) == await store.put("k", body)
    assert b"two" == await store.get("k")
    assert ["k"] == await keys(store, "")


async def test_what_is_written_once_keeps_its_first_bytes(store: ObjectStore) -> None:
    for _ in range(2):
        assert stored("k", b"one") == await store.put_once("k", b"one")
    with pytest.raises(ObjectDiffers, match="object k ") as told:
        await store.put_once("k", b"two")
    assert isinstance(told.value, PermanentError)
    assert b"one" == await store.get("k")
    assert ["k"] == await keys(store, "")


async def test_what_was_put_or_deleted_counts_for_what_is_written_once(store: ObjectStore) -> None:
    await store.put("k", b"one")
    assert stored("k", b"one") == await store.put_once("k", b"one")
    await store.delete("k")
    assert stored("k", b"two") == await store.put_once("k", b"two")


async def test_of_writers_at_once_with_the_same_bytes_all_succeed(store: ObjectStore) -> None:
    patient, body = PatientObjectStore(store, first_wait_s=0), b"x" * 100_000
    found = await asyncio.gather(*(patient.put_once("k", body) for _ in range(8)))
    assert [stored("k", body)] * 8 == found
    assert body == await store.get("k")


@pytest.mark.parametrize("size_bytes", [100_000, MULTIPART_BYTES + 1], ids=["small", "in parts"])
async def test_a_file_goes_in_and_out(store: ObjectStore, tmp_path: Path, size_bytes: int) -> None:
    body = (bytes(range(251)) * (size_bytes // 251 + 1))[:size_bytes]
    source, target = tmp_path / "in.ts", tmp_path / "folder" / "out.ts"
    source.write_bytes(body)
    assert stored("archive/x.ts", body) == await store.put_file("archive/x.ts", source)
    assert stored("archive/x.ts", body) == await store.head("archive/x.ts")
    assert stored("archive/x.ts", body) == await store.get_file("archive/x.ts", target)
    assert body == target.read_bytes()
    assert body[-10:] == await store.get_range("archive/x.ts", size_bytes - 10, size_bytes)
    assert ["out.ts"] == [path.name for path in target.parent.iterdir()]


async def test_a_file_that_is_not_there_cannot_be_put(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="No such file"):
        await store.put_file("a", tmp_path / "none")
    assert [] == await keys(store, "")


async def test_what_is_not_there_is_missing(store: ObjectStore, tmp_path: Path) -> None:
    await store.put("a/b", b"x")
    for key in ("a", "none", "a/b/c"):
        with pytest.raises(ObjectMissing):
            await store.get(key)
        with pytest.raises(ObjectMissing):
            await store.get_range(key, 0, 1)
        with pytest.raises(ObjectMissing):
            await store.get_range(key, 1, 1)
        with pytest.raises(ObjectMissing):
            await store.get_file(key, tmp_path / "t")
        assert await store.head(key) is None
    assert not (tmp_path / "t").exists()


async def test_a_range_that_runs_backwards_is_a_mistake(store: ObjectStore) -> None:
    for start, end in ((-1, 2), (3, 2)):
        with pytest.raises(ValueError, match="is not a range"):
            await store.get_range("a", start, end)


async def test_listing_is_by_text_prefix_in_order(store: ObjectStore) -> None:
    for key in ("s/10/b", "s/1/a", "s/1/b/c", "s-1", "t/x"):
        await store.put(key, b"")
    assert ["s-1", "s/1/a", "s/1/b/c", "s/10/b", "t/x"] == await keys(store, "")
    assert ["s/1/a", "s/1/b/c", "s/10/b"] == await keys(store, "s/1")
    assert ["s/1/a", "s/1/b/c"] == await keys(store, "s/1/")
    assert [] == await keys(store, "none/")
    with pytest.raises(KeyInvalid):
        await keys(store, "../x")


async def test_deleting_is_idempotent_and_by_prefix_spares_the_neighbours(store: ObjectStore) -> None:
    for key in ("s/1/a", "s/1/b/c", "s/10/b"):
        await store.put(key, b"")
    assert 2 == await store.delete_prefix("s/1/")
    assert 0 == await store.delete_prefix("s/1/")
    assert ["s/10/b"] == await keys(store, "")
    await store.delete("s/10/b")
    await store.delete("s/10/b")
    assert [] == await keys(store, "")


@pytest.mark.parametrize("prefix", ["", "/", "s/", "s/1", "../", "s/../"])
async def test_a_prefix_that_could_take_too_much_is_refused(store: ObjectStore, prefix: str) -> None:
    with pytest.raises(KeyInvalid):
        await store.delete_prefix(prefix)


@pytest.mark.parametrize("key", ["../outside", "/etc/passwd", "", "a/../../b", ".x"])
async def test_no_key_leads_out_of_the_store(store: ObjectStore, tmp_path: Path, key: str) -> None:
    (tmp_path / "outside").write_bytes(b"secret")
    calls = (
        store.get(key),
        store.get_range(key, 0, 1),
        store.get_file(key, tmp_path / "t"),
        store.put(key, b""),
        store.put_once(key, b""),
        store.put_file(key, tmp_path / "outside"),
        store.delete(key),
        store.head(key),
        store.signed_url(key, expires_s=1),
    )
    for call in calls:
        with pytest.raises(KeyInvalid):
            await call
    assert b"secret" == (tmp_path / "outside").read_bytes()


async def test_putting_while_the_prefix_is_deleted_does_not_fail(store: ObjectStore) -> None:
    puts = [store.put(f"s/1/{n}", b"x") for n in range(40)]
    deletes = [store.delete_prefix("s/1/") for _ in range(5)]
    await asyncio.gather(*puts, *deletes)


async def test_a_signed_url_names_the_object_and_its_end(
    store: ObjectStore, request: pytest.FixtureRequest
) -> None:
    url = await store.signed_url("clips/a+b.mp4", expires_s=60)
    expected = LINKS[request.node.callspec.params["store"]]
    assert url.startswith(expected)
    assert "clips/a%2Bb.mp4?" in url
    assert "xpires=" in url
