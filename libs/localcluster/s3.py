"""A private S3 server (moto) on loopback that keeps everything in memory; for tests, and for trying S3 by hand.

It speaks S3 to the letter that our tests need, but asks for no credentials and lets no signed URL expire.
"""

import http.client
import secrets
import sys
import time
from pathlib import Path

from localcluster.children import ChildExitedError, ChildProcess
from localcluster.ports import LOOPBACK, claim_port

FIRST_START_ATTEMPTS = 3
READY_POLL_S = 0.05
READY_TIMEOUT_S = 60.0
CALL_TIMEOUT_S = 10.0
REGION = "us-east-1"


class S3StartError(Exception):
    """The server did not become ready; the message carries the end of its log."""


class S3Server:
    """One server under `root`. It lists `page_keys` keys at a time.

    `least_part_bytes` is the smallest part of an upload but the last, at least 2 KiB; that of S3 is 5 MiB.
    Port and credentials stay the same over restarts, the objects do not.
    """

    def __init__(self, root: Path, *, page_keys: int = 1000, least_part_bytes: int = 5 << 20) -> None:
        self.root = root
        self.port = 0
        self.access_key_id = f"AKIA{secrets.token_hex(8).upper()}"
        self.secret_access_key = secrets.token_urlsafe(30)
        self._page_keys = page_keys
        self._least_part_bytes = least_part_bytes
        self._child: ChildProcess | None = None

    @property
    def url(self) -> str:
        """The endpoint; valid once `start` has returned."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def is_running(self) -> bool:
        return self._child is not None and self._child.is_running()

    def settings(self, bucket: str) -> dict[str, str]:
        """What a service is told so that it keeps its objects here instead of in a folder."""
        return {
            "OBJECT_STORE_FOLDER": "",
            "S3_BUCKET_NAME": bucket,
            "S3_ENDPOINT_URL": self.url,
            "S3_REGION": REGION,
            "S3_ACCESS_KEY_ID": self.access_key_id,
            "S3_SECRET_ACCESS_KEY": self.secret_access_key,
        }

    def start(self) -> None:
        """Start the server and wait until it answers, about 2 s.

        Raises:
            S3StartError: it ended, or was not ready within 60 s.
        """
        attempts = FIRST_START_ATTEMPTS if not self.port else 1
        for attempt in range(1, attempts + 1):
            self.port = self.port if attempts == 1 else claim_port()
            try:
                self._start_once()
            except (ChildExitedError, TimeoutError) as failure:
                self.kill()
                if attempt == attempts:
                    raise S3StartError(f"S3 in {self.root} did not start: {failure}") from failure
            else:
                return

    def stop(self) -> None:
        """Orderly shutdown; no effect when it does not run."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def kill(self) -> None:
        """SIGKILL; `start` brings an empty server back on the same port."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        if self._child is not None:
            self._child.freeze()

    def thaw(self) -> None:
        """SIGCONT after `freeze`."""
        if self._child is not None:
            self._child.thaw()

    def add_bucket(self, name: str) -> str:
        """Make an empty bucket and answer its name."""
        status = self._status("PUT", f"/{name}")
        assert status == 200, f"the server answered {status} to a new bucket {name}"
        return name

    def _start_once(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self._child = ChildProcess(
            [sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(self.port)],
            environment={
                "LANG": "C.UTF-8",
                "HOME": str(self.root),
                "TMPDIR": str(self.root),
                "MOTO_S3_DEFAULT_MAX_KEYS": str(self._page_keys),
                "S3_UPLOAD_PART_MIN_SIZE": str(self._least_part_bytes),
            },
            log_path=self.root / "s3.log",
            folder=self.root,
        )
        self._child.start()
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self._answers():
            self._child.require_running()
            if time.monotonic() > deadline:
                raise TimeoutError(f"not ready within {READY_TIMEOUT_S:g} s:\n{self._child.log_tail()}")
            time.sleep(READY_POLL_S)

    def _answers(self) -> bool:
        try:
            return self._status("GET", "/") == 200
        except OSError:
            return False

    def _status(self, method: str, path: str) -> int:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=CALL_TIMEOUT_S)
        try:
            connection.request(method, path)
            return connection.getresponse().status
        finally:
            connection.close()
