"""The bucket step against a server that speaks S3: made once, open to browsers, patient while the server starts."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiobotocore.session import get_session
from moto.server import ThreadedMotoServer

from localcluster.ports import claim_port
from shared.bucket import BucketSettings, ensure, ensure_patiently


def settings(endpoint_url: str, **changes: Any) -> BucketSettings:
    given = {"s3_access_key_id": "key", "s3_secret_access_key": "secret", "s3_bucket_name": "clips"}
    return BucketSettings.model_validate(given | {"s3_endpoint_url": endpoint_url} | changes)


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@asynccontextmanager
async def client_of(endpoint: str) -> AsyncIterator[Any]:
    async with get_session().create_client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    ) as client:
        yield client


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
async def test_the_bucket_is_made_and_pages_of_any_origin_may_read(endpoint: str, region: str) -> None:
    name = f"clips-{region}"
    wanted = settings(endpoint, s3_bucket_name=name, s3_region=region)
    await ensure(wanted)
    async with client_of(endpoint) as client:
        [rule] = (await client.get_bucket_cors(Bucket=name))["CORSRules"]
    assert ["GET", "HEAD"] == rule["AllowedMethods"]
    assert ["*"] == rule["AllowedOrigins"]


async def test_buckets_of_single_organizations_are_made_too(endpoint: str) -> None:
    own = '{"org_1": "clips-of-one", "org_2": "clips", "org_3": "clips-of-one"}'
    await ensure(settings(endpoint, s3_organization_buckets=own))
    async with client_of(endpoint) as client:
        rules = [
            (await client.get_bucket_cors(Bucket=name))["CORSRules"][0]["AllowedOrigins"]
            for name in ("clips", "clips-of-one")
        ]
    assert [["*"], ["*"]] == rules


@pytest.mark.parametrize("variable", ["S3_BUCKET_NAME", "S3_BUCKET"])
def test_the_step_knows_the_bucket_by_the_variables_that_services_know(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in ("S3_BUCKET_NAME", "S3_BUCKET"):
        monkeypatch.delenv(name, raising=False)
    given = {
        "S3_ENDPOINT_URL": "http://s3",
        "S3_ACCESS_KEY_ID": "key",
        "S3_SECRET_ACCESS_KEY": "secret",
        "S3_ORGANIZATION_BUCKETS": '{"org_1": "clips-of-one"}',
    }
    for name, value in (given | {variable: "clips"}).items():
        monkeypatch.setenv(name, value)
    assert ("clips", "clips-of-one") == BucketSettings().buckets


async def test_a_second_run_keeps_what_is_in_the_bucket(endpoint: str) -> None:
    await ensure(settings(endpoint))
    async with client_of(endpoint) as client:
        await client.put_object(Bucket="clips", Key="clip.mp4", Body=b"film")
        await ensure(settings(endpoint))
        found = await client.get_object(Bucket="clips", Key="clip.mp4")
        assert b"film" == await found["Body"].read()


async def test_the_step_waits_for_a_server_that_starts_later() -> None:
    port = claim_port()
    waiting = asyncio.create_task(ensure_patiently(settings(f"http://127.0.0.1:{port}"), patience_s=30))
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    await asyncio.to_thread(server.start)
    try:
        await waiting
    finally:
        await asyncio.to_thread(server.stop)
