"""With the real FFmpeg, in each sandbox that works here (traps T15 to T18)."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path

import pytest

from shared.media_runner import (
    ArgumentRefused,
    MediaCrashed,
    MediaLimits,
    MediaRejected,
    MediaRunner,
    MediaTimeout,
    OutputInvalid,
    Sandbox,
    WorkFolderFull,
    detect_sandbox,
    input_arguments,
)

pytestmark = pytest.mark.needs_ffmpeg

SECOND_US = 1_000_000


def make(path: Path, *options: str, size: str = "320x180", seconds: float = 2) -> Path:
    """A test film, made without the runner."""
    video = ("-f", "lavfi", "-i", f"testsrc=s={size}:r=25:d={seconds}")
    audio = ("-f", "lavfi", "-i", f"sine=r=48000:d={seconds}")
    codecs = ("-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac")
    subprocess.run(["ffmpeg", "-v", "error", "-y", *video, *audio, *codecs, *options, str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make(tmp_path_factory.mktemp("film") / "a.ts", "-f", "mpegts").read_bytes()


@pytest.fixture(scope="module")
def huge_film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("film") / "a.ts"
    return make(path, "-frames:v", "1", "-f", "mpegts", size="8192x8192", seconds=0.04).read_bytes()


@pytest.fixture(scope="module")
async def best_sandbox() -> Sandbox:
    return await detect_sandbox()


@pytest.fixture(params=list(Sandbox))
def sandbox(request: pytest.FixtureRequest, best_sandbox: Sandbox) -> Sandbox:
    wanted: Sandbox = request.param
    if wanted is Sandbox.BUBBLEWRAP and best_sandbox is not Sandbox.BUBBLEWRAP:
        pytest.skip("bubblewrap does not work on this machine")
    return wanted


@pytest.fixture
def runner(sandbox: Sandbox) -> MediaRunner:
    return MediaRunner(sandbox=sandbox)


def fake_binary(folder: Path, body: str) -> str:
    """A program in FFmpeg's place; it lies in a folder of its own, as an FFmpeg that is not the system's."""
    folder.mkdir(exist_ok=True)
    path = folder / "ffmpeg-double"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def processes_with(text: str) -> list[int]:
    found = []
    for process in Path("/proc").iterdir():
        try:
            command = (process / "cmdline").read_bytes() if process.name.isdigit() else b""
            running = command and ") Z " not in (process / "stat").read_text()
        except OSError:
            continue
        if running and text.encode() in command:
            found.append(int(process.name))
    return found


async def until(condition: object, *, within_s: float = 5.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_segment_is_remuxed_and_its_output_verified(
    runner: MediaRunner, tmp_path: Path, film: bytes
) -> None:
    (tmp_path / "a.ts").write_bytes(film)
    out = tmp_path / "out.mp4"
    args = [*input_arguments("a.ts", demuxer="mpegts"), "-c", "copy", "-movflags", "+faststart", str(out)]
    completed = await runner.run(args, work_dir=tmp_path, wall_clock_s=20, output=out)
    probe = await runner.verify_output(out, expected_duration_us=2 * SECOND_US, tolerance_us=100_000)
    assert completed.stderr_tail == ""
    assert [stream.kind for stream in probe.streams] == ["video", "audio"]


async def test_a_probe_tells_streams_and_times(runner: MediaRunner, tmp_path: Path, film: bytes) -> None:
    (tmp_path / "a.ts").write_bytes(film)
    probe = await runner.probe(tmp_path / "a.ts", demuxer="mpegts", work_dir=tmp_path)
    video, audio = probe.first("video"), probe.first("audio")
    assert video is not None
    assert audio is not None
    assert (video.codec, video.width, video.height, video.frame_rate) == ("h264", 320, 180, Fraction(25))
    assert (audio.codec, audio.sample_rate_hz, audio.channels) == ("aac", 48000, 1)
    assert probe.duration_us is not None
    assert abs(probe.duration_us - 2 * SECOND_US) < 100_000
    assert probe.first("subtitle") is None


async def test_stdout_is_given_back_and_bounded(runner: MediaRunner, tmp_path: Path, film: bytes) -> None:
    (tmp_path / "a.ts").write_bytes(film)
    args = [*input_arguments("a.ts", demuxer="mpegts"), "-vn", "-ac", "1", "-ar", "8000", "-f", "s16le", "-"]
    completed = await runner.run(args, work_dir=tmp_path, wall_clock_s=20)
    assert abs(len(completed.stdout) - 32_000) < 1_000
    with pytest.raises(MediaRejected, match="more than 1000 bytes"):
        await runner.run(args, work_dir=tmp_path, wall_clock_s=20, stdout_max_bytes=1000)


async def test_what_is_not_media_is_rejected_with_the_tail_of_stderr(
    runner: MediaRunner, tmp_path: Path
) -> None:
    (tmp_path / "a.ts").write_bytes(b"<html>not found</html>" * 1000)
    with pytest.raises(MediaRejected, match=r"a\.ts"):
        await runner.probe(tmp_path / "a.ts", demuxer="mpegts", work_dir=tmp_path)
    args = [*input_arguments("a.ts", demuxer="mpegts"), "-f", "null", "-"]
    with pytest.raises(MediaRejected, match=r"a\.ts"):
        await runner.run(args, work_dir=tmp_path, wall_clock_s=20)


@pytest.fixture
async def canary() -> AsyncIterator[tuple[int, list[bytes]]]:
    hits: list[bytes] = []

    async def hit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hits.append(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(hit, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], hits
    server.close()
    await server.wait_closed()


POLYGLOTS = {
    "m3u8": '#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-KEY:METHOD=AES-128,URI="{url}/key"\n'
    '#EXT-X-MAP:URI="{url}/map"\n#EXTINF:2,\n{url}/a.ts\n#EXT-X-ENDLIST\n',
    "local m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    "ffconcat": "ffconcat version 1.0\nfile '{url}/a.ts'\nfile '/etc/passwd'\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    '<Representation id="1" bandwidth="1"><BaseURL>{url}/a.mp4</BaseURL></Representation></AdaptationSet>'
    "</Period></MPD>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
}


@pytest.mark.parametrize("kind", list(POLYGLOTS))
@pytest.mark.parametrize("demuxer", ["mpegts", "mov", "aac"])
async def test_a_playlist_in_the_name_of_a_segment_is_rejected_and_fetches_nothing(
    runner: MediaRunner, tmp_path: Path, canary: tuple[int, list[bytes]], kind: str, demuxer: str
) -> None:
    port, hits = canary
    text = POLYGLOTS[kind].format(url=f"http://127.0.0.1:{port}")
    (tmp_path / "a.ts").write_text(text)
    with pytest.raises(MediaRejected):
        await runner.probe(tmp_path / "a.ts", demuxer=demuxer, work_dir=tmp_path)
    with pytest.raises(MediaRejected):
        args = [*input_arguments("a.ts", demuxer=demuxer), "-f", "null", "-"]
        await runner.run(args, work_dir=tmp_path, wall_clock_s=20)
    assert hits == []


async def test_in_bubblewrap_there_is_no_network_no_environment_and_no_other_file(
    tmp_path: Path, best_sandbox: Sandbox, canary: tuple[int, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    if best_sandbox is not Sandbox.BUBBLEWRAP:
        pytest.skip("bubblewrap does not work on this machine")
    port, hits = canary
    monkeypatch.setenv("GEMINI_API_KEY", "hush")
    (tmp_path / "outside").write_text("secret")
    work = tmp_path / "work"
    work.mkdir()
    body = (
        f"(exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null && echo network\n"
        f"cat {tmp_path}/outside /etc/passwd /etc/shadow 2>/dev/null\n"
        f"(echo x > /usr/here) 2>/dev/null && echo writable\necho ${{GEMINI_API_KEY:-none}}; id -u; ls -A /tmp"
    )
    binary = fake_binary(tmp_path / "bin", body)
    Path(binary).write_text(Path(binary).read_text().replace("#!/bin/sh", "#!/bin/bash"))
    completed = await MediaRunner(ffmpeg=binary, sandbox=best_sandbox).run([], work_dir=work, wall_clock_s=10)
    first_lines = completed.stdout.decode().split()[:2]
    assert first_lines == ["none", "65534"]
    assert b"secret" not in completed.stdout
    assert hits == []


async def test_a_process_that_hangs_is_killed_with_its_group_when_its_time_is_over(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    token = str(tmp_path / "hang")
    binary = fake_binary(
        tmp_path / "bin", f"trap '' TERM\nsh -c 'sleep 300; : {token}' &\nsleep 300; : {token}"
    )
    runner = MediaRunner(ffmpeg=binary, sandbox=sandbox, limits=MediaLimits(termination_grace_s=0.1))
    with pytest.raises(MediaTimeout, match=r"killed after 0\.3 s"):
        await runner.run([token], work_dir=tmp_path, wall_clock_s=0.3)
    await until(lambda: not processes_with(token))


async def test_output_that_drips_for_ever_does_not_prolong_the_time(
    runner: MediaRunner, tmp_path: Path
) -> None:
    args = ["-re", "-f", "lavfi", "-i", "sine=r=8000", "-f", "s16le", "-"]
    async with asyncio.timeout(5):
        with pytest.raises(MediaTimeout):
            await runner.run(args, work_dir=tmp_path, wall_clock_s=0.5)


async def test_cancelling_kills_the_process(sandbox: Sandbox, tmp_path: Path) -> None:
    token = f"cancelled-{tmp_path.name}-{os.getpid()}"
    binary = fake_binary(tmp_path / "bin", f"exec tail -F /dev/null {token}")
    job = asyncio.create_task(
        MediaRunner(ffmpeg=binary, sandbox=sandbox).run([], work_dir=tmp_path, wall_clock_s=60)
    )
    await until(lambda: processes_with(token))
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    await until(lambda: not processes_with(token))


ORPHAN = """
import asyncio, pathlib, sys
from shared.media_runner import MediaRunner, Sandbox
binary, sandbox, work = sys.argv[1:]
runner = MediaRunner(ffmpeg=binary, sandbox=Sandbox(sandbox))
asyncio.run(runner.run([], work_dir=pathlib.Path(work), wall_clock_s=60))
"""


async def test_no_process_survives_its_killed_parent(sandbox: Sandbox, tmp_path: Path) -> None:
    token = f"orphan-of-{tmp_path.name}-{os.getpid()}"
    binary = fake_binary(tmp_path / "bin", f"exec tail -F /dev/null {token}")
    libs = Path(__file__).resolve().parents[3] / "libs"
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", ORPHAN, binary, sandbox.value, str(tmp_path)),
        env={**os.environ, "PYTHONPATH": str(libs)},
    )
    await until(lambda: processes_with(token))
    parent.send_signal(signal.SIGKILL)
    await parent.wait()
    await until(lambda: not processes_with(token))


async def test_a_crash_is_retryable_and_names_its_signal(sandbox: Sandbox, tmp_path: Path) -> None:
    binary = fake_binary(tmp_path / "bin", "echo last words >&2; kill -SEGV $$")
    with pytest.raises(MediaCrashed, match="SIGSEGV: last words"):
        await MediaRunner(ffmpeg=binary, sandbox=sandbox).run([], work_dir=tmp_path, wall_clock_s=10)


async def test_a_missing_program_is_told_and_is_not_the_medias_fault(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    runner = MediaRunner(ffmpeg="no-such-ffmpeg", sandbox=sandbox)
    with pytest.raises(MediaCrashed, match="no-such-ffmpeg"):
        await runner.run([], work_dir=tmp_path, wall_clock_s=10)


async def test_a_full_disk_is_not_the_medias_fault(sandbox: Sandbox, tmp_path: Path) -> None:
    binary = fake_binary(tmp_path / "bin", "echo 'out.mp4: No space left on device' >&2; exit 1")
    with pytest.raises(WorkFolderFull):
        await MediaRunner(ffmpeg=binary, sandbox=sandbox).run([], work_dir=tmp_path, wall_clock_s=10)


async def test_only_the_tail_of_stderr_is_kept(sandbox: Sandbox, tmp_path: Path) -> None:
    binary = fake_binary(tmp_path / "bin", "head -c 300000 /dev/zero | tr '\\0' x >&2; echo the end >&2")
    completed = await MediaRunner(ffmpeg=binary, sandbox=sandbox).run([], work_dir=tmp_path, wall_clock_s=10)
    assert len(completed.stderr_tail) <= 4096
    assert completed.stderr_tail.endswith("the end")


async def test_success_without_the_output_is_invalid(sandbox: Sandbox, tmp_path: Path) -> None:
    runner = MediaRunner(ffmpeg=fake_binary(tmp_path / "bin", "exit 0"), sandbox=sandbox)
    with pytest.raises(OutputInvalid, match="not written"):
        await runner.run([], work_dir=tmp_path, wall_clock_s=10, output=tmp_path / "out.mp4")


async def test_a_picture_above_the_pixel_limit_is_refused(
    sandbox: Sandbox, tmp_path: Path, film: bytes
) -> None:
    (tmp_path / "a.ts").write_bytes(film)
    runner = MediaRunner(sandbox=sandbox, limits=MediaLimits(max_pixels=320 * 180 - 1))
    with pytest.raises(MediaRejected, match="320x180"):
        await runner.probe(tmp_path / "a.ts", demuxer="mpegts", work_dir=tmp_path)
    with pytest.raises(MediaRejected, match="exceeds specified max pixel count"):
        args = [*input_arguments("a.ts", demuxer="mpegts"), "-f", "null", "-"]
        await runner.run(args, work_dir=tmp_path, wall_clock_s=20)


async def test_a_huge_picture_ends_at_the_address_space_without_a_crash(
    sandbox: Sandbox, tmp_path: Path, huge_film: bytes
) -> None:
    (tmp_path / "big.ts").write_bytes(huge_film)
    limits = MediaLimits(max_pixels=2**30, address_space_bytes=512 * 1024**2)
    args = ["-xerror", *input_arguments("big.ts", demuxer="mpegts"), "-f", "null", "-"]
    with pytest.raises(MediaRejected, match="get_buffer"):
        await MediaRunner(sandbox=sandbox, limits=limits).run(args, work_dir=tmp_path, wall_clock_s=30)


async def test_a_file_above_the_size_limit_fails(sandbox: Sandbox, tmp_path: Path) -> None:
    runner = MediaRunner(sandbox=sandbox, limits=MediaLimits(file_size_bytes=100_000))
    args = ["-f", "lavfi", "-i", "testsrc", "-t", "5", "-f", "rawvideo", "out.yuv"]
    with pytest.raises((MediaCrashed, MediaRejected)):
        await runner.run(args, work_dir=tmp_path, wall_clock_s=20)
    assert (tmp_path / "out.yuv").stat().st_size <= 100_000


async def test_a_full_hd_encode_fits_the_default_limits(runner: MediaRunner, tmp_path: Path) -> None:
    source = ("-f", "lavfi", "-i", "testsrc2=s=1920x1080:r=30")
    out = tmp_path / "out.mp4"
    args = [*source, "-t", "0.5", "-c:v", "libx264", "-preset", "ultrafast", "-threads", "32", str(out)]
    await runner.run(args, work_dir=tmp_path, wall_clock_s=60, output=out)
    await runner.verify_output(out, expected_duration_us=500_000, tolerance_us=50_000, kinds=("video",))


async def test_a_clip_that_is_cut_off_corrupt_short_or_silent_is_invalid(
    runner: MediaRunner, tmp_path: Path
) -> None:
    whole = make(tmp_path / "whole.mp4", "-movflags", "+faststart").read_bytes()
    middle = len(whole) // 2
    (tmp_path / "cut.mp4").write_bytes(whole[: middle + 2000])
    (tmp_path / "corrupt.mp4").write_bytes(whole[:middle] + bytes(3000) + whole[middle + 3000 :])
    (tmp_path / "empty.mp4").write_bytes(b"")
    for name in ("cut.mp4", "corrupt.mp4", "empty.mp4", "missing.mp4"):
        with pytest.raises(OutputInvalid):
            await runner.verify_output(
                tmp_path / name, expected_duration_us=2 * SECOND_US, tolerance_us=100_000
            )
    with pytest.raises(OutputInvalid, match="duration"):
        await runner.verify_output(
            tmp_path / "whole.mp4", expected_duration_us=SECOND_US, tolerance_us=100_000
        )
    with pytest.raises(OutputInvalid, match="no subtitle"):
        await runner.verify_output(
            tmp_path / "whole.mp4",
            expected_duration_us=2 * SECOND_US,
            tolerance_us=100_000,
            kinds=("video", "subtitle"),
        )


async def test_a_link_that_leads_out_of_the_work_folder_is_refused(
    runner: MediaRunner, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "a.ts").symlink_to("/etc/passwd")
    with pytest.raises(ArgumentRefused, match="outside"):
        await runner.probe(work / "a.ts", demuxer="mpegts", work_dir=work)


async def test_too_little_address_space_to_load_the_program_is_not_the_medias_fault(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    runner = MediaRunner(sandbox=sandbox, limits=MediaLimits(address_space_bytes=128 * 1024**2))
    with pytest.raises(MediaCrashed, match="could not be started"):
        await runner.run(["-version"], work_dir=tmp_path, wall_clock_s=10)


async def test_a_process_gets_lowered_limits_and_priority(sandbox: Sandbox, tmp_path: Path) -> None:
    binary = fake_binary(tmp_path / "bin", "ulimit -v; ulimit -n; ulimit -c; nice")
    limits = MediaLimits(address_space_bytes=1024**3, open_files=99, nice=7)
    runner = MediaRunner(ffmpeg=binary, sandbox=sandbox, limits=limits)
    completed = await runner.run([], work_dir=tmp_path, wall_clock_s=10)
    expected_nice = str(min(19, os.nice(0) + 7))
    assert completed.stdout.decode().split() == [str(1024**2), "99", "0", expected_nice]
