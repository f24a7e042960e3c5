"""A private RabbitMQ node on loopback with its own Erlang port mapper; queues and exchanges are made elsewhere."""

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

from localcluster.binaries import locate
from localcluster.children import ChildExitedError, ChildProcess
from localcluster.ports import LOOPBACK, claim_ports, is_listening

NODE = "rabbit@localhost"
USER = "tldr"
READY_POLL_S = 0.05
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
RPC_TIMEOUT_S = 30.0
FIRST_START_ATTEMPTS = 3
AMQP_HEADER = b"AMQP\x00\x00\x09\x01"
AMQP_METHOD_FRAME = b"\x01"
SETTINGS = MappingProxyType(
    {
        "consumer_timeout": "1800000",
        "disk_free_limit.absolute": "50MB",
        "loopback_users": "none",
        "vm_memory_high_watermark.relative": "0.4",
    }
)


class RabbitStartError(Exception):
    """The node did not become ready; the message carries the end of its log."""


class RabbitCommandError(Exception):
    """The running node refused a command; the message carries its answer."""


class RabbitServer:
    """One node under `root`; `settings` are added to rabbitmq.conf (its `name = value` format).

    Ports, user and password stay the same over restarts. The port mapper (epmd) runs from the first
    `start` to `stop`, so that a killed node finds its place again.
    """

    def __init__(self, root: Path, *, settings: Mapping[str, str] = MappingProxyType({})) -> None:
        self.root = root
        self.port = 0
        self._distribution_port = 0
        self._mapper_port = 0
        self._settings = {**SETTINGS, **settings}
        self._password = secrets.token_urlsafe(18)
        self._mapper: ChildProcess | None = None
        self._node: ChildProcess | None = None

    @property
    def url(self) -> str:
        """AMQP URL of the default vhost; valid once `start` has returned."""
        return self.vhost_url("/")

    @property
    def log_path(self) -> Path:
        return self.root / "rabbitmq.log"

    @property
    def command_environment(self) -> Mapping[str, str]:
        """With it another process' `rabbitmqctl` speaks to this node; valid once `start` has returned."""
        return MappingProxyType(self._environment())

    @property
    def is_running(self) -> bool:
        return self._node is not None and self._node.is_running()

    def vhost_url(self, name: str) -> str:
        """AMQP URL of the vhost `name`."""
        return f"amqp://{USER}:{self._password}@{LOOPBACK}:{self.port}/{quote(name, safe='')}"

    def start(self) -> None:
        """Start the node and wait until it speaks AMQP: 4 to 5 s.

        Raises:
            RabbitStartError: it ended, or was not ready within 60 s.
        """
        attempts = FIRST_START_ATTEMPTS if not self.port else 1
        for attempt in range(1, attempts + 1):
            if attempts > 1:
                self.port, self._distribution_port, self._mapper_port = claim_ports(3)
            try:
                self._start_once()
            except (ChildExitedError, TimeoutError) as failure:
                self._end_all()
                if attempt == attempts:
                    raise RabbitStartError(f"RabbitMQ in {self.root} did not start: {failure}") from failure
            else:
                return

    def stop(self) -> None:
        """Orderly shutdown of node and port mapper, about 1 s; no effect when they do not run."""
        if self._node is not None:
            self._node.stop(timeout_s=STOP_TIMEOUT_S)
        self._end_all()

    def kill(self) -> None:
        """SIGKILL the node, as if the machine lost power; `start` brings it back on the same port."""
        if self._node is not None:
            self._node.kill()
            self._node = None

    def freeze(self) -> None:
        """SIGSTOP the node: connections stay open and nothing answers."""
        if self._node is not None:
            self._node.freeze()

    def thaw(self) -> None:
        """SIGCONT after `freeze`."""
        if self._node is not None:
            self._node.thaw()

    def wipe(self) -> None:
        """Delete every queue, message and vhost; only while the node does not run."""
        assert not self.is_running, "a running node cannot be wiped"
        shutil.rmtree(self.root / "mnesia", ignore_errors=True)

    def add_vhost(self, name: str) -> str:
        """Create an empty vhost for our user (about 10 ms) and return its URL.

        Raises:
            RabbitCommandError: the node refused.
        """
        vhost, user, everything = _binary(name), _binary(USER), _binary(".*")
        self._evaluate(
            f"ok = rabbit_vhost:add({vhost}, {user}), "
            f"ok = rabbit_auth_backend_internal:set_permissions("
            f"{user}, {vhost}, {everything}, {everything}, {everything}, {user})."
        )
        return self.vhost_url(name)

    def delete_vhost(self, name: str) -> None:
        """Delete a vhost with all that it holds; its connections are closed.

        Raises:
            RabbitCommandError: there is none of that name.
        """
        self._evaluate(f"ok = rabbit_vhost:delete({_binary(name)}, {_binary(USER)}).")

    def ctl(self, *arguments: str) -> str:
        """Output of `rabbitmqctl <arguments>` on this node (0.4 to 2 s).

        Raises:
            RabbitCommandError: it exited non-zero.
        """
        return self._command([str(locate("rabbitmqctl")), "--quiet", *arguments], text="")

    def _start_once(self) -> None:
        self._write_configuration()
        if self._mapper is None or not self._mapper.is_running():
            self._mapper = self._start_mapper()
        # With input allowed the script becomes the Erlang VM itself instead of staying its parent.
        self._node = ChildProcess(
            [locate("rabbitmq-server")],
            environment={
                **self._environment(),
                "RABBITMQ_ALLOW_INPUT": "true",
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-noinput",
            },
            log_path=self.log_path,
            folder=self.root,
        )
        self._node.start()
        self._wait_ready(self._node)

    def _start_mapper(self) -> ChildProcess:
        """Without an epmd of ours the VM would leave a daemon behind."""
        mapper = ChildProcess(
            [locate("epmd"), "-port", str(self._mapper_port), "-address", LOOPBACK],
            environment=self._environment(),
            log_path=self.root / "epmd.log",
            folder=self.root,
        )
        mapper.start()
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not is_listening(self._mapper_port):
            mapper.require_running()
            if time.monotonic() > deadline:
                raise TimeoutError("epmd does not listen")
            time.sleep(READY_POLL_S)
        return mapper

    def _wait_ready(self, node: ChildProcess) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not _speaks_amqp(self.port):
            node.require_running()
            if time.monotonic() > deadline:
                raise TimeoutError(f"not ready within {READY_TIMEOUT_S:g} s:\n{node.log_tail()}")
            time.sleep(READY_POLL_S)

    def _end_all(self) -> None:
        self.kill()
        if self._mapper is not None:
            self._mapper.kill()
            self._mapper = None

    def _write_configuration(self) -> None:
        (self.root / "home").mkdir(parents=True, exist_ok=True)
        self._write_cookie()
        (self.root / "enabled_plugins").write_text("[].\n")
        configuration = {
            **self._settings,
            "listeners.tcp.1": f"{LOOPBACK}:{self.port}",
            "default_user": USER,
            "default_pass": self._password,
            "log.console": "true",
            "log.console.level": "info",
            "log.file": "false",
        }
        path = self.root / "rabbitmq.conf"
        path.touch(mode=0o600)
        path.write_text("".join(f"{name} = {value}\n" for name, value in configuration.items()))

    def _write_cookie(self) -> None:
        cookie = self.root / "home" / ".erlang.cookie"
        if not cookie.exists():
            cookie.touch(mode=0o600)
            cookie.write_text(secrets.token_hex(20))
            cookie.chmod(0o400)

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            "LANG": "C.UTF-8",
            "HOME": str(self.root / "home"),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_EPMD_PORT": str(self._mapper_port),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self.root / "rabbitmq.conf"),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.root / "enabled_plugins"),
            "RABBITMQ_LOG_BASE": str(self.root / "log"),
            "RABBITMQ_MNESIA_BASE": str(self.root / "mnesia"),
            "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
            "RABBITMQ_NODE_PORT": str(self.port),
        }

    def _evaluate(self, expression: str) -> None:
        """Run an Erlang expression inside the node; a hundred times quicker than rabbitmqctl."""
        answer = self._command([str(locate("erl_call")), "-n", NODE, "-e"], text=f"{expression}\n")
        if not answer.startswith("{ok,"):
            raise RabbitCommandError(f"{expression} failed: {answer}")

    def _command(self, command: list[str], *, text: str) -> str:
        result = subprocess.run(
            command,
            env=self._environment(),
            input=text,
            capture_output=True,
            text=True,
            timeout=RPC_TIMEOUT_S,
            check=False,
        )
        if result.returncode != 0:
            raise RabbitCommandError(
                f"{command[0]} ended with {result.returncode}: {result.stdout}{result.stderr}"
            )
        return result.stdout


def _speaks_amqp(port: int) -> bool:
    """Whether the node answers the protocol header with Connection.Start, which it does when it serves."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=2) as probe:
            probe.sendall(AMQP_HEADER)
            return probe.recv(1) == AMQP_METHOD_FRAME
    except OSError:
        return False


def _binary(text: str) -> str:
    """An Erlang binary literal; bytes as numbers, so that nothing needs quoting."""
    return f"<<{','.join(str(byte) for byte in text.encode())}>>"
