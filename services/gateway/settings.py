"""Settings of the gateway."""

from typing import Annotated

from pydantic import Field, PostgresDsn, SecretStr, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from gateway.domain.rate_limit import MAX_LIMIT
from shared.settings import HTTP_OR_EMPTY, ServiceSettings

REDIS_SCHEMES = ("redis://", "rediss://")


class GatewaySettings(ServiceSettings):
    database_pool_size: int = Field(default=20, ge=1, le=100, description="Connections kept open.")
    database_read_url: SecretStr | None = Field(
        default=None,
        description="Address of a read replica of the same database, for GETs of streams, highlights and playlists.",
    )
    database_read_patience_s: float = Field(
        default=2, gt=0, description="How long the read replica may take before the primary is asked."
    )

    http_host: str = Field(default="127.0.0.1", description="Address that the API listens on.")
    http_port: int = Field(default=8000, ge=0, le=65535, description="Port that the API listens on.")
    api_prefix: str = Field(
        default="/v1", pattern=r"^(/[a-z0-9]+)+$", description="Path before all routes of the API."
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("*",), description="Origins of browsers' requests: a JSON list, or separated by commas."
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("127.0.0.1",),
        description="Addresses and networks whose X-Forwarded-* headers are believed. `*` believes everybody: "
        "only where nothing but a proxy that overwrites these headers can connect.",
    )
    max_body_bytes: int = Field(default=1 << 20, ge=1024, description="Longest request body.")
    stream_start_deadline_s: float = Field(
        default=900, gt=0, description="How long a stream may wait for its first media."
    )
    default_rate_limit: int = Field(
        default=1000, ge=1, le=MAX_LIMIT, description="Requests per hour of a key on the smallest plan."
    )
    registration_rate_limit: int = Field(
        default=600, ge=1, le=MAX_LIMIT, description="Registrations per hour from one network address."
    )
    redis_url: SecretStr | None = Field(
        default=None, description="Redis that counts requests: redis://… or rediss://…; else PostgreSQL does."
    )
    source_check_s: float = Field(
        default=3.0,
        ge=0,
        le=10,
        description="How long a source may be looked at before POST /streams answers. 0: it is not looked at.",
    )
    twitch_client_id: str = Field(
        default="",
        description="Client id of a Twitch application, to look up channels; both are set, or neither.",
    )
    twitch_client_secret: SecretStr = Field(
        default=SecretStr(""), validate_default=True, description="Secret of the Twitch application."
    )
    twitch_api_url: str = Field(
        default="https://api.twitch.tv/helix", pattern=HTTP_OR_EMPTY, description="Address of Twitch's API."
    )
    twitch_token_url: str = Field(
        default="https://id.twitch.tv/oauth2/token",
        pattern=HTTP_OR_EMPTY,
        description="Where Twitch gives out app tokens.",
    )
    upload_max_bytes: int = Field(
        default=20 * 1024**3, ge=1, description="Longest file that can be uploaded."
    )
    upload_total_bytes: int = Field(
        default=100 * 1024**3,
        ge=1,
        description="Bytes of all uploads of an organization that are kept at a time.",
    )
    upload_part_bytes: int = Field(
        default=8 * 1024**2,
        ge=1024,
        le=16 * 1024**2,
        description="Size of the objects that uploads are stored in; each chunk that comes in holds one in memory.",
    )
    upload_unfinished: int = Field(
        default=20, ge=1, description="Uploads of an organization that may be unfinished at a time."
    )
    upload_unfinished_s: float = Field(
        default=86_400, gt=0, description="How long an unfinished upload waits for its next byte."
    )
    upload_finished_s: float = Field(
        default=7 * 86_400, gt=0, description="How long a finished upload is kept."
    )
    hundredms_api_url: str = Field(
        default="https://api.100ms.live/v2",
        pattern=r"^https?://[^\s?#]+$",
        description="Address of 100ms' API, for connections with API credentials.",
    )
    hundredms_reconcile_s: float = Field(
        default=20,
        gt=0,
        le=30,
        description="How often 100ms' API is asked for each connection, and its recordings are looked at.",
    )
    link_expires_s: int = Field(default=3600, gt=0, description="How long the URLs in API answers open.")

    @field_validator("twitch_client_secret")
    @classmethod
    def _both_or_neither_of_twitch(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        if bool(value.get_secret_value()) != bool(info.data.get("twitch_client_id")):
            raise ValueError("set TWITCH_CLIENT_ID and TWITCH_CLIENT_SECRET together, or neither")
        return value

    @field_validator("database_read_url")
    @classmethod
    def _replica(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            PostgresDsn(value.get_secret_value())
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(REDIS_SCHEMES):
            raise ValueError("must start with redis:// or rediss://")
        return value

    @field_validator("allowed_origins", "trusted_proxies", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        parts = value.strip().removeprefix("[").removesuffix("]").split(",")
        return tuple(part.strip().strip("\"'") for part in parts if part.strip())
