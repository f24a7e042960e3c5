"""What a running container of ours can see and do: its own service, as an ordinary user."""

import json

import pytest

from shared.contract import SERVICES
from tests.compose.conftest import Compose

pytestmark = pytest.mark.compose

LOOK = """
import importlib.util, json, os, pathlib

def writable(folder):
    try:
        (pathlib.Path(folder) / "try").write_text("")
    except OSError:
        return False
    return True

status = pathlib.Path("/proc/self/status").read_text()
services = ("gateway", "ingest", "analyzer", "selector", "clipper", "notifier")
print(json.dumps({
    "services": [name for name in services if importlib.util.find_spec(name)],
    "pip": importlib.util.find_spec("pip") is not None,
    "user": os.getuid(),
    "rights": [line.split()[1] for line in status.splitlines() if line.startswith(("CapPrm", "CapBnd", "NoNewPrivs"))],
    "writable": [folder for folder in ("/app", "/opt/venv", "/etc", "/run/secrets", "/tmp") if writable(folder)],
    "secrets": sorted(path.name for path in pathlib.Path("/run/secrets").iterdir()),
    "ffmpeg": any(pathlib.Path(folder, "ffmpeg").exists() for folder in os.environ["PATH"].split(":")),
}))
"""


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_holds_one_service_without_rights(compose: Compose, service: str) -> None:
    seen = json.loads(compose.cluster.compose("exec", "-T", service, "python", "-c", LOOK))
    assert {
        "services": [service],
        "pip": False,
        "user": 10001,
        "rights": ["0000000000000000", "0000000000000000", "1"],
        "writable": ["/tmp"],
        "secrets": ["SECRETS_KEYRING", "URL_SIGNING_SECRET"],
        "ffmpeg": service in ("analyzer", "clipper"),
    } == seen


def test_no_secret_stands_in_the_environment_of_an_image(compose: Compose) -> None:
    images = json.loads(compose.cluster.compose("config", "--format", "json"))["services"]
    for service in SERVICES:
        told = compose.cluster.variables_of_image(images[service]["image"])
        assert not [
            name for name in told if any(word in name for word in ("SECRET", "PASSWORD", "URL", "KEY"))
        ]
