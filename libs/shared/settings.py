"""What every service is configured by: one frozen model, each field described, all faults told at once."""

import sys
from typing import TypeVar

from pydantic import Field, PostgresDsn, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.addresses import HostPort, parse_allowed

AMQP_SCHEMES = ("amqp://", "amqps://")


class ServiceSettings(BaseSettings):
    """Settings that all services share, read from the environment (and from `.env`, where there is one)."""

    model_config = SettingsConfigDict(
        frozen=True, env_file=".env", env_file_encoding="utf-8", extra="ignore", env_ignore_empty=True
    )

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

    object_store_folder: str = Field(description="Folder of the local object store.")
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

    @property
    def allowed_addresses(self) -> frozenset[HostPort]:
        return parse_allowed(self.outbound_allow)


SettingsT = TypeVar("SettingsT", bound=BaseSettings)


def load(model: type[SettingsT]) -> SettingsT:
    """Read the settings, or leave the process with status 2 and the whole list of faults on stderr."""
    try:
        return model()
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
