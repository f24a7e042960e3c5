"""Settings of the gateway."""

import pytest

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
