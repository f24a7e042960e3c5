"""The one way FFmpeg and ffprobe run: on local files, with forced demuxers, limits, a clock and a sandbox.

Callers bring argument lists (ffmpeg-python's `compile()` without the binary). What to cut or measure, and
where files come from, is not known here; no process started here ever sees a URL but that of our own relay
(`MediaRunner.relayed`).
"""

import asyncio
import enum
import json
import math
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import structlog

from shared import relay_socket
from shared.errors import PermanentError, RetryableError

log = structlog.get_logger()

# Demuxers that read one file and open no other. hls, dash, concat and image2 do, and so are not here.
DEMUXERS = frozenset(
    {
        "aac",
        "ac3",
        "avi",
        "f32le",
        "flac",
        "flv",
        "h264",
        "hevc",
        "jpeg_pipe",
        "matroska",
        "mjpeg",
        "mov",
        "mp3",
        "mp4",
        "mpeg",
        "mpegts",
        "ogg",
        "png_pipe",
        "rawvideo",
        "s16le",
        "wav",
        "webm",
        "webp_pipe",
    }
)
# Synthetic inputs (`-f lavfi`) that open nothing either.
_LAVFI_SOURCES = re.compile(r"(anullsrc|color|nullsrc|sine|testsrc|testsrc2)(=[^,;\[\]]*)?")
_OPTIONS_OF_THE_RUNNER = frozenset(
    {
        "-attach",
        "-dump_attachment",
        "-filter_complex_script",
        "-filter_script",
        "-format_whitelist",
        "-init_hw_device",
        "-loglevel",
        "-max_pixels",
        "-nostdin",
        "-protocol_whitelist",
        "-report",
        "-sdp_file",
        "-stdin",
        "-v",
    }
)
_PROTOCOL = re.compile(
    r"(async|bluray|cache|concatf?|crypto|data|dtls|fd|file|ftp|gopher|gophers|hls|https?|httpproxy|icecast|md5|mmsh|mmst"
    r"|rtmp\w*|rtp|rtsp|s?ftp|smb|srt\w*|subfile|tcp|tee|tls|udp|udplite|unix|zmq)[:,]",
    re.IGNORECASE,
)
_FILE_OPENING_FILTER = re.compile(r"\b(a?movie|subtitles|ass|lut[13]d|(text|font)file)\s*=", re.IGNORECASE)
_PIPES = frozenset({"-", "pipe:", "pipe:1"})
_RELAYED_PATH = re.compile(r"([/?][\x21-\x7e]*)?")
# What may be read through a relay: protocol of its address -> demuxers, and protocols that FFmpeg needs for it.
_RELAYED = {
    "http": (DEMUXERS, "http,tcp"),
    "rtmp": (frozenset({"flv", "live_flv"}), "rtmp,tcp"),
    "rtsp": (frozenset({"rtsp"}), "rtsp,tcp,rtp"),
    "srt": (frozenset({"mpegts"}), "srt"),
}

_START_FAILURES = ("bwrap:", "prlimit:", "setpriv:", "nice:")
_STDERR_TAIL_BYTES = 4096
_READ_BYTES = 65536
_PROBE_WALL_CLOCK_S = 15.0
_SANDBOX_CHECK_S = 5.0
_SYSTEM_FOLDERS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64")
# bubblewrap reports its child's signal as 128 + number; FFmpeg itself ends with none of these on local files.
_CRASH_SIGNALS = frozenset(
    {
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGKILL,
        signal.SIGSEGV,
        signal.SIGSYS,
        signal.SIGTERM,
        signal.SIGXCPU,
        signal.SIGXFSZ,
    }
)


class MediaTimeout(RetryableError):
    """The process was killed because its wall-clock time was over."""

    code: ClassVar[str] = "media_timeout"


class MediaCrashed(RetryableError):
    """The process died by a signal, or could not be started."""

    code: ClassVar[str] = "media_crashed"


class WorkFolderFull(RetryableError):
    """The disk under the work folder is full."""

    code: ClassVar[str] = "media_disk_full"


class OutputInvalid(RetryableError):
    """FFmpeg ended well but what it wrote is missing, incomplete or does not decode."""

    code: ClassVar[str] = "media_output_invalid"


class MediaRejected(PermanentError):
    """FFmpeg refused the input; the message ends with the tail of what it said."""

    code: ClassVar[str] = "media_rejected"


class ArgumentRefused(PermanentError):
    """An argument names a URL, a protocol, a foreign path or an option that belongs to the runner."""

    code: ClassVar[str] = "media_argument_refused"


class Sandbox(enum.StrEnum):
    """Where the process runs. Both have resource limits and die with their parent."""

    BUBBLEWRAP = (
        "bubblewrap"  # own namespaces: no network, no other process, read-only system, one work folder
    )
    LIMITS_ONLY = "limits_only"


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaLimits:
    """What one process may take; `max_pixels` is per decoded picture (default 4096 × 2176)."""

    address_space_bytes: int = 2 * 1024**3
    file_size_bytes: int = 4 * 1024**3
    open_files: int = 256
    nice: int = 5
    max_pixels: int = 8_912_896
    stdout_bytes: int = 64 * 1024**2
    threads: int = 2
    termination_grace_s: float = 3.0


@dataclass(frozen=True, slots=True)
class Completed:
    """What a successful process printed: all of stdout, the last 4 KB of stderr.

    FFmpeg ends with 0 although it dropped pictures that it could not decode, unless it got `-xerror`: where every
    picture counts, an empty `stderr_tail` is the proof.
    """

    stdout: bytes
    stderr_tail: str


@dataclass(frozen=True, slots=True)
class Stream:
    """One elementary stream; what does not apply to its `kind` (video, audio, subtitle, data) is None."""

    index: int
    kind: str
    codec: str | None
    start_us: int | None
    duration_us: int | None
    width: int | None
    height: int | None
    frame_rate: Fraction | None
    sample_rate_hz: int | None
    channels: int | None


@dataclass(frozen=True, slots=True)
class Probe:
    """What ffprobe says about a file; times in microseconds, None where it does not know."""

    start_us: int | None
    duration_us: int | None
    streams: tuple[Stream, ...]

    def first(self, kind: str) -> Stream | None:
        """The first stream of a kind (`video`, `audio`), or None."""
        return next((stream for stream in self.streams if stream.kind == kind), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayedInput:
    """An input that FFmpeg reads through our relay; `path` follows host and port in its address.

    `options` stand before the input and are the caller's own, never a customer's text in the place of a name.
    """

    protocol: str
    demuxer: str
    path: str
    options: tuple[str, ...] = ()
    kind: socket.SocketKind = socket.SOCK_STREAM

    def arguments(self, port: int, *, limits: MediaLimits) -> tuple[str, ...]:
        """Raises ArgumentRefused for a demuxer that opens what it finds in its input."""
        demuxers, protocols = _RELAYED[self.protocol]
        if self.demuxer not in demuxers:
            raise ArgumentRefused(f"demuxer {self.demuxer!r} is not for {self.protocol}")
        if not _RELAYED_PATH.fullmatch(self.path):
            raise ArgumentRefused(f"path {self.path[:80]!r} would change the address of the relay")
        whitelist = ("-protocol_whitelist", protocols, "-max_pixels", str(limits.max_pixels))
        address = f"{self.protocol}://{relay_socket.LOOPBACK}:{port}{self.path}"
        threads = ("-threads", str(limits.threads))
        return (*self.options, *whitelist, *threads, "-f", self.demuxer, "-i", address)


OpenRelay = Callable[[socket.socket], AbstractAsyncContextManager[None]]


@dataclass(slots=True)
class RelayedProcess:
    """A running FFmpeg whose stdout is the caller's to read, as slowly as it likes."""

    process: asyncio.subprocess.Process
    stderr: "asyncio.Task[str]"
    name: str = field(default="ffmpeg")

    @property
    def stdout(self) -> asyncio.StreamReader:
        assert self.process.stdout is not None
        return self.process.stdout

    async def finished(self) -> None:
        """Wait for its end after the last byte of stdout. Raises MediaRejected, MediaCrashed."""
        said, status = await self.stderr, await self.process.wait()
        _check_status(status, name=self.name, stderr_tail=said)


def input_arguments(path: Path | str, *, demuxer: str) -> tuple[str, ...]:
    """`-f demuxer -i path`: an input as `MediaRunner.run` accepts it. Raises ArgumentRefused.

    With ffmpeg-python: `ffmpeg.input(str(path), f="mpegts")`.
    """
    if demuxer not in DEMUXERS:
        raise ArgumentRefused(f"demuxer {demuxer!r} is not one that reads a single file")
    return ("-f", demuxer, "-i", str(path))


async def detect_sandbox() -> Sandbox:
    """The best sandbox that works on this machine, found by starting a process in it once."""
    if shutil.which("bwrap") is None:
        log.warning("sandbox_missing", program="bwrap", instead=Sandbox.LIMITS_ONLY.value)
        return Sandbox.LIMITS_ONLY
    with tempfile.TemporaryDirectory(prefix="sandbox-check-") as folder:
        argv = [*_bubblewrap(Path(folder), binaries=()), "true"]
        nowhere = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(*argv, stdin=nowhere, stdout=nowhere, stderr=nowhere)
        with suppress(TimeoutError):
            async with asyncio.timeout(_SANDBOX_CHECK_S):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        log.warning("sandbox_refused", status=process.returncode, instead=Sandbox.LIMITS_ONLY.value)
        return Sandbox.LIMITS_ONLY
    return Sandbox.BUBBLEWRAP


class MediaRunner:
    """Starts FFmpeg and ffprobe, one process per call; holds no state between calls."""

    def __init__(
        self,
        *,
        ffmpeg: str = "ffmpeg",
        ffprobe: str = "ffprobe",
        sandbox: Sandbox,
        limits: MediaLimits | None = None,
    ) -> None:
        """`ffmpeg` and `ffprobe` are names on PATH or paths."""
        self._ffmpeg = ffmpeg
        self._ffprobe = ffprobe
        self._sandbox = sandbox
        self._limits = limits or MediaLimits()

    async def run(
        self,
        args: Sequence[str],
        *,
        work_dir: Path,
        wall_clock_s: float,
        output: Path | None = None,
        stdout_max_bytes: int | None = None,
    ) -> Completed:
        """Run ffmpeg with these arguments, without the binary; relative paths are relative to `work_dir`.

        Each input needs its `-f`; whitelist, pixel limit and threads are put before it here. `output`, when
        given, must exist and not be empty afterwards. `stdout_max_bytes` bounds what it may print. Raises
        ArgumentRefused, MediaTimeout, MediaRejected, MediaCrashed, WorkFolderFull, OutputInvalid.
        """
        checked = checked_arguments(args, work_dir=work_dir, limits=self._limits)
        if output is not None:
            _check_path(str(output), work_dir=work_dir)
        completed = await self._execute(
            [self._ffmpeg, "-nostdin", "-hide_banner", "-nostats", "-loglevel", "error", *checked],
            work_dir=work_dir,
            wall_clock_s=wall_clock_s,
            stdout_max_bytes=stdout_max_bytes,
        )
        if output is not None:
            _check_written(work_dir / output)
        return completed

    async def probe(
        self, path: Path, *, demuxer: str, work_dir: Path, wall_clock_s: float = _PROBE_WALL_CLOCK_S
    ) -> Probe:
        """What is in the file, read as this demuxer and no other.

        Raises MediaRejected when it is not that format, has no stream, or has pictures above the pixel limit;
        else as `run`.
        """
        _check_path(str(path), work_dir=work_dir)
        completed = await self._execute(
            [self._ffprobe, *_probe_arguments(path, demuxer=demuxer, limits=self._limits)],
            work_dir=work_dir,
            wall_clock_s=wall_clock_s,
        )
        probe = _parse_probe(completed.stdout, name=path.name)
        _check_probe(probe, limits=self._limits, name=path.name)
        return probe

    async def verify_output(
        self,
        path: Path,
        *,
        expected_duration_us: int,
        tolerance_us: int,
        kinds: Sequence[str] = ("video", "audio"),
        demuxer: str = "mov",
        work_dir: Path | None = None,
        wall_clock_s: float = 60.0,
    ) -> Probe:
        """Check a file that we made: has these kinds of streams, this duration, decodes cleanly to its end.

        `work_dir` defaults to the file's folder. Raises OutputInvalid, MediaTimeout, MediaCrashed,
        WorkFolderFull.
        """
        folder = work_dir or path.parent
        _check_written(path)
        try:
            probe = await self.probe(path, demuxer=demuxer, work_dir=folder)
            _check_made(
                probe, expected_duration_us=expected_duration_us, tolerance_us=tolerance_us, kinds=kinds
            )
            decoded = await self.run(
                ["-xerror", *input_arguments(path, demuxer=demuxer), "-f", "null", "-"],
                work_dir=folder,
                wall_clock_s=wall_clock_s,
            )
        except MediaRejected as error:
            raise OutputInvalid(f"{path.name}: {error}") from error
        if decoded.stderr_tail:
            raise OutputInvalid(f"{path.name} does not decode cleanly: {decoded.stderr_tail}")
        return probe

    @asynccontextmanager
    async def relayed(
        self, source: RelayedInput, args: Sequence[str], *, relay: OpenRelay, work_dir: Path, cpu_s: float
    ) -> AsyncIterator[RelayedProcess]:
        """FFmpeg on what `relay` serves at the socket that it is given; `args` follow the input.

        It writes no file, and is killed with its group at the end of the block. Raises ArgumentRefused,
        MediaCrashed, NoRelaySocket.
        """
        for argument in args:
            _check_argument(argument, work_dir=work_dir)
        limits = replace(self._limits, file_size_bytes=0)
        runner = MediaRunner(ffmpeg=self._ffmpeg, ffprobe=self._ffprobe, sandbox=self._sandbox, limits=limits)
        async with runner._started_relayed(source, args, relay=relay, work_dir=work_dir, cpu_s=cpu_s) as made:
            yield made

    @asynccontextmanager
    async def _started_relayed(
        self, source: RelayedInput, args: Sequence[str], *, relay: OpenRelay, work_dir: Path, cpu_s: float
    ) -> AsyncIterator[RelayedProcess]:
        head = [self._ffmpeg, "-nostdin", "-hide_banner", "-nostats", "-loglevel", "error"]

        def command(port: int) -> list[str]:
            return [*head, *source.arguments(port, limits=self._limits), *args]

        if self._sandbox is Sandbox.BUBBLEWRAP:
            opened = self._in_own_network(command, source.kind, relay=relay, work_dir=work_dir, cpu_s=cpu_s)
        else:
            opened = self._on_loopback(command, source.kind, relay=relay, work_dir=work_dir, cpu_s=cpu_s)
        async with opened as process:
            assert process.stderr is not None
            stderr = asyncio.create_task(_read_tail(process.stderr))
            try:
                yield RelayedProcess(process, stderr)
            finally:
                await _kill_unread(process)
                stderr.cancel()

    @asynccontextmanager
    async def _in_own_network(
        self,
        command: Callable[[int], list[str]],
        kind: socket.SocketKind,
        *,
        relay: OpenRelay,
        work_dir: Path,
        cpu_s: float,
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                launched = relay_socket.launched(
                    command(relay_socket.PRIVATE_PORT), channel=theirs, kind=kind
                )
                process = await self._start(
                    launched, work_dir=work_dir, wall_clock_s=cpu_s, handed=(theirs.fileno(),)
                )
            try:
                with await relay_socket.handed_over(ours) as made:
                    async with relay(made):
                        yield process
            finally:
                await _kill_unread(process)

    @asynccontextmanager
    async def _on_loopback(
        self,
        command: Callable[[int], list[str]],
        kind: socket.SocketKind,
        *,
        relay: OpenRelay,
        work_dir: Path,
        cpu_s: float,
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        with relay_socket.made_here(kind) as made:
            port = made.getsockname()[1]
            async with relay(made):
                process = await self._start(command(port), work_dir=work_dir, wall_clock_s=cpu_s)
                try:
                    yield process
                finally:
                    await _kill_unread(process)

    async def _execute(
        self,
        command: Sequence[str],
        *,
        work_dir: Path,
        wall_clock_s: float,
        stdout_max_bytes: int | None = None,
    ) -> Completed:
        name = Path(command[0]).name
        max_bytes = self._limits.stdout_bytes if stdout_max_bytes is None else stdout_max_bytes
        process = await self._start(command, work_dir=work_dir, wall_clock_s=wall_clock_s)
        try:
            async with asyncio.timeout(wall_clock_s):
                stdout, stderr = await _read_both(process, max_bytes)
                status = await process.wait()
        except TimeoutError as error:
            raise MediaTimeout(f"{name} in {work_dir.name}: killed after {wall_clock_s:g} s") from error
        finally:
            await _end_group(process, grace_s=self._limits.termination_grace_s)
        _check_status(status, name=name, stderr_tail=stderr)
        if len(stdout) > max_bytes:
            raise MediaRejected(f"{name} in {work_dir.name} printed more than {max_bytes} bytes")
        return Completed(stdout=stdout, stderr_tail=stderr)

    async def _start(
        self, command: Sequence[str], *, work_dir: Path, wall_clock_s: float, handed: Sequence[int] = ()
    ) -> asyncio.subprocess.Process:
        """`handed` are descriptors that it inherits."""
        argv = self._sandboxed(command, work_dir=work_dir, wall_clock_s=wall_clock_s)
        try:
            return await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=work_dir,
                env=_environment(work_dir),
                start_new_session=True,
                pass_fds=handed,
            )
        except OSError as error:
            raise MediaCrashed(f"{argv[0]} cannot be started: {error.strerror}") from error

    def _sandboxed(self, command: Sequence[str], *, work_dir: Path, wall_clock_s: float) -> list[str]:
        """prlimit, nice and setpriv replace themselves by what follows: one process remains."""
        limits = self._limits
        cpu_s = max(1, math.ceil(wall_clock_s * (os.cpu_count() or 1)))
        argv = [
            "prlimit",
            f"--as={limits.address_space_bytes}",
            f"--cpu={cpu_s}",
            f"--fsize={limits.file_size_bytes}",
            f"--nofile={limits.open_files}",
            "--core=0",
            "--",
            *("nice", "-n", str(limits.nice)),
            *("setpriv", "--pdeathsig", "KILL", "--no-new-privs", "--"),
        ]
        if self._sandbox is Sandbox.BUBBLEWRAP:
            argv += _bubblewrap(work_dir, binaries=(self._ffmpeg, self._ffprobe))
        return [*argv, *command]


def checked_arguments(args: Sequence[str], *, work_dir: Path, limits: MediaLimits) -> list[str]:
    """The arguments with the runner's own options before each input. Raises ArgumentRefused."""
    checked: list[str] = []
    group: list[str] = []
    arguments = iter(args)
    for argument in arguments:
        if argument != "-i":
            _check_argument(argument, work_dir=work_dir)
            group.append(argument)
            continue
        source = next(arguments, "")
        checked += [*_checked_input(group, source, work_dir=work_dir, limits=limits), "-i", source]
        group = []
    return checked + group


def _checked_input(group: Sequence[str], source: str, *, work_dir: Path, limits: MediaLimits) -> list[str]:
    demuxer = next((value for option, value in pairwise(group) if option == "-f"), None)
    if demuxer == "lavfi":
        if not _LAVFI_SOURCES.fullmatch(source):
            raise ArgumentRefused(f"synthetic input {source[:80]!r} is not one of the known sources")
        return list(group)
    if demuxer not in DEMUXERS:
        raise ArgumentRefused(f"input {source[:80]!r} needs -f with one of the known demuxers, not {demuxer}")
    _check_path(source, work_dir=work_dir)
    threads = () if "-threads" in group else ("-threads", str(limits.threads))
    return [*group, *_input_guard(limits), *threads]


def _input_guard(limits: MediaLimits) -> tuple[str, ...]:
    return ("-protocol_whitelist", "file,pipe", "-max_pixels", str(limits.max_pixels))


def _check_argument(argument: str, *, work_dir: Path) -> None:
    if argument in _PIPES:
        return
    if argument.partition(":")[0] in _OPTIONS_OF_THE_RUNNER:
        raise ArgumentRefused(f"{argument} is the runner's own option")
    if "://" in argument or _PROTOCOL.match(argument):
        raise ArgumentRefused(f"{argument[:80]!r} names a protocol: FFmpeg gets local files only")
    if _FILE_OPENING_FILTER.search(argument) or "=/" in argument:
        raise ArgumentRefused(f"{argument[:80]!r} opens a file from within an option")
    if argument.startswith("/") or ".." in Path(argument).parts:
        _check_path(argument, work_dir=work_dir)


def _check_path(path: str, *, work_dir: Path) -> None:
    """Links are resolved: one that leads out of the work folder is out of it."""
    if not path or path.startswith("-") or "://" in path or _PROTOCOL.match(path):
        raise ArgumentRefused(f"{path[:80]!r} is not a local file")
    if not (work_dir / path).resolve().is_relative_to(work_dir.resolve()):
        raise ArgumentRefused(f"{path[:200]!r} is outside the work folder")


def _bubblewrap(work_dir: Path, *, binaries: Sequence[str]) -> list[str]:
    folder = str(work_dir.resolve())
    return [
        *(
            "bwrap",
            "--unshare-user",
            "--unshare-all",
            "--die-with-parent",
            "--new-session",
            "--cap-drop",
            "ALL",
        ),
        *("--uid", "65534", "--gid", "65534", "--hostname", "media"),
        *("--ro-bind", "/usr", "/usr"),
        *_system_binds(),
        *(
            "--ro-bind-try",
            "/etc/alternatives",
            "/etc/alternatives",
        ),  # libblas and others are found through it
        *("--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"),
        *("--dev", "/dev", "--tmpfs", "/tmp"),  # noqa: S108 - an empty one inside the sandbox
        *_binary_binds(binaries),
        *_python_binds(),
        *("--bind", folder, folder, "--chdir", folder, "--"),
    ]


def _system_binds() -> Iterator[str]:
    for name in _SYSTEM_FOLDERS:
        folder = Path(name)
        if folder.is_symlink():
            yield from ("--symlink", str(folder.readlink()), name)
        elif folder.exists():
            yield from ("--ro-bind", name, name)


def _binary_binds(binaries: Sequence[str]) -> Iterator[str]:
    """An FFmpeg that does not come with the system lies in a folder of its own."""
    for binary in binaries:
        found = shutil.which(binary)
        if found is not None and not Path(found).resolve().is_relative_to("/usr"):
            yield from ("--ro-bind", found, found)


def _python_binds() -> Iterator[str]:
    """An interpreter that does not come with the system; it makes the socket of a relayed input."""
    if not relay_socket.python().is_relative_to("/usr"):
        yield from ("--ro-bind", sys.base_prefix, sys.base_prefix)


def _environment(work_dir: Path) -> dict[str, str]:
    """None of our own environment: it holds secrets. Few malloc arenas: each reserves address space."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(work_dir),
        "LANG": "C.UTF-8",
        "MALLOC_ARENA_MAX": "2",
    }


async def _read_both(process: asyncio.subprocess.Process, stdout_max_bytes: int) -> tuple[bytes, str]:
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.TaskGroup() as readers:
        stderr = readers.create_task(_read_tail(process.stderr))
        stdout = readers.create_task(_read_bounded(process.stdout, stdout_max_bytes))
    return stdout.result(), stderr.result()


async def _read_bounded(stream: asyncio.StreamReader, max_bytes: int) -> bytes:
    """All of it, kept as far as one byte more than the limit, so that the process is never blocked by us."""
    kept = bytearray()
    while chunk := await stream.read(_READ_BYTES):
        kept += chunk[: max(0, max_bytes + 1 - len(kept))]
    return bytes(kept)


async def _read_tail(stream: asyncio.StreamReader) -> str:
    tail = b""
    while chunk := await stream.read(_READ_BYTES):
        tail = (tail + chunk)[-_STDERR_TAIL_BYTES:]
    return tail.decode("utf-8", errors="replace").strip()


async def _end_group(process: asyncio.subprocess.Process, *, grace_s: float) -> None:
    """End what still runs: ask, wait, kill. A second cancellation kills at once."""
    if process.returncode is not None:
        return
    try:
        _signal_group(process, signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await process.wait()
    finally:
        _signal_group(process, signal.SIGKILL)
    await process.wait()


async def _kill_unread(process: asyncio.subprocess.Process) -> None:
    """Kill at once. What nobody read is thrown away: on Python 3.11 `wait` waits for pipes, too, and they are full."""
    if process.returncode is None:
        _signal_group(process, signal.SIGKILL)
    for descriptor in (1, 2):
        pipe = process._transport.get_pipe_transport(descriptor)  # type: ignore[attr-defined]
        if pipe is not None:
            pipe.close()
    await process.wait()


def _signal_group(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _check_status(status: int, *, name: str, stderr_tail: str) -> None:
    if status == 0:
        return
    number = -status if status < 0 else status - 128
    if number in _CRASH_SIGNALS or status < 0:
        raise MediaCrashed(f"{name} died by {_signal_name(number)}: {stderr_tail}")
    if "No space left on device" in stderr_tail:
        raise WorkFolderFull(f"{name}: {stderr_tail}")
    if stderr_tail.startswith(_START_FAILURES) or "error while loading shared libraries" in stderr_tail:
        raise MediaCrashed(f"{name} could not be started: {stderr_tail}")
    raise MediaRejected(f"{name} ended with {status}: {stderr_tail}")


def _signal_name(number: int) -> str:
    return signal.Signals(number).name if number in list(signal.Signals) else f"signal {number}"


def _check_written(path: Path) -> None:
    if not path.is_file() or path.stat().st_size == 0:
        raise OutputInvalid(f"{path.name} was not written")


def _probe_arguments(path: Path, *, demuxer: str, limits: MediaLimits) -> tuple[str, ...]:
    source = input_arguments(path, demuxer=demuxer)
    shown = ("-show_format", "-show_streams", "-of", "json")
    return ("-hide_banner", "-loglevel", "error", "-threads", "1", *_input_guard(limits), *shown, *source)


def _parse_probe(text: bytes, *, name: str) -> Probe:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise MediaRejected(f"{name}: ffprobe printed no JSON") from error
    whole = found.get("format", {})
    return Probe(
        start_us=_microseconds(whole.get("start_time")),
        duration_us=_microseconds(whole.get("duration")),
        streams=tuple(_parse_stream(stream) for stream in found.get("streams", ())),
    )


def _parse_stream(found: dict[str, Any]) -> Stream:
    return Stream(
        index=int(found["index"]),
        kind=str(found.get("codec_type", "unknown")),
        codec=found.get("codec_name"),
        start_us=_microseconds(found.get("start_time")),
        duration_us=_microseconds(found.get("duration")),
        width=found.get("width"),
        height=found.get("height"),
        frame_rate=_rate(found.get("avg_frame_rate")) or _rate(found.get("r_frame_rate")),
        sample_rate_hz=int(found["sample_rate"]) if "sample_rate" in found else None,
        channels=found.get("channels"),
    )


def _microseconds(seconds: str | None) -> int | None:
    """ffprobe prints seconds with six decimals, or N/A: exact as a decimal, not as a float."""
    if seconds is None:
        return None
    try:
        return int(Decimal(seconds) * 1_000_000)
    except InvalidOperation:
        return None


def _rate(text: str | None) -> Fraction | None:
    if text is None:
        return None
    try:
        return Fraction(text) or None
    except (ValueError, ZeroDivisionError):
        return None


def _check_probe(probe: Probe, *, limits: MediaLimits, name: str) -> None:
    if not probe.streams:
        raise MediaRejected(f"{name} has no stream")
    for stream in probe.streams:
        pixels = (stream.width or 0) * (stream.height or 0)
        if pixels > limits.max_pixels:
            raise MediaRejected(f"{name} is {stream.width}x{stream.height}, above {limits.max_pixels} pixels")


def _check_made(probe: Probe, *, expected_duration_us: int, tolerance_us: int, kinds: Sequence[str]) -> None:
    missing = [kind for kind in kinds if probe.first(kind) is None]
    if missing:
        raise OutputInvalid(f"no {' and no '.join(missing)} stream")
    if probe.duration_us is None or abs(probe.duration_us - expected_duration_us) > tolerance_us:
        raise OutputInvalid(
            f"duration {probe.duration_us} us, expected {expected_duration_us} ± {tolerance_us} us"
        )
