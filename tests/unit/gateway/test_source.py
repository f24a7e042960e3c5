"""Which source addresses are accepted, and what they say about themselves."""

import pytest

from gateway.domain.refusals import Unacceptable
from gateway.domain.source import Platform, SourceKind, check_headers, display_form, read_source
from shared.addresses import parse_allowed

NOBODY = parse_allowed("")


@pytest.mark.parametrize(
    ("url", "platform"),
    [
        ("https://cdn.example.com/a/master.m3u8?token=1", Platform.CUSTOM),
        ("http://cdn.example.com:8080/a.m3u8", Platform.CUSTOM),
        ("https://cdn.100ms.live/beam/master.m3u8", Platform.HUNDREDMS),
    ],
)
def test_public_hls_addresses_are_accepted(url: str, platform: Platform) -> None:
    source = read_source(url, allowed=NOBODY)

    assert (source.url, source.platform) == (url, platform)
    assert "?" not in source.display_url


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("rtmp://10.1.2.3/app/key", "not a public address"),
        ("rtmps://localhost/app/key", "local name"),
        ("rtsp://[fd00::1]/1", "not a public address"),
        ("rtsp://camera.example.com:22/1", "port 22 is not allowed"),
        ("srt://live.example.com", "needs a port"),
        ("srt://user:secret@live.example.com:9000", "user name or password"),
        ("srt://live.example.com:9000?mode=listener", "mode must be caller"),
        ("rtmp://live.example.com/a b", "a space"),
        ("rtmp://", "no host"),
        ("udp://239.0.0.1:1234", "rtsps:// or srt://, or be upload:<id> of a finished upload, not udp:"),
        ("upload:upl_12", "upload is named as upload:<id>"),
        ("upload://upl_0123456789ab", "upload is named as upload:<id>"),
        ("upload:../../archive", "upload is named as upload:<id>"),
        ("https://www.twitch.tv/directory", "not that of a channel"),
        ("https://www.twitch.tv/", "not that of a channel"),
        ("https://clips.twitch.tv/Funny", "no pages of live channels"),
        ("https://m.youtube.com/watch?v=1", "names no YouTube video"),
        ("https://www.youtube.com/playlist?list=PL1", "list of videos"),
        ("https://www.youtube.com/@somebody", "add /live"),
        ("https://studio.youtube.com/channel/UC1/live", "no pages of videos"),
        ("https://www.youtube.com/feed/trending", "not that of a video"),
        ("ftp://example.com/a.m3u8", "must start with http"),
        ("file:///etc/passwd", "must start with http"),
        ("example.com/a.m3u8", "must start with http"),
        ("http://[::1/a", "cannot be read"),
        ("http://10.1.2.3/a.m3u8", "not a public address"),
        ("http://[::ffff:127.0.0.1]/a.m3u8", "not a public address"),
        ("http://0x7f.1/a.m3u8", "unusual form"),
        ("http://metadata.google.internal/", "local name"),
        ("https://user:secret@example.com/a.m3u8", "user name or password"),
    ],
)
def test_other_addresses_are_refused_with_the_reason(url: str, words: str) -> None:
    with pytest.raises(Unacceptable, match=words) as refusal:
        read_source(url, allowed=NOBODY)
    assert refusal.value.field == "source_url"
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "kind", "platform", "is_hinted"),
    [
        ("https://cdn.example.com/a/master.m3u8?x=.mp4", SourceKind.HLS, Platform.CUSTOM, True),
        ("https://cdn.example.com/a/MATCH.MP4?sig=1", SourceKind.FILE, Platform.CUSTOM, True),
        ("https://cdn.example.com/a.webm", SourceKind.FILE, Platform.CUSTOM, True),
        ("https://cdn.example.com/watch/17", SourceKind.HLS, Platform.CUSTOM, False),
        ("https://twitch.tv.example.com/somebody", SourceKind.HLS, Platform.CUSTOM, False),
        ("rtmp://live.example.com/app/key", SourceKind.RTMP, Platform.RTMP, True),
        ("rtmps://user:secret@live.example.com/app/key", SourceKind.RTMP, Platform.RTMP, True),
        ("RTSP://user:secret@camera.example.com:8554/1", SourceKind.RTSP, Platform.CUSTOM, True),
        ("rtsps://camera.example.com/1", SourceKind.RTSP, Platform.CUSTOM, True),
        ("srt://live.example.com:9000?streamid=x&passphrase=secret", SourceKind.SRT, Platform.CUSTOM, True),
        ("https://www.twitch.tv/somebody", SourceKind.TWITCH, Platform.TWITCH, True),
        ("https://youtu.be/dQw4w9WgXcQ", SourceKind.YOUTUBE, Platform.YOUTUBE, True),
        ("upload:upl_0123456789ab", SourceKind.UPLOAD, Platform.CUSTOM, True),
    ],
)
def test_kind_and_platform_are_told_from_the_address(
    url: str, kind: SourceKind, platform: Platform, is_hinted: bool
) -> None:
    source = read_source(url, allowed=NOBODY)

    assert (kind, platform, is_hinted) == (source.kind, source.platform, source.is_hinted)
    assert "secret" not in source.display_url
    assert (kind in (SourceKind.FILE, SourceKind.UPLOAD)) == source.is_recording


@pytest.mark.parametrize(
    ("given", "url", "channel"),
    [
        ("https://m.twitch.tv/SomeBody_1/?tt=x", "https://www.twitch.tv/somebody_1", "somebody_1"),
        ("http://twitch.tv/videos/123456", "https://www.twitch.tv/videos/123456", ""),
        ("https://youtu.be/dQw4w9WgXcQ?t=3", "https://www.youtube.com/watch?v=dQw4w9WgXcQ", ""),
        ("https://youtube.com/live/dQw4w9WgXcQ", "https://www.youtube.com/watch?v=dQw4w9WgXcQ", ""),
        ("https://m.youtube.com/shorts/dQw4w9WgXcQ", "https://www.youtube.com/watch?v=dQw4w9WgXcQ", ""),
        (
            "https://www.youtube.com/watch?list=x&v=dQw4w9WgXcQ",
            "https://www.youtube.com/watch?v=dQw4w9WgXcQ",
            "",
        ),
        ("https://www.youtube.com/@some.body/live", "https://www.youtube.com/@some.body/live", "@some.body"),
        ("https://www.youtube.com/channel/UC12/live", "https://www.youtube.com/channel/UC12/live", "UC12"),
    ],
)
def test_pages_are_brought_into_their_plain_form(given: str, url: str, channel: str) -> None:
    source = read_source(given, allowed=NOBODY)

    assert source.page is not None
    assert (url, url, channel) == (source.url, source.display_url, source.page.channel)


def test_a_relayed_scheme_may_reach_what_is_allow_listed_by_its_own_port() -> None:
    allowed = parse_allowed("127.0.0.1:1935")

    assert SourceKind.RTMP is read_source("rtmp://127.0.0.1/app/key", allowed=allowed).kind
    with pytest.raises(Unacceptable):
        read_source("rtmp://127.0.0.1:1936/app/key", allowed=allowed)


def test_brackets_that_do_not_pair_are_refused_like_any_other_text() -> None:
    with pytest.raises(Unacceptable):
        read_source("rtmp://user]@[::1/app/key", allowed=frozenset())


def test_headers_that_would_go_nowhere_are_refused() -> None:
    source = read_source("rtmp://live.example.com/app", allowed=NOBODY)

    check_headers({}, source=source)
    with pytest.raises(Unacceptable, match="kind rtmp"):
        check_headers({"Authorization": "x"}, source=source)


def test_an_allow_listed_host_and_port_may_be_private() -> None:
    allowed = parse_allowed("127.0.0.1:8123")

    assert read_source("http://127.0.0.1:8123/a.m3u8", allowed=allowed).platform is Platform.CUSTOM
    with pytest.raises(Unacceptable):
        read_source("http://127.0.0.1:8124/a.m3u8", allowed=allowed)


def test_the_display_form_has_no_user_query_or_fragment() -> None:
    assert display_form("https://u:p@example.com:8443/a/b?c=d#e") == "https://example.com:8443/a/b"


def test_headers_that_are_ours_or_no_headers_are_refused() -> None:
    check_headers({"Authorization": "Bearer abc", "X-Key_1": "v"})
    for headers in ({"Host": "x"}, {"a b": "c"}, {"": "c"}, {"a": "b\r\nc: d"}, {"range": "bytes=0-"}):
        with pytest.raises(Unacceptable):
            check_headers(headers)


def test_headers_that_the_http_client_would_refuse_are_refused_at_submission() -> None:
    for headers in ({"Proxy-Authorization": "x"}, {"A" * 129: "x"}, {"a": "x" * 8_000}, {"X\n": "x"}):
        with pytest.raises(Unacceptable) as refusal:
            check_headers(headers)
        assert len(str(refusal.value)) < 200
