"""Settings of the gateway."""

import pytest
from pydantic import ValidationError

from gateway.settings import GatewaySettings

REQUIRED = {
    "DATABASE_URL": "postgresql://u:p@localhost/db",
    "RABBITMQ_URL": "amqp://localhost/",
    "OPS_PORT": "0",
    "OBJECT_STORE_FOLDER": "objects",
    "URL_SIGNING_SECRET": "s" * 32,
    "SECRETS_KEYRING": "k",
}


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ('["*"]', ("*",)),
        ("https://a.example.com,https://b.example.com", ("https://a.example.com", "https://b.example.com")),
    ],
)
def test_origins_may_be_a_json_list_or_separated_by_commas(
    monkeypatch: pytest.MonkeyPatch, text: str, origins: tuple[str, ...]
) -> None:
    for name, value in {**REQUIRED, "ALLOWED_ORIGINS": text}.items():
        monkeypatch.setenv(name, value)

    assert GatewaySettings(_env_file=None).allowed_origins == origins


def test_the_defaults_are_those_of_the_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)

    settings = GatewaySettings(_env_file=None)

    assert (settings.app_name, settings.version) == ("TL;DR Highlight API", "1.0.0")
    assert (settings.api_prefix, settings.allowed_origins, settings.debug) == ("/v1", ("*",), False)
    assert (settings.database_pool_size, settings.database_max_overflow) == (20, 0)
    assert (settings.default_rate_limit, settings.redis_url, settings.database_read_url) == (1000, None, None)


@pytest.mark.parametrize(
    ("url", "is_good"),
    [
        ("redis://localhost:6379", True),
        ("rediss://:secret@redis.example.com:6380/1", True),
        ("localhost:6379", False),
        ("redis+cluster://localhost:6379", False),
    ],
)
def test_redis_is_named_by_an_address_of_its_own_kind(
    monkeypatch: pytest.MonkeyPatch, url: str, is_good: bool
) -> None:
    for name, value in {**REQUIRED, "REDIS_URL": url}.items():
        monkeypatch.setenv(name, value)

    if is_good:
        settings = GatewaySettings(_env_file=None)
        assert settings.redis_url is not None and settings.redis_url.get_secret_value() == url
    else:
        with pytest.raises(ValidationError, match="must start with redis:// or rediss://"):
            GatewaySettings(_env_file=None)


def test_the_read_replica_is_named_by_a_postgresql_address(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**REQUIRED, "DATABASE_READ_URL": "mysql://u:hidden@replica/db"}.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(ValidationError, match="database_read_url"):
        GatewaySettings(_env_file=None)
