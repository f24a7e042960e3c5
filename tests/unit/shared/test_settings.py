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


IN_S3 = {
    "S3_BUCKET_NAME": "clips",
    "S3_ACCESS_KEY_ID": "key",
    "S3_SECRET_ACCESS_KEY": "secret-word",
    "S3_ORGANIZATION_BUCKETS": '{"org_1": "clips-of-one"}',
}


@pytest.fixture
def in_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("S3_BUCKET", raising=False)
    for name, value in (GOOD | IN_S3).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OBJECT_STORE_FOLDER", "")


@pytest.mark.usefixtures("in_s3")
def test_objects_are_kept_in_s3_where_a_bucket_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(ServiceSettings)
    assert ("clips", "us-east-1") == (settings.s3_bucket_name, settings.s3_region)
    assert {"org_1": "clips-of-one"} == settings.s3_organization_buckets
    assert "secret-word" not in repr(settings)
    monkeypatch.delenv("S3_BUCKET_NAME")
    monkeypatch.setenv("S3_BUCKET", "clips-by-alias")
    assert "clips-by-alias" == load(ServiceSettings).s3_bucket_name


@pytest.mark.usefixtures("in_s3")
@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("S3_BUCKET_NAME", "", "S3_BUCKET_NAME: Value error, set exactly one of OBJECT_STORE_FOLDER and S3_"),
        ("OBJECT_STORE_FOLDER", "objects", "set exactly one of OBJECT_STORE_FOLDER and S3_BUCKET_NAME"),
        ("S3_SECRET_ACCESS_KEY", "", "set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY together, or neither"),
        ("S3_ACCESS_KEY_ID", "", "set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY together, or neither"),
        ("S3_BUCKET_NAME", "No_Bucket", "S3_BUCKET_NAME: String should match pattern"),
        ("S3_ENDPOINT_URL", "minio:9000", "S3_ENDPOINT_URL: String should match pattern"),
        ("S3_KEY_PREFIX", "/a", "S3_KEY_PREFIX: String should match pattern"),
        ("S3_ORGANIZATION_BUCKETS", "org_1=a", "S3_ORGANIZATION_BUCKETS: Value error, Expecting value"),
        ("S3_ORGANIZATION_BUCKETS", '{"org_1": "A"}', "S3_ORGANIZATION_BUCKETS: Value error, not names of"),
    ],
)
def test_a_start_tells_what_is_wrong_with_s3_beside_all_other_faults(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, fault: str
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("SECRETS_KEYRING", "")
    with pytest.raises(SystemExit):
        load(ServiceSettings)
    told = capsys.readouterr().err
    assert fault in told
    assert "SECRETS_KEYRING" in told
    assert "secret-word" not in told


def test_without_keys_the_sdk_looks_for_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (GOOD | {"S3_BUCKET_NAME": "clips", "OBJECT_STORE_FOLDER": ""}).items():
        monkeypatch.setenv(name, value)
    assert "" == load(ServiceSettings).s3_access_key_id


def test_faults_of_a_whole_model_are_named_too() -> None:
    class Odd(BaseSettings):
        number: int

    with pytest.raises(ValidationError) as caught:
        Odd.model_validate({})
    assert "NUMBER: Field required" in describe_faults(Odd, caught.value)


def test_only_the_start_of_a_program_reads_the_env_file(tmp_path: Path) -> None:
    Path(tmp_path / ".env").write_text("APP_NAME=leaked")
    values = {name.lower(): value for name, value in GOOD.items()}
    assert "TL;DR Highlight API" == ServiceSettings.model_validate(values).app_name
