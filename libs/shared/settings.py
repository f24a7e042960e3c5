"""What every service is configured by: one frozen model, each field described, all faults told at once."""

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Self, TypeVar

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    PostgresDsn,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.addresses import HostPort, parse_allowed

AMQP_SCHEMES = ("amqp://", "amqps://")
# In the folder where the program is started. Only `load` reads it: what is set up in another program takes none.
ENV_FILE = ".env"
# Where Docker and Kubernetes mount secrets.
SECRETS_FOLDER = Path("/run/secrets")
BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
OPTIONAL_BUCKET = rf"^({BUCKET})?$"
OPTIONAL_PREFIX = r"^([A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*/?)?$"
HTTP_OR_EMPTY = r"^(https?://[^\s?#]+)?$"
SENTRY_DSN = re.compile(r"(https?://[^\s@/:]+(:[^\s@/]+)?@[^\s@/]+(/[^\s?#]*)?/\d+)?")
OTLP_HEADERS = re.compile(r"\s*([\w-]+\s*=[^,\r\n]*(,\s*[\w-]+\s*=[^,\r\n]*)*)?")


def _from_json(value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value


def _name_buckets(value: dict[str, str]) -> dict[str, str]:
    wrong = [bucket for bucket in value.values() if not re.fullmatch(BUCKET, bucket)]
    if wrong:
        raise ValueError(f"not names of buckets: {', '.join(wrong)}")
    return value


BUCKET_VARIABLES = AliasChoices("s3_bucket_name", "s3_bucket")
OrganizationBuckets = Annotated[
    dict[str, str], NoDecode, BeforeValidator(_from_json), AfterValidator(_name_buckets)
]


class ServiceSettings(BaseSettings):
    """Settings that all services share, read from the environment; `load` reads `.env` and mounted secrets too."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    app_name: str = Field(default="TL;DR Highlight API", description="Name in the API's documents.")
    version: str = Field(default="1.0.0", description="Version that /health and the documents tell.")
    debug: bool = Field(default=False, description="Log at debug level.")
    log_format: str = Field(
        default="json", pattern="^(json|text)$", description="`json`, or `text` for people."
    )

    database_url: SecretStr = Field(description="PostgreSQL address with the service's own login role.")
    database_pool_size: int = Field(default=5, ge=1, le=100, description="Connections kept open.")
    database_max_overflow: int = Field(default=0, ge=0, le=100, description="Connections beyond the pool.")

    rabbitmq_url: SecretStr = Field(
        description="RabbitMQ address with virtual host: amqp://user:pw@host/vhost."
    )
    prefetch: int = Field(default=8, ge=1, le=100, description="Unacknowledged messages for each queue.")
    work_concurrency: int = Field(default=2, ge=1, le=64, description="Long jobs at once in this process.")

    ops_host: str = Field(default="127.0.0.1", description="Address of /healthz, /readyz and /metrics.")
    ops_port: int = Field(ge=0, le=65535, description="Port of /healthz, /readyz and /metrics.")
    graceful_timeout_s: float = Field(default=25, gt=0, description="How long running work may finish.")

    object_store_folder: str = Field(
        default="", description="Folder of the local object store; this or S3_BUCKET_NAME is required."
    )
    s3_bucket_name: str = Field(
        default="",
        pattern=OPTIONAL_BUCKET,
        validate_default=True,
        validation_alias=BUCKET_VARIABLES,
        description="Bucket that keeps all objects, instead of a folder; `S3_BUCKET` is the same setting.",
    )
    s3_region: str = Field(default="us-east-1", min_length=1, description="Region of the buckets.")
    s3_endpoint_url: str = Field(
        default="", pattern=HTTP_OR_EMPTY, description="Address of an S3 server that is not Amazon's."
    )
    s3_access_key_id: str = Field(
        default="",
        description="Access key; without one the machine's or container's own role, profile or variables count.",
    )
    s3_secret_access_key: SecretStr = Field(
        default=SecretStr(""),
        validate_default=True,
        description="Secret of the access key; both are set, or neither.",
    )
    s3_public_endpoint_url: str = Field(
        default="",
        pattern=HTTP_OR_EMPTY,
        description="Host in signed URLs, where customers reach S3 by another one, such as a CDN; "
        "it must hand on path, query and Host unchanged.",
    )
    s3_key_prefix: str = Field(
        default="", pattern=OPTIONAL_PREFIX, description="Folder within the buckets, for all objects."
    )
    s3_organization_buckets: OrganizationBuckets = Field(
        default={},
        description="Organizations with a bucket of their own: a JSON object of organization id and bucket.",
    )
    public_base_url: str = Field(
        default="http://127.0.0.1:8000", description="Address under which customers reach the gateway."
    )
    url_signing_secret: SecretStr = Field(min_length=32, description="Signs the URLs of stored objects.")
    secrets_keyring: SecretStr = Field(
        description="Fernet keys, newest first, separated by commas; they seal secrets at rest."
    )
    outbound_allow: str = Field(
        default="",
        description="host:port pairs that customers' addresses may reach beyond the public internet.",
    )

    otel_exporter_otlp_endpoint: str = Field(
        default="",
        pattern=HTTP_OR_EMPTY,
        description="Base address of an OTLP/HTTP collector for traces. Empty: none are exported.",
    )
    otel_exporter_otlp_headers: SecretStr = Field(
        default=SecretStr(""), description="Headers for the collector: name=value,… with encoded values."
    )
    logfire_token: SecretStr = Field(
        default=SecretStr(""), description="Write token of Logfire, which then takes the traces."
    )
    logfire_base_url: str = Field(
        default="",
        pattern=HTTP_OR_EMPTY,
        description="Address of Logfire. Empty: by the token's region, https://logfire-us.pydantic.dev or -eu.",
    )
    trace_sample_ratio: float = Field(
        default=0.1, ge=0, le=1, description="Share of traces that are exported, decided where they begin."
    )
    sentry_dsn: SecretStr = Field(
        default=SecretStr(""), description="Where unexpected errors are reported. Empty: nowhere."
    )
    sentry_environment: str = Field(default="production", description="Environment that reports name.")

    @field_validator("sentry_dsn")
    @classmethod
    def _dsn(cls, value: SecretStr) -> SecretStr:
        if not SENTRY_DSN.fullmatch(value.get_secret_value()):
            raise ValueError("must look like https://key@host/project")
        return value

    @field_validator("otel_exporter_otlp_headers")
    @classmethod
    def _headers(cls, value: SecretStr) -> SecretStr:
        if not OTLP_HEADERS.fullmatch(value.get_secret_value()):
            raise ValueError("must look like name=value,name=value")
        return value

    @model_validator(mode="after")
    def _one_collector(self) -> Self:
        if self.otel_exporter_otlp_endpoint and self.logfire_token.get_secret_value():
            raise ValueError("OTEL_EXPORTER_OTLP_ENDPOINT and LOGFIRE_TOKEN exclude each other")
        return self

    @field_validator("database_url")
    @classmethod
    def _postgres(cls, value: SecretStr) -> SecretStr:
        PostgresDsn(value.get_secret_value())
        return value

    @field_validator("rabbitmq_url")
    @classmethod
    def _amqp(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(AMQP_SCHEMES):
            raise ValueError("must start with amqp:// or amqps://")
        return value

    @field_validator("s3_bucket_name")
    @classmethod
    def _one_object_store(cls, value: str, info: ValidationInfo) -> str:
        if bool(value) == bool(info.data.get("object_store_folder")):
            raise ValueError("set exactly one of OBJECT_STORE_FOLDER and S3_BUCKET_NAME")
        return value

    @field_validator("s3_secret_access_key")
    @classmethod
    def _both_or_neither(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        if bool(value.get_secret_value()) != bool(info.data.get("s3_access_key_id")):
            raise ValueError("set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY together, or neither")
        return value

    @property
    def allowed_addresses(self) -> frozenset[HostPort]:
        return parse_allowed(self.outbound_allow)


SettingsT = TypeVar("SettingsT", bound=BaseSettings)


def load(model: type[SettingsT], *, secrets_folder: Path = SECRETS_FOLDER) -> SettingsT:
    """Read the settings, or leave the process with status 2 and the whole list of faults on stderr.

    A variable that is not set is looked for in `.env`, then in a file of its name in the folder of secrets.
    """
    try:
        return model(
            _env_file=ENV_FILE,
            _env_file_encoding="utf-8",
            _secrets_dir=secrets_folder if secrets_folder.is_dir() else None,
        )
    except ValidationError as error:
        sys.stderr.write(describe_faults(model, error))
        raise SystemExit(2) from None


def describe_faults(model: type[BaseSettings], error: ValidationError) -> str:
    """One line for each fault: variable, what is wrong, what the setting is for. Values are never shown."""
    lines = [f"{model.__name__}: {error.error_count()} setting(s) are wrong"]
    for fault in error.errors(include_input=False, include_url=False):
        name = str(fault["loc"][0]) if fault["loc"] else "(all)"
        field = model.model_fields.get(name)
        purpose = f" ({field.description})" if field and field.description else ""
        lines.append(f"  {name.upper()}: {fault['msg']}{purpose}")
    return "\n".join(lines) + "\n"
