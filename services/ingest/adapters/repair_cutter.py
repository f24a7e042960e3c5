"""Recordings as MP4 files, cut by FFmpeg at key frames: by ranges where their server knows them, else fetched whole.

By ranges, only the index and the wanted part travel, through a relay to the checked address; a file that can only be
read from its start is fetched into a scratch folder within a bound.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Final, Protocol

import structlog

from ingest.adapters.remux.file_bytes import FileBytes, FileHttp, open_http_file
from ingest.adapters.remux.file_relay import FileRelay
from ingest.domain.actions import FailureKind, FetchFailure
from ingest.workflow.ports import FetchFailed
from ingest.workflow.repair_ports import CutFile, OpenRecording, RecordingUnavailable, RecordingUnusable
from shared.errors import PipelineError
from shared.http_client import Downloaded, Limits
from shared.media_runner import (
    MediaCrashed,
    MediaRejected,
    MediaRunner,
    RelayedInput,
    RelayedProcess,
    input_arguments,
)
from shared.scratch import scratch_folder

log = structlog.get_logger()

DOWNLOAD_S: Final = 600.0
CUT_S: Final = 60.0
PIECE_S: Final = 4
SILENCE_S: Final = 60.0
READ_BYTES: Final = 256 * 1024
NOT_CUT: Final = "The recording cannot be cut: it is damaged, or its codecs do not fit a transport stream."
_STREAMED: Final = (
    *("-map", "0:v:0", "-map", "0:a:0?", "-c", "copy", "-avoid_negative_ts", "disabled"),
    *("-muxdelay", "0", "-muxpreload", "0", "-f", "mpegts", "pipe:1"),
)
# Packets as they are, with the recording's own times; each piece begins with a key frame.
_PIECES: Final = (
    *("-map", "0:v:0", "-map", "0:a:0?", "-c", "copy", "-avoid_negative_ts", "disabled"),
    *("-muxdelay", "0", "-muxpreload", "0"),
    *("-f", "segment", "-segment_format", "mpegts", "-segment_time", str(PIECE_S)),
)
_NAME: Final = "recording.mp4"
_LATER: Final = frozenset({408, 425, 429})


class Downloads(Protocol):
    """The part of `SafeHttpClient` that is used here; errors as there."""

    async def download(self, url: str, path: Path, *, limits: Limits) -> Downloaded: ...


class FileCutter:
    """Implements the workflow's port `RecordingCutter`; the gaps of one recording cost one download together."""

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


class RangedCutter:
    """Implements the workflow's port `RecordingCutter`; leaves to `whole` what cannot be read by ranges."""

    def __init__(
        self, http: FileHttp, runner: MediaRunner, *, work_root: Path, max_bytes: int, whole: FileCutter
    ) -> None:
        """`max_bytes` bounds one cut."""
        self._http = http
        self._runner = runner
        self._work_root = work_root
        self._max_bytes = max_bytes
        self._whole = whole

    @asynccontextmanager
    async def open(self, url: str) -> AsyncIterator[OpenRecording]:
        file = await self._opened(url)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(file.close)
            if file.is_seekable:
                folder = stack.enter_context(TemporaryDirectory(prefix="recording-", dir=self._work_root))
                yield _Remote(self._runner, Path(folder), file, max_bytes=self._max_bytes)
            else:
                yield await stack.enter_async_context(self._whole.open(url))

    async def _opened(self, url: str) -> FileBytes:
        try:
            return await open_http_file(self._http, url, headers={})
        except FetchFailed as failed:
            raise _as_ours(failed.failure) from failed


def _as_ours(failure: FetchFailure) -> PipelineError:
    if failure.kind is FailureKind.REFUSED:
        return RecordingUnusable(f"The recording cannot be read: {failure.detail}.")
    return RecordingUnavailable(failure.detail or failure.label)


class _Remote:
    """Packets of the wanted part come as one stream, which is divided here."""

    def __init__(self, runner: MediaRunner, folder: Path, file: FileBytes, *, max_bytes: int) -> None:
        self._runner = runner
        self._folder = folder
        self._file = file
        self._max_bytes = max_bytes
        self._cuts = 0

    async def cut(self, *, from_us: int, to_us: int) -> AsyncIterator[CutFile]:
        self._cuts += 1
        prefix = f"cut-{self._cuts:04d}"
        part = self._folder / f"{prefix}.ts"
        await self._fetch(part, from_us=from_us, to_us=to_us)
        source = ("-copyts", *input_arguments(part.name, demuxer="mpegts"))
        async for piece in _divided(self._runner, self._folder, source, prefix=prefix):
            yield piece
        part.unlink()

    async def _fetch(self, part: Path, *, from_us: int, to_us: int) -> None:
        relay = FileRelay(self._file)
        try:
            await self._copy(part, relay, from_us=from_us, to_us=to_us)
        except (MediaRejected, MediaCrashed) as error:
            if relay.failure is not None:
                raise _as_ours(relay.failure) from error
            if isinstance(error, MediaCrashed):
                raise
            log.warning("recording_not_cut", reason=str(error))
            raise RecordingUnusable(NOT_CUT) from error
        if relay.failure is not None:
            raise _as_ours(relay.failure)

    async def _copy(self, part: Path, relay: FileRelay, *, from_us: int, to_us: int) -> None:
        options = (*_span(from_us=from_us, to_us=to_us), "-seekable", "1")
        source = RelayedInput(protocol="http", demuxer="mov", path=relay.path, options=options)
        work_dir = scratch_folder(str(self._folder / "relay"))
        opened = self._runner.relayed(source, _STREAMED, relay=relay.serve, work_dir=work_dir, cpu_s=CUT_S)
        async with opened as process:
            with part.open("wb") as target:
                await self._write(process, target)
            await process.finished()

    async def _write(self, process: RelayedProcess, target: IO[bytes]) -> None:
        left_bytes = self._max_bytes
        while chunk := await _chunk(process):
            left_bytes -= len(chunk)
            if left_bytes < 0:
                raise RecordingUnusable(f"What fills the gap is longer than {self._max_bytes} bytes.")
            await asyncio.to_thread(target.write, chunk)


async def _chunk(process: RelayedProcess) -> bytes:
    try:
        async with asyncio.timeout(SILENCE_S):
            return await process.stdout.read(READ_BYTES)
    except TimeoutError as error:
        raise RecordingUnavailable(f"nothing of the recording came for {SILENCE_S:g} s") from error


class _File:
    def __init__(self, runner: MediaRunner, folder: Path) -> None:
        self._runner = runner
        self._folder = folder
        self._cuts = 0

    async def cut(self, *, from_us: int, to_us: int) -> AsyncIterator[CutFile]:
        self._cuts += 1
        source = (*_span(from_us=from_us, to_us=to_us), *input_arguments(_NAME, demuxer="mov"))
        async for piece in _divided(self._runner, self._folder, source, prefix=f"cut-{self._cuts:04d}"):
            yield piece


def _span(*, from_us: int, to_us: int) -> tuple[str, ...]:
    """Options before an input: this part of it, with its own times."""
    return ("-copyts", "-ss", f"{from_us / 1e6:.6f}", "-t", f"{(to_us - from_us) / 1e6:.6f}")


async def _divided(
    runner: MediaRunner, folder: Path, source: tuple[str, ...], *, prefix: str
) -> AsyncIterator[CutFile]:
    """Pieces are deleted when the next one is asked for: a long gap does not fill the disk twice."""
    command = (*source, *_PIECES, f"{prefix}-%06d.ts")
    try:
        await runner.run(command, work_dir=folder, wall_clock_s=CUT_S)
    except MediaRejected as error:
        log.warning("recording_not_cut", reason=str(error))
        raise RecordingUnusable(NOT_CUT) from error
    for path in await asyncio.to_thread(_pieces, folder, prefix):
        yield CutFile(path=path)
        path.unlink()


def _pieces(folder: Path, prefix: str) -> list[Path]:
    return sorted(folder.glob(f"{prefix}-*.ts"))
