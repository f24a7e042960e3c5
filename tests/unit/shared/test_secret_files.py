"""The secrets of a local installation: made once, kept, readable by their owner only."""

from pathlib import Path

from shared.keyring import Keyring
from shared.secret_files import MAKERS, write_missing


def test_secrets_are_made_once_and_kept(tmp_path: Path) -> None:
    assert tuple(MAKERS) == write_missing(tmp_path)
    made = {name: (tmp_path / name).read_text() for name in MAKERS}
    assert () == write_missing(tmp_path)
    assert made == {name: (tmp_path / name).read_text() for name in MAKERS}


def test_secrets_are_good_and_readable_by_their_owner_only(tmp_path: Path) -> None:
    write_missing(tmp_path)
    assert 32 <= len((tmp_path / "URL_SIGNING_SECRET").read_text())
    keyring = Keyring.from_text((tmp_path / "SECRETS_KEYRING").read_text())
    assert "word" == keyring.decrypt(keyring.encrypt("word", context="here"), context="here")
    assert {0o400} == {(tmp_path / name).stat().st_mode & 0o777 for name in MAKERS}


def test_what_an_interrupted_run_left_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / ".SECRETS_KEYRING").write_text("half a k")
    assert "SECRETS_KEYRING" in write_missing(tmp_path)
    Keyring.from_text((tmp_path / "SECRETS_KEYRING").read_text())
    assert set(MAKERS) == {path.name for path in tmp_path.iterdir()}
