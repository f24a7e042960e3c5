"""The Docker Compose cluster of `deploy/compose`, as a caller of `docker compose` handles it: up, hurt, asked, down."""

import ipaddress
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
COMPOSE_FILE = REPOSITORY / "deploy" / "compose" / "compose.yaml"
# By this name the containers reach this machine.
HOST_NAME = "host.docker.internal"
BUILD_PATIENCE_S = 1800
PATIENCE_S = 300
CHECK_PATIENCE_S = 20
TOLD_BYTES = 3000
# Prints the id of what a container's init has started.
SERVER_PROCESS = "cut -d' ' -f1 /proc/1/task/1/children"


class ComposeMissingError(Exception):
    """Docker Compose cannot be used here; the message says why."""


class ComposeFailedError(Exception):
    """`docker compose` ended with an error; the message carries the end of what it said."""


def require_compose() -> None:
    """Raises ComposeMissingError."""
    if shutil.which("docker") is None:
        raise ComposeMissingError("there is no docker on PATH")
    for what, command in (
        ("Compose v2", ("docker", "compose", "version")),
        ("engine", ("docker", "version", "--format", "{{.Server.Version}}")),
    ):
        try:
            found = subprocess.run(command, capture_output=True, timeout=CHECK_PATIENCE_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise ComposeMissingError(f"the Docker {what} does not answer") from error
        if found.returncode != 0:
            raise ComposeMissingError(f"no Docker {what}: {found.stderr.decode(errors='replace').strip()}")


@dataclass(frozen=True)
class ComposeCluster:
    """One Compose project. `environment` is what the compose files read, beyond our own environment.

    Every method blocks, and raises ComposeFailedError when `docker compose` fails or takes too long.
    """

    project: str = "tldr"
    files: Sequence[Path] = (COMPOSE_FILE,)
    environment: Mapping[str, str] = field(default_factory=dict)

    def told(self, **environment: str) -> "ComposeCluster":
        """The same project with other variables; `up` brings it to them."""
        return replace(self, environment={**self.environment, **environment})

    def build(self) -> None:
        self.compose("build", "--quiet", patience_s=BUILD_PATIENCE_S)

    def up(self, *services: str, scale: Mapping[str, int] | None = None) -> None:
        """Start what does not run, change what is out of date, wait until all are healthy."""
        counts = [f"--scale={service}={count}" for service, count in (scale or {}).items()]
        self.compose("up", "--detach", "--wait", *counts, *services)

    def down(self, *, volumes: bool = False) -> None:
        """Stop and remove the containers; their data only on demand."""
        self.compose("down", "--remove-orphans", *(["--volumes"] if volumes else []))

    def crash(self, container: str) -> None:
        """SIGKILL what runs in it, from within; the engine starts it again."""
        # Even root may not signal another user's process there: it has not the right to.
        owner = self._docker("exec", container, "sh", "-c", f"stat -c %u /proc/$({SERVER_PROCESS})").strip()
        kill = f"kill -KILL $({SERVER_PROCESS})"
        self._docker("exec", "--user", owner, container, "sh", "-c", kill, check=False)

    def starts(self, container: str) -> int:
        """How often the engine has started it again."""
        return int(self._docker("inspect", "--format", "{{.RestartCount}}", container))

    def containers(self, service: str) -> tuple[str, ...]:
        return tuple(self.compose("ps", "--quiet", "--all", service).split())

    def health(self) -> dict[str, str]:
        """State of every container by its name: `healthy`, or what it is instead."""
        told = self.compose("ps", "--format", "json")
        rows = [json.loads(line) for line in told.splitlines() if line]
        return {row["Name"]: row["Health"] or row["State"] for row in rows}

    def address(self, service: str, port: int) -> str:
        """`host:port` at which this machine reaches a published port."""
        return self.compose("port", service, str(port)).strip()

    def variables(self, service: str) -> dict[str, str]:
        """The environment of a service's containers as the compose files give it."""
        config: dict[str, Any] = json.loads(self.compose("config", "--format", "json"))
        return {name: str(value) for name, value in config["services"][service]["environment"].items()}

    def variables_of_image(self, image: str) -> tuple[str, ...]:
        """Names of the variables that the image itself sets."""
        told = json.loads(self._docker("image", "inspect", "--format", "{{json .Config.Env}}", image))
        return tuple(line.partition("=")[0] for line in told)

    @property
    def rabbitmq_url(self) -> str:
        given = self.variables("rabbitmq")
        user, password = given["RABBITMQ_DEFAULT_USER"], given["RABBITMQ_DEFAULT_PASS"]
        return f"amqp://{user}:{password}@{self.address('rabbitmq', 5672)}/"

    @property
    def database_admin_url(self) -> str:
        given = self.variables("postgres")
        user, password = given["POSTGRES_USER"], given["POSTGRES_PASSWORD"]
        return f"postgresql://{user}:{password}@{self.address('postgres', 5432)}/{given['POSTGRES_DB']}"

    @property
    def api_url(self) -> str:
        return f"http://{self.address('api', 8000)}"

    def compose(self, *arguments: str, patience_s: float = PATIENCE_S) -> str:
        """What `docker compose` prints."""
        files = [part for file in self.files for part in ("--file", str(file))]
        return self._docker(
            "compose", "--project-name", self.project, *files, *arguments, patience_s=patience_s
        )

    def _docker(self, *arguments: str, patience_s: float = PATIENCE_S, check: bool = True) -> str:
        try:
            ended = subprocess.run(
                ["docker", *arguments],
                env={**os.environ, **self.environment},
                capture_output=True,
                timeout=patience_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ComposeFailedError(f"docker {' '.join(arguments)}: not within {patience_s:g} s") from error
        if check and ended.returncode != 0:
            told = ended.stderr.decode(errors="replace")[-TOLD_BYTES:]
            raise ComposeFailedError(f"docker {' '.join(arguments)} ended with {ended.returncode}:\n{told}")
        return ended.stdout.decode(errors="replace")


def host_address() -> str:
    """The address of this machine on which a server must listen so that containers reach it as HOST_NAME.

    On Linux that of Docker's bridge; where Docker runs in a virtual machine, which has the bridge, loopback.
    """
    told = subprocess.run(
        ["docker", "network", "inspect", "bridge", "--format", "{{json .IPAM.Config}}"],
        capture_output=True,
        timeout=CHECK_PATIENCE_S,
        check=True,
    )
    [network] = [each for each in json.loads(told.stdout) if ":" not in each["Subnet"]]
    first = next(ipaddress.IPv4Network(network["Subnet"]).hosts())
    bridge = network.get("Gateway") or str(first)
    return bridge if _is_ours(bridge) else "127.0.0.1"


def _is_ours(address: str) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
