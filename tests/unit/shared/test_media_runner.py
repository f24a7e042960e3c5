from pathlib import Path

import ffmpeg
import pytest

from shared.media_runner import ArgumentRefused, MediaLimits, checked_arguments, input_arguments

WORK = Path("/scratch/job")
LIMITS = MediaLimits(max_pixels=1000, threads=3)
GUARD = ["-protocol_whitelist", "file,pipe", "-max_pixels", "1000"]


def check(*args: str) -> list[str]:
    return checked_arguments(args, work_dir=WORK, limits=LIMITS)


def test_every_input_gets_whitelist_pixel_limit_and_threads() -> None:
    checked = check(
        "-y", "-ss", "1", *input_arguments("a.ts", demuxer="mpegts"), "-f", "mov", "-i", "b.mp4", "out.mp4"
    )
    first = ["-y", "-ss", "1", "-f", "mpegts", *GUARD, "-threads", "3", "-i", "a.ts"]
    second = ["-f", "mov", *GUARD, "-threads", "3", "-i", "b.mp4"]
    assert checked == [*first, *second, "out.mp4"]


def test_what_ffmpeg_python_compiles_is_accepted() -> None:
    source = ffmpeg.input(str(WORK / "a.ts"), f="mpegts", ss=1.5, t=2)
    output = ffmpeg.output(
        source.video.filter("scale", 1280, -2),
        source.audio,
        str(WORK / "out.mp4"),
        vcodec="libx264",
        acodec="aac",
    )
    argv = output.overwrite_output().compile()[1:]
    assert str(WORK / "out.mp4") in check(*argv)


def test_known_synthetic_sources_are_accepted_and_others_refused() -> None:
    assert check("-f", "lavfi", "-i", "anullsrc=r=48000:cl=stereo", "out.wav")
    for graph in ("movie=/etc/passwd", "amovie=x", "testsrc,movie=x", "color=c=red[a];movie=x", "anything"):
        with pytest.raises(ArgumentRefused):
            check("-f", "lavfi", "-i", graph, "out.wav")


@pytest.mark.parametrize(
    "demuxer", ["hls", "applehttp", "concat", "dash", "image2", "sdp", "rtsp", "tee", "", "live_flv"]
)
def test_a_demuxer_that_opens_other_files_is_refused(demuxer: str) -> None:
    with pytest.raises(ArgumentRefused):
        input_arguments("a.ts", demuxer=demuxer)
    with pytest.raises(ArgumentRefused):
        check("-f", demuxer, "-i", "a.ts", "out.mp4")


def test_an_input_without_a_demuxer_is_refused() -> None:
    with pytest.raises(ArgumentRefused, match="needs -f"):
        check("-i", "a.ts", "out.mp4")
    with pytest.raises(ArgumentRefused, match="needs -f"):
        check("-f", "mpegts", "-i", "a.ts", "-i", "b.ts", "out.mp4")


@pytest.mark.parametrize(
    "source",
    [
        "http://127.0.0.1/x.ts",
        "file:/etc/passwd",
        "file:///etc/passwd",
        "concat:a.ts|/etc/passwd",
        "subfile,,start,0,end,9,,:/etc/passwd",
        "crypto+http://x/",
        "data:text/plain,x",
        "tcp:127.0.0.1:80",
        "/etc/passwd",
        "../other/a.ts",
        "/scratch/job/../other/a.ts",
        "/scratch/job2/a.ts",
        "-",
        "",
    ],
)
def test_an_input_that_is_not_a_file_of_the_work_folder_is_refused(source: str) -> None:
    with pytest.raises(ArgumentRefused):
        check("-f", "mpegts", "-i", source, "out.mp4")


@pytest.mark.parametrize(
    "argument",
    [
        "http://127.0.0.1/up",
        "tcp:127.0.0.1:80",
        "tee:a.mp4|b.mp4",
        "/tmp/out.mp4",
        "../out.mp4",
        "sub/../../out.mp4",
        "movie=a.png[logo];[0:v][logo]overlay",
        "subtitles=a.srt",
        "drawtext=textfile=a.txt",
        "metadata=print:file=/etc/x",
        "-protocol_whitelist",
        "-max_pixels",
        "-max_pixels:v",
        "-loglevel",
        "-report",
        "-filter_complex_script",
    ],
)
def test_an_argument_that_reaches_beyond_the_work_folder_or_undoes_a_guard_is_refused(argument: str) -> None:
    with pytest.raises(ArgumentRefused):
        check("-f", "mpegts", "-i", "a.ts", argument)


@pytest.mark.parametrize(
    "argument",
    [
        "0:v:0",
        "[0:v]scale=1280:-2[v]",
        "select='gt(scene,0.3)',metadata=print:file=-",
        "expr:gte(t,n_forced*2)",
        "-",
        "pipe:1",
        "out.mp4",
        "sub/out.mp4",
        "/scratch/job/out.mp4",
        "title=a: b",
        "crop=iw/2:ih/2",
        "aspectralstats",
    ],
)
def test_an_ordinary_argument_passes(argument: str) -> None:
    assert check("-f", "mpegts", "-i", "a.ts", argument)[-1] == argument
