"""A private S3 server (moto) on loopback that keeps everything in memory; for tests, and for trying S3 by hand.

It speaks S3 to the letter that our tests need, but asks for no credentials and lets no signed URL expire.
"""

import http.client
import secrets
import sys
from pathlib import Path

from localcluster.children import ChildProcess
from localcluster.memory_server import MemoryServer
from localcluster.ports import LOOPBACK

CALL_TIMEOUT_S = 10.0
REGION = "us-east-1"


class S3StartError(Exception):
    """The server did not become ready; the message carries the end of its log."""


class S3Server(MemoryServer):
    """S3 as moto plays it, ready in about 2 s. It lists `page_keys` keys at a time.

    `least_part_bytes` is the smallest part of an upload but the last, at least 2 KiB; that of S3 is 5 MiB.
    Credentials stay the same over restarts.
    """

    name = "S3"
    ready_timeout_s = 60.0
    start_error = S3StartError

    def __init__(self, root: Path, *, page_keys: int = 1000, least_part_bytes: int = 5 << 20) -> None:
        super().__init__(root)
        self.access_key_id = f"AKIA{secrets.token_hex(8).upper()}"
        self.secret_access_key = secrets.token_urlsafe(30)
        self._page_keys = page_keys
        self._least_part_bytes = least_part_bytes

    @property
    def url(self) -> str:
        """The endpoint; valid once `start` has returned."""
        return f"http://{LOOPBACK}:{self.port}"

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

    def add_bucket(self, name: str) -> str:
        """Make an empty bucket and answer its name."""
        status = self._status("PUT", f"/{name}")
        assert status == 200, f"the server answered {status} to a new bucket {name}"
        return name

    def _made(self) -> ChildProcess:
        return ChildProcess(
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
