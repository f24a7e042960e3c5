"""Finding programs, on folders made for the purpose."""

from pathlib import Path

import pytest

from localcluster import binaries


def _fake_server(folder: Path, *programs: str) -> None:
    folder.mkdir(parents=True)
    for program in programs:
        (folder / program).touch(mode=0o755)


def test_the_newest_complete_postgres_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_server(tmp_path / "9.6" / "bin", "initdb", "postgres")
    _fake_server(tmp_path / "15" / "bin", "initdb", "postgres")
    _fake_server(tmp_path / "17" / "bin", "psql")
    monkeypatch.setattr(binaries, "POSTGRES_FOLDERS", (str(tmp_path),))

    found = binaries.find("initdb")

    assert found == tmp_path / "15" / "bin" / "initdb"


def test_a_missing_program_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "POSTGRES_FOLDERS", (str(tmp_path),))
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(
        binaries.MissingProgramError, match=r"initdb is not installed.*Debian package: postgresql"
    ):
        binaries.locate("initdb")
