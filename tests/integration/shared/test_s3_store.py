"""What is S3's own: pages, buckets, signed URLs that open over HTTP, and how the store is put together."""

import asyncio
import hashlib
import hmac
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit

import aiohttp
import pytest
from structlog.testing import capture_logs

from localcluster.s3 import REGION, S3Server
from shared import s3_store
from shared.foundation import object_store
from shared.object_places import Buckets
from shared.object_store import FolderObjectStore, ObjectMissing, StoreRefused
from shared.s3_store import S3Access, S3ObjectStore, open_s3
from shared.settings import ServiceSettings
from tests.object_stores import in_bucket, keys, new_bucket, stored
from tests.object_stores import s3_store as opened_s3


@pytest.fixture(name="opened", scope="module")
async def _opened(s3_server: S3Server) -> AsyncIterator[S3ObjectStore]:
    async with opened_s3(s3_server) as store:
        yield store


@pytest.fixture
def store(s3_server: S3Server, opened: S3ObjectStore) -> S3ObjectStore:
    return in_bucket(opened, new_bucket(s3_server))


async def fetch(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status, dict(answer.headers), await answer.read()


def signature_of(url: str, *, secret: str) -> str:
    """AWS Signature Version 4 of a query, for the host that the URL names, written down from its definition."""
    parts = urlsplit(url)
    query = [(name, value) for name, value in parse_qsl(parts.query) if "X-Amz-Signature" != name]
    scope = dict(query)["X-Amz-Credential"].split("/", 1)[1]
    canonical = "\n".join(
        (
            "GET",
            parts.path,
            urlencode(sorted(query), quote_via=quote, safe="~"),
            f"host:{parts.netloc}\n",
            "host",
            "UNSIGNED-PAYLOAD",
        )
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    signed = f"AWS4-HMAC-SHA256\n{dict(query)['X-Amz-Date']}\n{scope}\n{digest}"
    key = f"AWS4{secret}".encode()
    for part in (*scope.split("/"), signed):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key.hex()


def place_of(store: S3ObjectStore, key: str) -> dict[str, str]:
    place = store._buckets.place(key)
    return {"Bucket": place.bucket, "Key": place.name}


async def test_more_keys_than_a_page_holds_are_listed_in_order_and_deleted(store: S3ObjectStore) -> None:
    wanted = [f"s/1/{n:03d}" for n in range(120)]
    await asyncio.gather(*(store.put(key, b"") for key in (*wanted, "s/2/other")))
    assert wanted == await keys(store, "s/1/")
    assert 120 == await store.delete_prefix("s/1/")
    assert ["s/2/other"] == await keys(store, "")


async def test_a_signed_url_opens_the_object_with_ranges_and_its_content_type(
    s3_server: S3Server, store: S3ObjectStore
) -> None:
    await store.put("clips/o/s/a+b.mp4", b"0123456789")
    url = await store.signed_url("clips/o/s/a+b.mp4", expires_s=600)
    status, headers, body = await fetch(url)
    assert (200, "video/mp4", b"0123456789") == (status, headers["Content-Type"], body)
    assert hashlib.sha256(b"0123456789").hexdigest() == headers["x-amz-meta-sha256"]
    status, _, body = await fetch(url, Range="bytes=2-4")
    assert (206, b"234") == (status, body)
    query = parse_qs(urlsplit(url).query)
    assert ["600"] == query["X-Amz-Expires"]
    assert [signature_of(url, secret=s3_server.secret_access_key)] == query["X-Amz-Signature"]


async def test_a_url_is_never_signed_for_longer_than_s3_allows(store: S3ObjectStore) -> None:
    url = await store.signed_url("a", expires_s=30 * 24 * 3600)
    assert ["604800"] == parse_qs(urlsplit(url).query)["X-Amz-Expires"]


async def test_a_public_endpoint_is_signed_for_and_calls_go_to_the_other(s3_server: S3Server) -> None:
    async with opened_s3(s3_server, public_endpoint_url="https://media.example.com") as store:
        await store.put("clips/o/s/a.mp4", b"x")
        url = await store.signed_url("clips/o/s/a.mp4", expires_s=60)
        place = place_of(store, "clips/o/s/a.mp4")
    assert url.startswith(f"https://media.example.com/{place['Bucket']}/clips/o/s/a.mp4?X-Amz-")
    told = parse_qs(urlsplit(url).query)["X-Amz-Signature"]
    assert [signature_of(url, secret=s3_server.secret_access_key)] == told


@pytest.mark.parametrize(
    ("bucket", "start"),
    [
        ("clips-eu", "https://clips-eu.s3.eu-central-1.amazonaws.com/a.mp4?"),
        ("clips.eu", "https://s3.eu-central-1.amazonaws.com/clips.eu/a.mp4?"),
    ],
)
async def test_at_amazon_a_url_names_the_host_of_the_region(bucket: str, start: str) -> None:
    access = S3Access(region="eu-central-1", access_key_id="key", secret_access_key="secret")
    async with open_s3(access, Buckets(shared=bucket)) as store:
        assert (await store.signed_url("a.mp4", expires_s=60)).startswith(start)


async def test_an_organization_with_a_bucket_of_its_own_shares_none(s3_server: S3Server) -> None:
    own = new_bucket(s3_server)
    async with opened_s3(s3_server, prefix="tldr/", dedicated={"org_1": own}) as store:
        for key in ("archive/org_1/s/1", "archive/org_2/s/1", "clips/org_1/s/1", "profiles/1.json"):
            await store.put(key, key.encode())
        shared = place_of(store, "profiles/1.json")["Bucket"]
        assert ["tldr/archive/org_1/s/1", "tldr/clips/org_1/s/1"] == await names_in(store, own)
        assert ["tldr/archive/org_2/s/1", "tldr/profiles/1.json"] == await names_in(store, shared)
        assert b"clips/org_1/s/1" == await store.get("clips/org_1/s/1")
        assert own in await store.signed_url("clips/org_1/s/1", expires_s=60)
        assert ["archive/org_1/s/1", "archive/org_2/s/1"] == await keys(store, "archive/")
        assert ["archive/org_1/s/1"] == await keys(store, "archive/org_1/")
        assert 1 == await store.delete_prefix("archive/org_1/")
        assert 1 == await store.delete_prefix("archive/org_2/")
        assert ["clips/org_1/s/1", "profiles/1.json"] == await keys(store, "")


async def names_in(store: S3ObjectStore, bucket: str) -> list[str]:
    page = await store._client.list_objects_v2(Bucket=bucket)
    return [each["Key"] for each in page["Contents"]]


async def test_what_another_program_wrote_is_read_too(store: S3ObjectStore, tmp_path: Path) -> None:
    await store._client.put_object(**place_of(store, "a/b"), Body=b"by hand")
    assert stored("a/b", b"by hand") == await store.head("a/b")
    assert b"by hand" == await store.get("a/b")
    assert stored("a/b", b"by hand") == await store.get_file("a/b", tmp_path / "out")


async def test_a_folder_mark_of_a_console_is_no_object_but_is_deleted(store: S3ObjectStore) -> None:
    await store.put("a/b/c", b"")
    await store._client.put_object(Bucket=place_of(store, "a/b/c")["Bucket"], Key="a/b/", Body=b"")
    assert ["a/b/c"] == await keys(store, "")
    await store.delete_prefix("a/b/")
    assert [] == (await store._client.list_objects_v2(Bucket=place_of(store, "a")["Bucket"])).get(
        "Contents", []
    )


async def test_big_bodies_are_hashed_beside_the_event_loop(
    store: S3ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def digests_of(body: bytes) -> Any:
        threads.append(threading.current_thread())
        return genuine(body)

    genuine = s3_store.digests_of
    monkeypatch.setattr(s3_store, "digests_of", digests_of)
    await store.put("a", b"x")
    assert [False] == [thread is threading.main_thread() for thread in threads]


async def test_without_credentials_it_is_told_where_to_put_them(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    access = S3Access(region=REGION, endpoint_url=s3_server.url)
    async with open_s3(access, Buckets(shared=new_bucket(s3_server))) as store:
        with capture_logs() as logs, pytest.raises(StoreRefused, match="no credentials"):
            await store.put("a", b"")
    assert "S3_ACCESS_KEY_ID" in logs[0]["advice"]


async def test_credentials_of_the_environment_are_found_without_settings(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from-the-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    access = S3Access(region=REGION, endpoint_url=s3_server.url)
    async with open_s3(access, Buckets(shared=new_bucket(s3_server))) as store:
        assert "from-the-environment" in await store.signed_url("a", expires_s=60)


async def test_settings_choose_the_store(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = {
        "database_url": "postgresql://x@127.0.0.1/x",
        "rabbitmq_url": "amqp://127.0.0.1/",
        "ops_port": 0,
        "url_signing_secret": "s" * 32,
        "secrets_keyring": "k",
    }
    given = {name.lower(): value for name, value in s3_server.settings(new_bucket(s3_server)).items()}
    in_s3 = ServiceSettings.model_validate(base | given | {"s3_key_prefix": "tldr"})
    async with object_store(in_s3) as store:
        assert isinstance(store, S3ObjectStore)
        await store.put("a", b"x")
        assert ["tldr/a"] == await names_in(store, given["s3_bucket_name"])
    in_folder = ServiceSettings.model_validate(base | {"object_store_folder": str(tmp_path)})
    async with object_store(in_folder) as store:
        assert isinstance(store, FolderObjectStore)
        with pytest.raises(ObjectMissing):
            await store.get("a")
