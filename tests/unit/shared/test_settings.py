"""Settings: all faults are told at once, and no value is shown."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from shared.settings import ServiceSettings, describe_faults, load

GOOD = {
    "DATABASE_URL": "postgresql://tldr_clipper:secret-word@127.0.0.1:5432/tldr",
    "RABBITMQ_URL": "amqp://user:secret-word@127.0.0.1/tldr",
    "OPS_PORT": "9100",
    "OBJECT_STORE_FOLDER": "objects",
    "URL_SIGNING_SECRET": "s" * 32,
    "SECRETS_KEYRING": "k",
}


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ServiceSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_every_setting_has_a_description() -> None:
    assert not [name for name, field in ServiceSettings.model_fields.items() if not field.description]


def test_good_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    settings = load(ServiceSettings)
    assert 9100 == settings.ops_port
    assert "secret-word" not in repr(settings)


def test_settings_are_read_from_a_file_too(tmp_path: Path) -> None:
    Path(tmp_path / ".env").write_text("\n".join(f"{name}={value}" for name, value in GOOD.items()))
    assert 9100 == load(ServiceSettings).ops_port


def test_a_secret_is_read_from_the_file_that_is_named_as_its_variable_which_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "URL_SIGNING_SECRET").write_text("f" * 32)
    (folder / "SECRETS_KEYRING").write_text("from the file")
    for name in GOOD.keys() - {"URL_SIGNING_SECRET"}:
        monkeypatch.setenv(name, GOOD[name])
    settings = load(ServiceSettings, secrets_folder=folder)
    assert "f" * 32 == settings.url_signing_secret.get_secret_value()
    assert GOOD["SECRETS_KEYRING"] == settings.secrets_keyring.get_secret_value()


def test_a_start_names_every_fault_with_its_purpose(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://root:secret-word@host/db")
    monkeypatch.setenv("OPS_PORT", "99999999")
    with pytest.raises(SystemExit) as stopped:
        load(ServiceSettings)
    told = capsys.readouterr().err
    assert 2 == stopped.value.code
    for name in ("DATABASE_URL", "RABBITMQ_URL", "OPS_PORT", "URL_SIGNING_SECRET", "SECRETS_KEYRING"):
        assert name in told
    assert "PostgreSQL address" in told
    assert "secret-word" not in told


def test_faults_of_a_whole_model_are_named_too() -> None:
    class Odd(BaseSettings):
        number: int

    with pytest.raises(ValidationError) as caught:
        Odd.model_validate({})
    assert "NUMBER: Field required" in describe_faults(Odd, caught.value)
