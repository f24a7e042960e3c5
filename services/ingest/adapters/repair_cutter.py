"""Recordings as files: fetched whole into a scratch folder within a bound, then cut there by FFmpeg at key frames.

A seek within the file is cheap, so the gaps of one recording cost one download together.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Protocol

import ffmpeg
import structlog

from ingest.workflow.repair_ports import CutFile, OpenRecording, RecordingUnavailable, RecordingUnusable
from shared.http_client import Downloaded, Limits
from shared.media_runner import MediaRejected, MediaRunner

log = structlog.get_logger()

DOWNLOAD_S: Final = 600.0
CUT_S: Final = 60.0
PIECE_S: Final = 4
_NAME: Final = "recording.mp4"
_LATER: Final = frozenset({408, 425, 429})


class Downloads(Protocol):
    """The part of `SafeHttpClient` that is used here; errors as there."""

    async def download(self, url: str, path: Path, *, limits: Limits) -> Downloaded: ...


class FileCutter:
    """Implements the workflow's port `RecordingCutter`."""

    def __init__(self, http: Downloads, runner: MediaRunner, *, work_root: Path, max_bytes: int) -> None:
        self._http = http
        self._runner = runner
        self._work_root = work_root
        self._limits = Limits(max_bytes=max_bytes, total_s=DOWNLOAD_S, first_byte_s=15.0)

    @asynccontextmanager
    async def open(self, url: str) -> AsyncIterator[OpenRecording]:
        with TemporaryDirectory(prefix="recording-", dir=self._work_root) as folder:
            path = Path(folder) / _NAME
            answer = await self._http.download(url, path, limits=self._limits)
            _check_status(answer.status)
            await self._check(path)
            yield _File(self._runner, Path(folder))

    async def _check(self, path: Path) -> None:
        try:
            probe = await self._runner.probe(path, demuxer="mov", work_dir=path.parent)
        except MediaRejected as error:
            raise RecordingUnusable("The recording is no MP4 file that can be read.") from error
        if probe.first("video") is None:
            raise RecordingUnusable("The recording has no picture.")


def _check_status(status: int) -> None:
    if status in (200, 206):
        return
    if status >= 500 or status in _LATER:
        raise RecordingUnavailable(f"the recording's address answered {status}")
    raise RecordingUnusable(f"The recording's address answered {status}; it may have expired.")


class _File:
    def __init__(self, runner: MediaRunner, folder: Path) -> None:
        self._runner = runner
        self._folder = folder
        self._cuts = 0

    async def cut(self, *, from_us: int, to_us: int) -> AsyncIterator[CutFile]:
        """Pieces are deleted when the next one is asked for: a long gap does not fill the disk twice."""
        self._cuts += 1
        prefix = f"cut-{self._cuts:04d}"
        try:
            await self._runner.run(
                _command(f"{prefix}-%06d.ts", from_us=from_us, to_us=to_us),
                work_dir=self._folder,
                wall_clock_s=CUT_S,
            )
        except MediaRejected as error:
            log.warning("recording_not_cut", reason=str(error))
            raise RecordingUnusable(
                "The recording cannot be cut: it is damaged, or its codecs do not fit a transport stream."
            ) from error
        for path in sorted(self._folder.glob(f"{prefix}-*.ts")):
            yield CutFile(path=path)
            path.unlink()


def _command(pattern: str, *, from_us: int, to_us: int) -> list[str]:
    """Packets as they are, with the recording's own times; each piece begins with a key frame."""
    source = ffmpeg.input(_NAME, f="mov", ss=from_us / 1e6, t=(to_us - from_us) / 1e6, copyts=None)
    written = ffmpeg.output(
        source["v:0"],
        source["a:0?"],
        pattern,
        c="copy",
        avoid_negative_ts="disabled",
        f="segment",
        segment_format="mpegts",
        segment_time=PIECE_S,
        muxdelay=0,
        muxpreload=0,
    )
    command: list[str] = written.compile()[1:]
    return command
