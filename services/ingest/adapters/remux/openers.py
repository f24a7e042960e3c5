"""Opens files, uploads and pushed streams: a stream's address becomes what reads it."""

import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from ingest.adapters.remux.child import Workshop
from ingest.adapters.remux.dial import Dialler
from ingest.adapters.remux.file_bytes import FileBytes, FileHttp, open_http_file, open_upload
from ingest.adapters.remux.file_source import FileSource
from ingest.adapters.remux.push_source import PushAddress, PushSource
from ingest.adapters.remux.wire_relay import TcpRelay, UdpRelay
from ingest.adapters.spool import FolderSpool
from ingest.domain.recorder import Followed, Progress
from ingest.domain.rtsp import Credentials, RtspRewrite
from ingest.workflow.ports import MediaSource, OpenSource, SourceAddress, SourceUnusable
from shared.addresses import HostPort
from shared.clock import Clock
from shared.media_runner import MediaRunner, RelayedInput
from shared.object_store import ObjectStore
from shared.scratch import scratch_folder

UPLOAD_PREFIX: Final = "upload:"
_PORTS: Final = {"rtmp": 1935, "rtmps": 443, "rtsp": 554, "rtsps": 322}
_SRT_OPTIONS: Final = frozenset({"streamid", "passphrase", "pbkeylen"})
_SRT_LATENCY_US: Final = 200_000
_SRT_PASSPHRASE_LENGTHS: Final = range(10, 80)
_SRT_KEY_LENGTHS: Final = frozenset({"16", "24", "32"})
_PROBED: Final = ("-analyzeduration", "2000000")


@dataclass(frozen=True, kw_only=True)
class RemuxedSources:
    """What all sources of a process share."""

    http: FileHttp
    store: ObjectStore
    dialler: Dialler
    workshop: Workshop
    spool: FolderSpool
    clock: Clock

    @classmethod
    def under(
        cls,
        folder: str,
        *,
        http: FileHttp,
        store: ObjectStore,
        dialler: Dialler,
        runner: MediaRunner,
        limit_bytes: int,
        clock: Clock,
    ) -> Self:
        """Keeps finished segments in `folder`, at most so many bytes of all sources together."""
        root = scratch_folder(folder)
        spool = FolderSpool(scratch_folder(str(root / "segments")), limit_bytes=limit_bytes)
        workshop = Workshop(runner=runner, work_dir=scratch_folder(str(root / "work")))
        return cls(http=http, store=store, dialler=dialler, workshop=workshop, spool=spool, clock=clock)

    def openers(self) -> Mapping[str, OpenSource]:
        """By the kind of source."""
        return {
            "file": self.file,
            "upload": self.upload,
            "rtmp": self.pushed,
            "rtsp": self.pushed,
            "srt": self.pushed,
        }

    def close(self) -> None:
        self.spool.close()

    def file(self, stream: Followed, address: SourceAddress, progress: Progress) -> MediaSource:
        async def open_file() -> FileBytes:
            return await open_http_file(self.http, address.url, headers=address.headers)

        return FileSource(open_file, workshop=self.workshop, spool=self.spool, progress=progress)

    def upload(self, stream: Followed, address: SourceAddress, progress: Progress) -> MediaSource:
        upload_id = address.url.removeprefix(UPLOAD_PREFIX)

        async def open_file() -> FileBytes:
            return await open_upload(self.store, organization_id=stream.organization_id, upload_id=upload_id)

        return FileSource(open_file, workshop=self.workshop, spool=self.spool, progress=progress)

    def pushed(self, stream: Followed, address: SourceAddress, progress: Progress) -> MediaSource:
        """Raises SourceUnusable."""
        return PushSource(
            push_address(address.url, dialler=self.dialler),
            workshop=self.workshop,
            spool=self.spool,
            progress=progress,
            clock=self.clock,
        )


def push_address(url: str, *, dialler: Dialler) -> PushAddress:
    """How to read what a server pushes at `url`. Raises SourceUnusable."""
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise SourceUnusable("its address holds characters that must be percent-encoded")
    try:
        parts = urlsplit(url)
        target = HostPort((parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme, 0))
    except ValueError as error:
        raise SourceUnusable("its address cannot be read") from error
    if not target.host or not target.port:
        raise SourceUnusable("its address names no host or no port")
    if parts.scheme in ("rtmp", "rtmps"):
        if parts.username is not None:
            raise SourceUnusable("its server would need a user name, which is not supported for RTMP")
        return _rtmp(parts, target, dialler=dialler)
    if parts.scheme in ("rtsp", "rtsps"):
        return _rtsp(parts, target, dialler=dialler)
    if parts.scheme == "srt":
        return _srt(parts, target, dialler=dialler)
    raise SourceUnusable(f"{parts.scheme}: is no address that we follow")


def _rtmp(parts: SplitResult, target: HostPort, *, dialler: Dialler) -> PushAddress:
    """The server hears its own name; FFmpeg finds application and stream in the path by itself."""
    query = f"?{parts.query}" if parts.query else ""
    names = parts.path.removeprefix("/").split("/")
    application = "/".join(names[: 2 if len(names) > 2 else 1])
    own = ("-rtmp_tcurl", f"{parts.scheme}://{target}/{application}", "-rtmp_live", "live")
    source = RelayedInput(
        protocol="rtmp", demuxer="flv", path=f"{parts.path}{query}", options=(*own, *_PROBED)
    )
    is_tls = parts.scheme == "rtmps"
    return PushAddress(source=source, open_relay=lambda: TcpRelay(dialler, target, is_tls=is_tls))


def _rtsp(parts: SplitResult, target: HostPort, *, dialler: Dialler) -> PushAddress:
    """Media comes over the one connection; user and password stay with the relay."""
    query = f"?{parts.query}" if parts.query else ""
    source = RelayedInput(
        protocol="rtsp",
        demuxer="rtsp",
        path=f"{parts.path}{query}",
        options=("-rtsp_transport", "tcp", *_PROBED),
    )
    address, credentials = f"{parts.scheme}://{target}", _credentials(parts)
    is_tls = parts.scheme == "rtsps"

    def open_relay() -> TcpRelay:
        def rewrite() -> RtspRewrite:
            return RtspRewrite(address, credentials=credentials)

        return TcpRelay(dialler, target, is_tls=is_tls, rewrite=rewrite)

    return PushAddress(source=source, open_relay=open_relay)


def _credentials(parts: SplitResult) -> Credentials | None:
    if parts.username is None:
        return None
    return Credentials(
        user=unquote(parts.username), password=unquote(parts.password or ""), nonce=secrets.token_hex(8)
    )


def _srt(parts: SplitResult, target: HostPort, *, dialler: Dialler) -> PushAddress:
    """We call; of the address's options those go on that the server must hear."""
    asked = {name: value for name, value in parse_qsl(parts.query) if name in _SRT_OPTIONS}
    _check_srt(asked)
    own = ("-mode", "caller", "-transtype", "live", "-latency", str(_SRT_LATENCY_US))
    heard = tuple(text for name, value in asked.items() for text in (f"-{name}", value))
    source = RelayedInput(
        protocol="srt",
        demuxer="mpegts",
        path="",
        options=(*own, *heard, *_PROBED),
        kind=socket.SOCK_DGRAM,
    )
    return PushAddress(source=source, open_relay=lambda: UdpRelay(dialler, target))


def _check_srt(asked: Mapping[str, str]) -> None:
    """Raises SourceUnusable for what the server could never be asked with."""
    if not all(value.isprintable() for value in asked.values()):
        raise SourceUnusable("its address holds control characters")
    if "passphrase" in asked and len(asked["passphrase"]) not in _SRT_PASSPHRASE_LENGTHS:
        raise SourceUnusable("its passphrase must have 10 to 79 characters")
    if asked.get("pbkeylen", "16") not in _SRT_KEY_LENGTHS:
        raise SourceUnusable("its pbkeylen must be 16, 24 or 32")
