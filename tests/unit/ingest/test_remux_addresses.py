"""How addresses of pushed streams are read: what FFmpeg hears of them, and what it does not."""

import pytest

from ingest.adapters.remux.dial import Dialler
from ingest.adapters.remux.openers import push_address
from ingest.workflow.ports import SourceUnusable
from shared.media_runner import ArgumentRefused, MediaLimits, RelayedInput

DIALLER = Dialler(allowed=frozenset())


def arguments(url: str) -> str:
    return " ".join(push_address(url, dialler=DIALLER).source.arguments(8554, limits=MediaLimits()))


def test_rtmp_keeps_the_servers_name_and_the_streams_path() -> None:
    said = arguments("rtmp://media.example/live/instance/key?token=1")
    assert "-rtmp_tcurl rtmp://media.example:1935/live/instance " in said
    assert said.endswith("-f flv -i rtmp://127.0.0.1:8554/live/instance/key?token=1")


def test_rtsp_tells_ffmpeg_neither_name_nor_password() -> None:
    said = arguments("rtsp://viewer:secret@camera.example/stream1")
    assert said.endswith("-f rtsp -i rtsp://127.0.0.1:8554/stream1")
    assert "secret" not in said
    assert "camera.example" not in said


def test_srt_passes_on_only_what_the_server_must_hear() -> None:
    said = arguments(
        "srt://edge.example:9000?streamid=a/b&passphrase=0123456789&mode=listener&rcvbuf=99999999"
    )
    assert "-mode caller " in said
    assert "-streamid a/b -passphrase 0123456789 " in said
    assert "rcvbuf" not in said
    assert said.endswith("-f mpegts -i srt://127.0.0.1:8554")


@pytest.mark.parametrize(
    "url",
    [
        *("srt://edge.example?streamid=x", "rtmp:///live/key", "rtmp://u:p@a.example/x/y", "rtmp://[::1/x"),
        *("rtmp://a.example/live/kéy", "rtmp://a.example/live/a key", "rtsp://a.example/\x00"),
        *("srt://a.example:1?streamid=%00", "srt://a.example:1?passphrase=short"),
        "srt://a.example:1?pbkeylen=7",
    ],
)
def test_an_address_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(SourceUnusable):
        push_address(url, dialler=DIALLER)


@pytest.mark.parametrize("path", ["@evil.example/x", ".evil.example", ":80/x", "/a b"])
def test_no_path_leads_away_from_the_relay(path: str) -> None:
    source = RelayedInput(protocol="http", demuxer="mov", path=path)
    with pytest.raises(ArgumentRefused):
        source.arguments(8554, limits=MediaLimits())


@pytest.mark.parametrize("demuxer", ["hls", "dash", "concat", "image2", "sdp", "lavfi"])
def test_no_demuxer_that_opens_other_addresses_is_let_in(demuxer: str) -> None:
    source = RelayedInput(protocol="http", demuxer=demuxer, path="/x")
    with pytest.raises(ArgumentRefused):
        source.arguments(8554, limits=MediaLimits())
