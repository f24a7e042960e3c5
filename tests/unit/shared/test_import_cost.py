"""What a service does not load until it needs it: the start stays quick, and what is off costs nothing."""

import subprocess
import sys

import pytest

from shared.contract import SERVICES
from tests.conftest import REPOSITORY

NEVER_AT_START = (
    *("opentelemetry.exporter", "google.protobuf", "requests", "urllib3", "sentry_sdk"),
    *(
        "alembic",
        "aiobotocore",
        "botocore",
        "google.genai",
        "redis",
        "limits",
        "moto",
        "pytest",
        "playwright",
    ),
    *("localcluster", "sandbox"),
)
ONLY = {
    "fastapi": {"gateway"},
    "argon2": {"gateway"},
    "numpy": {"analyzer"},
    "ffmpeg": {"analyzer", "clipper"},
}


@pytest.mark.parametrize("service", SERVICES)
def test_importing_a_service_loads_nothing_that_it_may_not_need(service: str) -> None:
    code = f"import sys, {service}.app, {service}.settings, shared.runtime; print(*sys.modules)"
    loaded = _run(code).split()
    others = [name for name, users in ONLY.items() if service not in users]
    unwanted = (*NEVER_AT_START, *others)
    assert [] == [each for each in loaded if each.startswith(tuple(f"{name}." for name in unwanted))]
    assert [] == [each for each in loaded if each in unwanted]


def test_without_a_collector_nothing_of_exporting_is_loaded_and_no_thread_runs() -> None:
    code = """
import sys, threading
from shared import telemetry
from shared.settings import ServiceSettings
settings = ServiceSettings(_env_file=None, database_url="postgresql://u:p@h/d", rabbitmq_url="amqp://h/v",
    ops_port=0, object_store_folder="/o", url_signing_secret="s" * 32, secrets_keyring="k")
started = telemetry.start("selector", settings)
print(started.report, started.closings, threading.active_count(),
    [name for name in sys.modules if "exporter" in name or name.startswith(("sentry", "requests"))])
"""
    assert "None () 1 []" == _run(code).strip()


def _run(code: str) -> str:
    paths = f"{REPOSITORY / 'services'}:{REPOSITORY / 'libs'}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout
