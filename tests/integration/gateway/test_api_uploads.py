"""Uploads over a real port and a real database: what is stored is what was sent, whatever breaks on the way."""

import asyncio
import base64
import hashlib
import json
import os
import random
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.adapters.transactions import opener
from gateway.adapters.uploads import UploadRows
from gateway.app import upload_sweep
from gateway.domain.uploads import UploadId
from gateway.workflow.uploads import LEAST_TAIL_BYTES
from ingest.adapters.remux.file_bytes import open_upload
from shared import keys
from shared.database import Database
from shared.ids import OrganizationId
from shared.object_store import Stored
from tests.conftest import REPOSITORY
from tests.integration.gateway.api_client import Customer, GatewayApp
from tests.integration.gateway.upload_server import served_api

PART = 64 * 1024
CHUNK_TYPE = "application/offset+octet-stream"
CONTENT = random.Random(1).randbytes(5 * PART + 123)
NAME = base64.b64encode("Finále.mp4".encode()).decode()


@dataclass(frozen=True)
class Site:
    """The API on a port, with one customer."""

    app: GatewayApp
    port: int
    client: httpx2.AsyncClient
    customer: Customer

    async def begin(self, size_bytes: int = len(CONTENT), **headers: str) -> str:
        """The path of a new upload."""
        answer = await self.client.post("/v1/uploads", headers={"Upload-Length": str(size_bytes), **headers})
        assert 201 == answer.status_code, answer.text
        return str(answer.headers["Location"])

    async def send(self, path: str, offset: int, body: Any, **headers: str) -> httpx2.Response:
        given = {"Upload-Offset": str(offset), "Content-Type": CHUNK_TYPE, "Tus-Resumable": "1.0.0"}
        return await self.client.patch(path, content=body, headers=given | headers)

    async def offset(self, path: str) -> int:
        answer = await self.client.head(path, headers={"Tus-Resumable": "1.0.0"})
        assert 200 == answer.status_code
        return int(answer.headers["Upload-Offset"])

    async def until_offset(self, path: str, expected: int) -> None:
        async with asyncio.timeout(10):
            while await self.offset(path) != expected:
                await asyncio.sleep(0.02)

    async def stored(self, path: str) -> bytes:
        """The bytes that the manifest names."""
        upload_id = path.rpartition("/")[2]
        organization_id = OrganizationId(self.customer.organization_id)
        store = self.app.base.store
        manifest = json.loads(await store.get(keys.upload_manifest(organization_id, upload_id)))
        parts = [
            await store.get(
                keys.upload_part(organization_id, upload_id, offset=part["offset"], sha256=part["sha256"])
            )
            for part in manifest["parts"]
        ]
        assert [len(part) for part in parts] == [part["size_bytes"] for part in manifest["parts"]]
        assert [hashlib.sha256(part).hexdigest() for part in parts] == [
            part["sha256"] for part in manifest["parts"]
        ]
        assert manifest["size_bytes"] == sum(map(len, parts))
        return b"".join(parts)

    async def objects(self) -> list[str]:
        return [key async for key in self.app.base.store.list("uploads/")]

    async def connect(self, path: str, *, offset: int, length: int) -> "Broken":
        """A request that has announced `length` bytes and sent none, on a connection of its own."""
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = (
            f"PATCH {path} HTTP/1.1\r\nHost: test\r\nX-API-Key: {self.customer.api_key}\r\n"
            f"Content-Type: {CHUNK_TYPE}\r\nUpload-Offset: {offset}\r\nContent-Length: {length}\r\n\r\n"
        )
        writer.write(head.encode())
        await writer.drain()
        return Broken(writer)


@dataclass(frozen=True)
class Broken:
    """A connection that will break."""

    writer: asyncio.StreamWriter

    async def send(self, body: bytes) -> None:
        self.writer.write(body)
        await self.writer.drain()

    async def cut(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def site_on(database: Database, folder: Path, **changes: Any) -> AsyncIterator[Site]:
    async with served_api(database.url, folder, **{"upload_part_bytes": PART} | changes) as (app, port):
        customer = await app.register()
        async with httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers=customer.headers, timeout=30
        ) as client:
            yield Site(app, port, client, customer)


@pytest.fixture
async def site(emptied_database: Database, tmp_path: Path) -> AsyncIterator[Site]:
    async with site_on(emptied_database, tmp_path) as started:
        yield started


async def test_a_file_in_chunks_becomes_the_source_of_a_stream(site: Site) -> None:
    path = await site.begin(**{"Upload-Metadata": f"filename {NAME},filetype dmlkZW8vbXA0,hidden"})
    first = await site.send(path, 0, CONTENT[:100_000])
    unfinished = (await site.client.get(path)).json()
    too_early = await site.client.post("/v1/streams", json={"source_url": unfinished["source_url"]})
    second = await site.send(path, 100_000, CONTENT[100_000:])
    finished = (await site.client.get(path)).json()

    assert (204, "100000") == (first.status_code, first.headers["Upload-Offset"])
    assert (204, str(len(CONTENT))) == (second.status_code, second.headers["Upload-Offset"])
    assert ("uploading", 100_000, "complete", len(CONTENT)) == (
        unfinished["status"],
        unfinished["received_bytes"],
        finished["status"],
        finished["received_bytes"],
    )
    assert ("Finále.mp4", "video/mp4") == (finished["name"], finished["content_type"])
    assert (422, "source_url") == (too_early.status_code, too_early.json()["errors"][0]["field"])
    assert CONTENT == await site.stored(path)

    stream = await site.app.submit(site.customer, source_url=finished["source_url"])
    [event] = await site.app.emitted("stream.online")
    assert ("upload", finished["source_url"]) == (stream["source_kind"], stream["source_url"])
    assert ("upload", "vod") == (event["source"]["kind"], event["lane"])


async def test_ingest_reads_an_upload_from_any_byte_on(site: Site) -> None:
    path = await site.begin()
    for offset in (0, PART + 5, 3 * PART):
        await site.send(path, await site.offset(path), CONTENT[await site.offset(path) : offset + PART])
    await site.send(path, await site.offset(path), CONTENT[await site.offset(path) :])
    upload = await open_upload(
        site.app.base.store,
        organization_id=OrganizationId(site.customer.organization_id),
        upload_id=path.rpartition("/")[2],
    )

    for offset in (0, 1, PART, 2 * PART + 4, len(CONTENT) - 1, len(CONTENT)):
        assert CONTENT[offset:] == b"".join([chunk async for chunk in upload.read(offset)])
    assert len(CONTENT) == upload.size_bytes


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_the_documented_commands_upload_a_file_and_start_a_stream(site: Site, tmp_path: Path) -> None:
    (tmp_path / "match.mp4").write_bytes(CONTENT)
    document = (REPOSITORY / "docs" / "sources.md").read_text(encoding="utf-8")
    commands = document.partition("```sh\n")[2].partition("```")[0]
    shell = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", commands),
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "API": f"http://127.0.0.1:{site.port}",
            "KEY": site.customer.api_key,
        },
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        output, _ = await shell.communicate()

    stream = json.loads(output)
    upload_id = stream["source_url"].removeprefix("upload:")
    assert (0, "pending", CONTENT) == (
        shell.returncode,
        stream["status"],
        await site.stored(f"/v1/uploads/{upload_id}"),
    )


async def test_the_whole_file_may_come_in_one_request_of_any_length(site: Site) -> None:
    content = random.Random(2).randbytes(3 * 1024 * 1024)  # more than any other body may have
    path = await site.begin(len(content))

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 50_000):
            yield content[start : start + 50_000]

    answer = await site.send(path, 0, pieces())

    assert (204, content) == (answer.status_code, await site.stored(path))


async def test_after_a_broken_connection_the_client_goes_on_where_it_is_told_to(site: Site) -> None:
    path = await site.begin()
    for cut_at in (2 * PART + 500, 4 * PART + 1):
        offset = await site.offset(path)
        broken = await site.connect(path, offset=offset, length=len(CONTENT) - offset)
        await broken.send(CONTENT[offset:cut_at])
        await site.until_offset(path, cut_at - (cut_at - offset) % PART)
        await broken.cut()
    await until_free(site, path)
    offset = await site.offset(path)
    answer = await site.send(path, offset, CONTENT[offset:])

    assert (4 * PART, 204, CONTENT) == (offset, answer.status_code, await site.stored(path))


async def until_free(site: Site, path: str) -> None:
    """Until the server has noticed that nobody writes any more."""
    async with asyncio.timeout(10):
        while True:
            [row] = await site.app.rows(
                "SELECT lease_until IS NULL AS free FROM uploads WHERE upload_id = :upload_id",
                site.customer,
                upload_id=path.rpartition("/")[2],
            )
            if row["free"]:
                return
            await asyncio.sleep(0.02)


async def test_a_long_tail_of_a_broken_connection_is_kept(emptied_database: Database, tmp_path: Path) -> None:
    content = random.Random(3).randbytes(4 * LEAST_TAIL_BYTES)
    async with site_on(emptied_database, tmp_path, upload_part_bytes=8 * LEAST_TAIL_BYTES) as site:
        path = await site.begin(len(content))
        broken = await site.connect(path, offset=0, length=len(content))
        await broken.send(content[: LEAST_TAIL_BYTES + 7])
        await broken.writer.drain()
        broken.writer.close()
        await site.until_offset(path, LEAST_TAIL_BYTES + 7)
        await until_free(site, path)
        await site.send(path, LEAST_TAIL_BYTES + 7, content[LEAST_TAIL_BYTES + 7 :])
        assert content == await site.stored(path)


async def test_of_two_requests_at_once_one_writes_and_the_other_is_told(site: Site) -> None:
    path = await site.begin()
    writing = await site.connect(path, offset=0, length=len(CONTENT))
    await writing.send(CONTENT[: PART + 10])
    await site.until_offset(path, PART)

    other = await site.send(path, PART, CONTENT[PART:])
    stale = await site.send(path, 0, bytes(10))
    await writing.send(CONTENT[PART + 10 :])
    await site.until_offset(path, len(CONTENT))

    assert (423, "urn:tldr:problem:locked") == (other.status_code, other.json()["type"])
    assert (409, CONTENT) == (stale.status_code, await site.stored(path))


async def test_a_writer_who_froze_longer_than_its_lease_damages_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, store, waking = await site.begin(), site.app.base.store, asyncio.Event()
    frozen = asyncio.Event()

    async def freeze(key: str, body: bytes) -> Stored:
        monkeypatch.undo()
        frozen.set()
        await waking.wait()
        return await store.put(key, body)

    monkeypatch.setattr(store, "put", freeze)
    first = asyncio.create_task(site.send(path, 0, CONTENT[: PART + 1]))
    async with asyncio.timeout(10):
        await frozen.wait()
    await age(site, "lease_until = now() - interval '1 second'")
    second = await site.send(path, 0, CONTENT[:1000])
    third = await site.send(path, 1000, CONTENT[1000:])
    waking.set()

    assert [423, 204, 204] == [(await first).status_code, second.status_code, third.status_code]
    assert CONTENT == await site.stored(path)


async def test_a_request_that_comes_together_with_a_deletion_brings_nothing_back(site: Site) -> None:
    path = await site.begin()
    open_uploads = opener(UploadRows, database=site.app.base.database, outbox=site.app.base.outbox)
    upload_id = UploadId(path.rpartition("/")[2])
    async with open_uploads(OrganizationId(site.customer.organization_id)) as tables:
        there = await tables.find(upload_id)
        deleted = await site.client.delete(path)
        claim = await tables.claim(upload_id, lease_s=30, keep_s=3600)

    assert (True, 204, None) == (there is not None, deleted.status_code, claim)
    assert 410 == (await site.client.get(path)).status_code


async def test_what_is_deleted_while_it_is_written_is_swept_after_its_writer(site: Site) -> None:
    path, sweep = await site.begin(), upload_sweep(site.app.base)
    writing = await site.connect(path, offset=0, length=len(CONTENT))
    await writing.send(CONTENT[: PART + 10])
    await site.until_offset(path, PART)
    await site.client.delete(path)

    await sweep.turn()
    kept = len(await site.objects())
    await age(site, "lease_until = now() - interval '1 second'")
    await sweep.turn()

    assert (1, []) == (kept, await site.objects())
    await writing.cut()


async def test_many_who_write_at_once_leave_one_whole_file(site: Site) -> None:
    path = await site.begin()

    async def send_all() -> None:
        while (offset := await site.offset(path)) < len(CONTENT):
            await site.send(path, offset, CONTENT[offset : offset + 40_000])

    async with asyncio.timeout(30):
        await asyncio.gather(*(send_all() for _ in range(4)))
    assert CONTENT == await site.stored(path)


async def test_a_chunk_that_does_not_fit_its_checksum_leaves_no_trace(site: Site) -> None:
    path = await site.begin()
    right = "sha256 " + base64.b64encode(hashlib.sha256(CONTENT[:1000]).digest()).decode()

    wrong = await site.send(path, 0, CONTENT[:999] + b"x", **{"Upload-Checksum": right})
    unknown = await site.send(path, 0, CONTENT[:1000], **{"Upload-Checksum": "crc32 AAAA"})
    long = await site.send(path, 0, CONTENT[: PART + 1], **{"Upload-Checksum": right})
    before = await site.offset(path)
    good = await site.send(path, 0, CONTENT[:1000], **{"Upload-Checksum": right})

    assert (460, 422, 413, 0) == (wrong.status_code, unknown.status_code, long.status_code, before)
    assert (204, 1000) == (good.status_code, await site.offset(path))


async def test_requests_that_do_not_fit_are_refused_and_change_nothing(site: Site) -> None:
    path = await site.begin(1000)
    refusals = {
        "too long": await site.send(path, 0, bytes(1001)),
        "too long, unannounced": await site.send(path, 0, _unannounced(bytes(1001))),
        "wrong offset": await site.send(path, 5, bytes(10)),
        "wrong type": await site.send(path, 0, bytes(10), **{"Content-Type": "application/json"}),
        "wrong version": await site.send(path, 0, bytes(10), **{"Tus-Resumable": "0.2.2"}),
        "no offset": await site.client.patch(path, content=b"x", headers={"Content-Type": CHUNK_TYPE}),
        "no such": await site.send("/v1/uploads/upl_000000000000", 0, bytes(10)),
        "no key": await site.send(path, 0, bytes(10), **{"X-API-Key": "tldr_x"}),
    }
    expected = {
        "too long": 413,
        "too long, unannounced": 413,
        "wrong offset": 409,
        "wrong type": 415,
        "wrong version": 412,
        "no offset": 422,
        "no such": 404,
        "no key": 401,
    }
    assert expected == {name: answer.status_code for name, answer in refusals.items()}
    assert "1.0.0" == refusals["wrong version"].headers["Tus-Version"]
    assert (0, []) == (await site.offset(path), await site.objects())


async def _unannounced(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def test_another_organizations_upload_is_not_there(site: Site) -> None:
    path = await site.begin()
    other = await site.app.register("other")

    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{site.port}", headers=other.headers) as client:
        statuses = [
            (await client.head(path)).status_code,
            (await client.get(path)).status_code,
            (await client.delete(path)).status_code,
            (
                await client.patch(
                    path, content=b"x", headers={"Upload-Offset": "0", "Content-Type": CHUNK_TYPE}
                )
            ).status_code,
        ]
    assert [404] * 4 == statuses


async def test_another_organizations_finished_upload_is_no_source(site: Site) -> None:
    path = await site.begin(10)
    await site.send(path, 0, bytes(10))
    other = await site.app.register("other")

    answer = await site.app.client.post(
        "/v1/streams",
        json={"source_url": f"upload:{path.rpartition('/')[2]}"},
        headers=other.headers,
    )

    assert (422, []) == (answer.status_code, await site.app.rows("SELECT 1 FROM streams", other))


async def test_what_an_organization_may_keep_is_bounded(emptied_database: Database, tmp_path: Path) -> None:
    caps = {"upload_max_bytes": 1000, "upload_total_bytes": 1500, "upload_unfinished": 2}
    async with site_on(emptied_database, tmp_path, **caps) as site:

        async def begin(size_bytes: int) -> int:
            answer = await site.client.post("/v1/uploads", headers={"Upload-Length": str(size_bytes)})
            return answer.status_code

        assert [413, 422, 201, 409, 201, 409] == [await begin(n) for n in (1001, 0, 1000, 501, 10, 10)]
        other = await site.app.register("other")
        answer = await site.client.post("/v1/uploads", headers={"Upload-Length": "10"} | other.headers)
        assert 201 == answer.status_code


async def test_a_deleted_upload_is_gone_and_its_objects_follow(site: Site) -> None:
    path = await site.begin()
    kept = await site.begin(10)
    await site.send(kept, 0, bytes(10))
    await site.send(path, 0, CONTENT[: 2 * PART])

    deleted = await site.client.delete(path)
    after = [(await site.client.get(path)).status_code, (await site.send(path, 2 * PART, b"x")).status_code]
    await upload_sweep(site.app.base).turn()

    assert (204, [410, 410]) == (deleted.status_code, after)
    assert [True, True] == [kept.rpartition("/")[2] in key for key in await site.objects()]
    assert 410 == (await site.client.get(path)).status_code


async def test_an_expired_upload_is_swept_and_later_forgotten(site: Site) -> None:
    path = await site.begin()
    await site.send(path, 0, CONTENT[:PART])
    used = await site.begin(10)
    await site.send(used, 0, bytes(10))
    await age(site, "expires_at = now() + interval '1 second'")
    await site.app.submit(site.customer, source_url=f"upload:{used.rpartition('/')[2]}")
    await age(site, "expires_at = expires_at - interval '1 hour'")

    sweep = upload_sweep(site.app.base)
    assert not await sweep.turn()
    assert ([410, 200], 2) == (
        [(await site.client.get(each)).status_code for each in (path, used)],
        len(await site.objects()),
    )
    await age(site, "swept_at = swept_at - interval '8 days'")
    await sweep.turn()
    assert 404 == (await site.client.get(path)).status_code
    assert 1 == len(await site.app.rows("SELECT 1 FROM upload_parts", site.customer))


async def age(site: Site, change: str) -> None:
    await site.app.rows(f"UPDATE uploads SET {change} RETURNING 1", site.customer)


async def test_clients_of_tus_are_told_what_is_possible_also_in_browsers(site: Site) -> None:
    told = await site.client.options("/v1/uploads")
    preflight = await site.client.options(
        "/v1/uploads/upl_000000000000",
        headers={
            "Origin": "https://example.com",
            "Access-Control-Request-Method": "PATCH",
            "Access-Control-Request-Headers": "tus-resumable,upload-offset,x-api-key",
        },
    )

    assert (204, "1.0.0", "creation,expiration,termination,checksum", str(20 * 1024**3)) == (
        told.status_code,
        told.headers["Tus-Version"],
        told.headers["Tus-Extension"],
        told.headers["Tus-Max-Size"],
    )
    assert 200 == preflight.status_code
    assert "PATCH" in preflight.headers["Access-Control-Allow-Methods"]
