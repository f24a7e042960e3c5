"""A real PostgreSQL: started, killed, started again, and gone without a trace."""

from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from localcluster.children import live_pids, scratch_folder
from localcluster.postgres import PostgresServer, PostgresStartError


@pytest.fixture(name="server")
def _server() -> Iterator[PostgresServer]:
    with scratch_folder() as folder:
        server = PostgresServer(folder / "postgres", settings={"work_mem": "7MB"})
        server.start()
        try:
            yield server
        finally:
            server.stop()


async def _query(server: PostgresServer, sql: str) -> object:
    connection = await asyncpg.connect(server.admin_url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_committed_rows_survive_a_kill_on_the_same_url(server: PostgresServer) -> None:
    url = server.admin_url
    await _query(server, "CREATE TABLE kept AS SELECT 42 AS answer")

    server.kill()
    server.start()

    assert server.admin_url == url
    assert await _query(server, "SELECT answer FROM kept") == 42


async def test_durability_is_on_and_extra_settings_are_taken(server: PostgresServer) -> None:
    settings = [await _query(server, f"SHOW {name}") for name in ("fsync", "max_connections", "work_mem")]

    assert settings == ["on", "300", "7MB"]


async def test_a_wrong_password_is_refused(server: PostgresServer) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(server.admin_url.replace(":", ":x", 2).replace("x//", "//", 1))


async def test_a_stopped_or_killed_server_leaves_no_process_and_no_shared_memory(
    server: PostgresServer,
) -> None:
    family = _processes_in(server.root)
    segment = (server.root / "data" / "postmaster.pid").read_text().splitlines()[6].split()[1]
    known_before = segment in _shared_memory()

    server.kill()
    server.stop()

    assert len(family) > 3
    assert family & live_pids() == set()
    assert (known_before, segment in _shared_memory()) == (True, False)


def test_a_folder_that_the_account_cannot_enter_is_refused_in_clear_words(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path / "postgres")
    if not server.account:
        pytest.skip("only root starts the server under another account")
    tmp_path.chmod(0o700)

    with pytest.raises(PostgresStartError, match="cannot enter"):
        server.start()


def _processes_in(folder: Path) -> frozenset[int]:
    """Ids of the processes whose working folder is inside `folder`."""
    found = set()
    for pid in live_pids():
        try:
            working = Path(f"/proc/{pid}/cwd").readlink()
        except OSError:
            continue
        if working.is_relative_to(folder):
            found.add(pid)
    return frozenset(found)


def _shared_memory() -> frozenset[str]:
    """Ids of the System V shared memory segments of the machine."""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return frozenset(line.split()[1] for line in lines)
