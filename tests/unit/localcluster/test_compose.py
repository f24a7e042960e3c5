"""How `docker compose` is called, with a program in docker's place that tells what it was given."""

import stat
from pathlib import Path

import pytest

from localcluster.compose import ComposeCluster, ComposeFailedError, ComposeMissingError, require_compose


def put_docker(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """The only docker that is found."""
    program = folder / "docker"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_a_machine_without_docker_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ComposeMissingError, match="no docker on PATH"):
        require_compose()


def test_an_engine_that_is_down_is_told_in_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_docker(tmp_path, monkeypatch, '[ "$1" = compose ] || { echo "no daemon" >&2; exit 1; }')
    with pytest.raises(ComposeMissingError, match="no Docker engine: no daemon"):
        require_compose()


def test_a_call_names_project_and_files_and_hands_variables_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_docker(tmp_path, monkeypatch, 'echo "$@ with $OUTBOUND_ALLOW $API_PORT"')
    cluster = ComposeCluster("mine", files=(Path("a.yaml"), Path("b.yaml")), environment={"API_PORT": "1"})
    told = cluster.told(OUTBOUND_ALLOW="host:2").compose("ps", "-q")
    assert "compose --project-name mine --file a.yaml --file b.yaml ps -q with host:2 1\n" == told


def test_an_error_carries_what_docker_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_docker(tmp_path, monkeypatch, "echo the port is taken >&2; exit 3")
    with pytest.raises(
        ComposeFailedError, match=r"(?s)up --detach --wait --scale=ingest=2.*3.*port is taken"
    ):
        ComposeCluster().up(scale={"ingest": 2})


def test_a_container_without_a_check_tells_its_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (
        '{"Name":"a","Health":"healthy","State":"running"}',
        '{"Name":"b","Health":"","State":"exited"}',
    )
    put_docker(tmp_path, monkeypatch, "\n".join(f"echo '{row}'" for row in rows))
    assert {"a": "healthy", "b": "exited"} == ComposeCluster().health()
