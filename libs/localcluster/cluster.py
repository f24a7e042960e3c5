"""The servers and the services of one private installation; what the services are told is not decided here."""

import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from localcluster.children import ChildProcess, scratch_folder
from localcluster.ports import LOOPBACK
from localcluster.postgres import PostgresServer
from localcluster.rabbitmq import RabbitServer

READY_POLL_S = 0.05
# What a service may take over from our own environment; all else is what it is told.
INHERITED = (
    "HOME",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "PATH",
    "PYTHONPATH",
    "SSL_CERT_FILE",
    "TMPDIR",
    "TZ",
)


class ServiceNotReadyError(Exception):
    """A service did not report readiness in time; the message carries the end of its log."""


class LocalServers:
    """RabbitMQ and PostgreSQL in a scratch folder that goes with them; started together, about 5 s.

    `RABBITMQ_URL` and `DATABASE_ADMIN_URL` (or `DATABASE_URL`) in `environment` name servers to use instead; those
    are neither started nor stopped.
    """

    def __init__(
        self,
        *,
        environment: Mapping[str, str] = os.environ,
        postgres_settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._given_rabbitmq_url = environment.get("RABBITMQ_URL", "")
        self._given_database_url = environment.get("DATABASE_ADMIN_URL") or environment.get(
            "DATABASE_URL", ""
        )
        self._postgres_settings = dict(postgres_settings)
        self._stack = ExitStack()
        self._folder: Path | None = None
        self.rabbitmq: RabbitServer | None = None
        self.postgres: PostgresServer | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._folder = stack.enter_context(scratch_folder())
            if not self._given_rabbitmq_url:
                self.rabbitmq = RabbitServer(self._folder / "rabbitmq")
                stack.callback(self.rabbitmq.stop)
            if not self._given_database_url:
                self.postgres = PostgresServer(self._folder / "postgres", settings=self._postgres_settings)
                stack.callback(self.postgres.stop)
            own = (self.rabbitmq, self.postgres)
            in_parallel(server.start for server in own if server is not None)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def folder(self) -> Path:
        """The scratch folder, also for logs and objects; exists inside the `with` block only."""
        assert self._folder is not None, "the servers were not started"
        return self._folder

    @property
    def rabbitmq_url(self) -> str:
        """AMQP URL, ours or the given one."""
        return self.rabbitmq.url if self.rabbitmq is not None else self._given_rabbitmq_url

    @property
    def database_admin_url(self) -> str:
        """PostgreSQL URL of an administrator, ours or the given one."""
        return self.postgres.admin_url if self.postgres is not None else self._given_database_url


class ServiceProcess:
    """One replica of a service: `python -m <service>` with an explicit environment.

    `name` is the service, or the service and a suffix for a further replica (`ingest-2`). `environment` must
    hold OPS_PORT, where /readyz answers; it is added to a few names inherited from ours (`INHERITED`). The process
    works in the folder of its log, so that no `.env` of ours reaches it; paths in `environment` are absolute.
    """

    def __init__(self, name: str, *, environment: Mapping[str, str], log_path: Path) -> None:
        self.name = name
        self.log_path = log_path
        self._ready_url = f"http://{LOOPBACK}:{environment['OPS_PORT']}/readyz"
        self._child = ChildProcess(
            [sys.executable, "-m", name.partition("-")[0]],
            environment={**_inherited(os.environ), "PYTHONUNBUFFERED": "1", **environment},
            log_path=log_path,
            folder=log_path.parent,
        )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def is_running(self) -> bool:
        return self._child.is_running()

    def start(self) -> None:
        """Start the process and return at once."""
        self._child.start()

    def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Wait until /readyz answers 200.

        Raises:
            ChildExitedError: the process ended.
            ServiceNotReadyError: the time is over.
        """
        deadline = time.monotonic() + timeout_s
        while not self.is_ready():
            self._child.require_running()
            if time.monotonic() > deadline:
                raise ServiceNotReadyError(
                    f"{self.name} was not ready within {timeout_s:g} s:\n{self._child.log_tail()}"
                )
            time.sleep(READY_POLL_S)

    def is_ready(self) -> bool:
        """Whether /readyz answers 200 now."""
        try:
            with _OPENER.open(self._ready_url, timeout=2) as answer:
                return int(answer.status) == 200
        except (urllib.error.URLError, OSError):
            return False

    def wait(self, *, timeout_s: float) -> int:
        """Exit code once the process ends by itself. Raises subprocess.TimeoutExpired."""
        return self._child.wait(timeout_s=timeout_s)

    def stop(self, *, timeout_s: float = 35.0) -> None:
        """SIGTERM, wait for the drain, SIGKILL when the time is over."""
        self._child.stop(timeout_s=timeout_s)

    def kill(self) -> None:
        """SIGKILL the process and everything it started."""
        self._child.kill()

    def restart(self, *, timeout_s: float = 30.0) -> None:
        """Stop if it runs, start, and wait until it is ready."""
        self.stop()
        self.start()
        self.wait_ready(timeout_s)

    def sigterm(self) -> None:
        """Ask for an orderly end and return at once."""
        self._child.send_signal(signal.SIGTERM)

    def sigstop(self) -> None:
        """Freeze the process."""
        self._child.freeze()

    def sigcont(self) -> None:
        """Let a frozen process go on."""
        self._child.thaw()

    def log_tail(self) -> str:
        """The last 2,000 bytes of its log."""
        return self._child.log_tail()


class LocalCluster:
    """All services, one process per entry of `environments` (keys as in `ServiceProcess`), logs as `<name>.log`.

    Servers, schemas and topology must be there before; `services` gives each process by its key.
    """

    def __init__(
        self,
        environments: Mapping[str, Mapping[str, str]],
        *,
        log_folder: Path,
        ready_timeout_s: float = 60.0,
    ) -> None:
        self._log_folder = log_folder
        self._ready_timeout_s = ready_timeout_s
        self.services: Mapping[str, ServiceProcess] = MappingProxyType(
            {
                name: ServiceProcess(name, environment=environment, log_path=log_folder / f"{name}.log")
                for name, environment in environments.items()
            }
        )

    def __enter__(self) -> Self:
        self._log_folder.mkdir(parents=True, exist_ok=True)
        try:
            self.start()
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start all services and wait until each is ready. Raises as `ServiceProcess.wait_ready`."""
        for service in self.services.values():
            service.start()
        for service in self.services.values():
            service.wait_ready(self._ready_timeout_s)

    def stop(self) -> None:
        """Stop all services at the same time."""
        try:
            in_parallel(service.stop for service in self.services.values())
        except BaseException:
            self._kill()
            raise

    def _kill(self) -> None:
        for service in self.services.values():
            service.kill()


def _inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """Import roots may be named from where we work; the process works elsewhere."""
    taken = {key: environment[key] for key in INHERITED if key in environment}
    if taken.get("PYTHONPATH"):
        roots = taken["PYTHONPATH"].split(os.pathsep)
        taken["PYTHONPATH"] = os.pathsep.join(str(Path(root).absolute()) for root in roots)
    return taken


def in_parallel(actions: Iterable[Callable[[], None]]) -> None:
    """Run blocking actions at the same time, wait for all, and raise the first failure."""
    todo = tuple(actions)
    with ThreadPoolExecutor(max_workers=max(1, len(todo))) as pool:
        futures = [pool.submit(action) for action in todo]
    for future in futures:
        future.result()


# Proxies of the environment must not see loopback calls.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
