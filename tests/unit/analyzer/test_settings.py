"""The analyzer's settings: names that are the same, models that end, levels that do not exist."""

import pytest
from pydantic import ValidationError

from analyzer.settings import AnalyzerSettings

REQUIRED = {
    "DATABASE_URL": "postgresql://u:p@127.0.0.1/db",
    "RABBITMQ_URL": "amqp://u:p@127.0.0.1/v",
    "OPS_PORT": "0",
    "OBJECT_STORE_FOLDER": "/nowhere",
    "URL_SIGNING_SECRET": "s" * 32,
    "SECRETS_KEYRING": "k",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "GEMINI_API_KEY",
        "ANALYSIS_API_KEY",
        "GEMINI_BASE_URL",
        "ANALYSIS_ENDPOINT",
        "GEMINI_MODEL",
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)


def test_without_a_key_there_is_none_and_the_defaults_hold() -> None:
    settings = AnalyzerSettings()

    assert settings.gemini_api_key is None
    assert ("gemini-3.5-flash-lite", "low", "v1") == (
        settings.gemini_model,
        settings.gemini_thinking_level,
        settings.gemini_api_version,
    )


@pytest.mark.parametrize(
    ("key", "address"), [("GEMINI_API_KEY", "GEMINI_BASE_URL"), ("ANALYSIS_API_KEY", "ANALYSIS_ENDPOINT")]
)
def test_key_and_address_have_two_names(monkeypatch: pytest.MonkeyPatch, key: str, address: str) -> None:
    monkeypatch.setenv(key, "the-key")
    monkeypatch.setenv(address, "http://127.0.0.1:9")

    settings = AnalyzerSettings()

    assert settings.gemini_api_key is not None
    assert ("the-key", "http://127.0.0.1:9") == (
        settings.gemini_api_key.get_secret_value(),
        settings.gemini_base_url,
    )
    assert "the-key" not in repr(settings)


@pytest.mark.parametrize(
    "model",
    ["gemini-2.5-flash", "gemini-2.5-pro", "models/gemini-2.0-flash-001", "gemini-1.5-pro", "gemini-pro"],
)
def test_a_retired_model_is_refused_with_its_end_and_what_to_use(
    monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setenv("GEMINI_MODEL", model)

    with pytest.raises(ValidationError, match=r"2026-12-01.*gemini-3\.5-flash-lite"):
        AnalyzerSettings()


@pytest.mark.parametrize(
    "model", ["gemini-3.8-flash", "gemini-3.5-flash-lite", "gemini-4-argon", "gemini-20-x"]
)
def test_a_served_model_is_taken(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    monkeypatch.setenv("GEMINI_MODEL", model)

    assert model == AnalyzerSettings().gemini_model


def test_minimal_thinking_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_THINKING_LEVEL", "minimal")

    with pytest.raises(ValidationError, match="answers `minimal` with an error; use low"):
        AnalyzerSettings()


@pytest.mark.parametrize(
    ("name", "value"),
    [("GEMINI_THINKING_LEVEL", "extreme"), ("GEMINI_FPS", "25"), ("GEMINI_BASE_URL", "not a url"),
     ("GEMINI_API_VERSION", "beta"), ("GEMINI_MEDIA_RESOLUTION", "ultra"), ("GEMINI_TIMEOUT_S", "0")],
)  # fmt: skip
def test_a_wrong_value_is_told(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ValidationError):
        AnalyzerSettings()
