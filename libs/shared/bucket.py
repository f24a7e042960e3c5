"""Makes the buckets of an S3 server that has none yet, and lets browsers read from them. Safe to run again.

`python -m shared.bucket` waits until the server answers. On S3 itself buckets belong to those who run the account.
"""

import asyncio
from time import monotonic
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.settings import BUCKET_VARIABLES, OrganizationBuckets, load

PATIENCE_S = 60.0
PAUSE_S = 0.5
# An hour, so that a change is seen soon.
CORS_MAX_AGE_S = 3600
# Highlights play on customers' pages, wherever those are: what opens an object is its signature, not the page.
# Players fetch parts of a clip, and read how long it is.
RULE = {
    "AllowedMethods": ["GET", "HEAD"],
    "AllowedOrigins": ["*"],
    "AllowedHeaders": ["*"],
    "ExposeHeaders": ["Accept-Ranges", "Content-Length", "Content-Range", "ETag"],
    "MaxAgeSeconds": CORS_MAX_AGE_S,
}
ALREADY_OURS = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")


class BucketSettings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    s3_endpoint_url: str = Field(description="Address of the S3 server.")
    s3_access_key_id: str = Field(description="Access key of a user who may make buckets.")
    s3_secret_access_key: SecretStr = Field(description="Its secret.")
    s3_bucket_name: str = Field(
        min_length=3, validation_alias=BUCKET_VARIABLES, description="The bucket that all share."
    )
    s3_organization_buckets: OrganizationBuckets = Field(
        default={}, description="Buckets of single organizations, by organization id."
    )
    s3_region: str = Field(default="us-east-1", description="Region of the buckets.")

    @property
    def buckets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.s3_bucket_name, *self.s3_organization_buckets.values())))


async def ensure(settings: BucketSettings) -> None:
    """Every bucket with its rules for browsers. Raises ClientError when the server refuses."""
    async with get_session().create_client(
        "s3",
        endpoint_url=settings.s3_endpoint_url,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key_id,
        aws_secret_access_key=settings.s3_secret_access_key.get_secret_value(),
        config=AioConfig(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    ) as client:
        for bucket in settings.buckets:
            await _create(client, bucket, region=settings.s3_region)
            await client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [RULE]})


async def _create(client: Any, bucket: str, *, region: str) -> None:
    """Outside us-east-1 the region has to be named, there it must not be."""
    elsewhere = region != "us-east-1"
    place = {"CreateBucketConfiguration": {"LocationConstraint": region}} if elsewhere else {}
    try:
        await client.create_bucket(Bucket=bucket, **place)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ALREADY_OURS:
            raise


async def ensure_patiently(settings: BucketSettings, *, patience_s: float = PATIENCE_S) -> None:
    """As `ensure`, tried again while the server does not answer, or answers that it is not ready."""
    give_up_at = monotonic() + patience_s
    while True:
        try:
            await ensure(settings)
        except (BotoCoreError, ClientError) as error:
            if _is_final(error) or monotonic() > give_up_at:
                raise
            await asyncio.sleep(PAUSE_S)
        else:
            return


def _is_final(error: BotoCoreError | ClientError) -> bool:
    if isinstance(error, BotoCoreError):
        return False
    status: int = error.response["ResponseMetadata"]["HTTPStatusCode"]
    return status < 500


def main() -> None:
    asyncio.run(ensure_patiently(load(BucketSettings)))


if __name__ == "__main__":
    main()
