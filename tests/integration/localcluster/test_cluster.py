"""Service processes, with a stand-in service of twenty lines."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster.children import ChildExitedError
from localcluster.cluster import LocalCluster, ServiceProcess
from localcluster.environment import Installation
from localcluster.ports import claim_port
from tests.conftest import REPOSITORY

SERVICE = """
import http.server, os, sys
if os.environ.get("FAULT"):
    sys.exit("no database")
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(os.environ["OPS_PORT"])), Ready).serve_forever()
"""


@pytest.fixture(name="environment")
def _environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    (tmp_path / "echo.py").write_text(SERVICE)
    yield {"OPS_PORT": str(claim_port()), "PYTHONPATH": str(tmp_path)}


def test_a_service_is_ready_after_each_start(tmp_path: Path, environment: dict[str, str]) -> None:
    service = ServiceProcess("echo-2", environment=environment, log_path=tmp_path / "log")
    service.start()
    service.wait_ready()
    first = service.pid

    service.restart()
    second = service.pid
    service.kill()

    assert first != second
    assert (service.is_running, service.is_ready()) == (False, False)


def test_a_service_that_ends_at_start_is_reported_with_its_log(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    service = ServiceProcess("echo", environment={**environment, "FAULT": "1"}, log_path=tmp_path / "log")
    service.start()

    with pytest.raises(ChildExitedError, match="no database"):
        service.wait_ready()
    service.stop()


def test_a_cluster_stops_its_services_when_one_fails(tmp_path: Path, environment: dict[str, str]) -> None:
    broken = {**environment, "OPS_PORT": str(claim_port()), "FAULT": "1"}
    cluster = LocalCluster({"echo": environment, "echo-2": broken}, log_folder=tmp_path / "logs")

    with pytest.raises(ChildExitedError), cluster:
        pytest.fail("a broken cluster was entered")

    assert [service.is_running for service in cluster.services.values()] == [False, False]


def test_a_cluster_runs_all_its_services(tmp_path: Path, environment: dict[str, str]) -> None:
    other = {**environment, "OPS_PORT": str(claim_port())}
    with LocalCluster({"echo": environment, "echo-2": other}, log_folder=tmp_path / "logs") as cluster:
        ready = [service.is_ready() for service in cluster.services.values()]

    assert ready == [True, True]
    assert [service.is_running for service in cluster.services.values()] == [False, False]


SETTLED = """
import json, os, sys
from shared.settings import ServiceSettings, load
settings = load(ServiceSettings)
told = {"folder": settings.object_store_folder, "bucket": settings.s3_bucket_name, "name": settings.app_name}
print(json.dumps(told), flush=True)
"""


def test_an_env_file_where_we_work_does_not_reach_a_service(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, logs = tmp_path / "ours", tmp_path / "logs"
    ours.mkdir()
    (ours / ".env").write_text("OBJECT_STORE_FOLDER=leaked\nS3_BUCKET_NAME=leaked\nAPP_NAME=leaked\n")
    monkeypatch.chdir(ours)
    (tmp_path / "settled.py").write_text(SETTLED + SERVICE)
    installation = Installation("amqp://127.0.0.1/", "postgresql://u@127.0.0.1/d", folder=tmp_path)
    told = {**installation.environment("settled"), "PYTHONPATH": f"{tmp_path}:{REPOSITORY / 'libs'}"}

    with LocalCluster({"settled": told}, log_folder=logs):
        found = json.loads((logs / "settled.log").read_text().splitlines()[0])

    assert found == {"folder": str(installation.objects), "bucket": "", "name": "TL;DR Highlight API"}


def test_import_roots_named_from_where_we_work_are_found(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", ".")
    own = {"OPS_PORT": environment["OPS_PORT"]}
    with LocalCluster({"echo": own}, log_folder=tmp_path / "logs") as cluster:
        assert cluster.services["echo"].is_ready()
