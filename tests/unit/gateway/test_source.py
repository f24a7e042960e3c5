"""Which source addresses are accepted, and what they say about themselves."""

import pytest

from gateway.domain.refusals import Unacceptable
from gateway.domain.source import Platform, check_headers, display_form, read_source
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
        ("rtmp://live.example.com/app", "not supported yet: rtmp"),
        ("srt://live.example.com:9000", "not supported yet: srt"),
        ("rtsp://camera.example.com/1", "not supported yet: rtsp"),
        ("https://www.twitch.tv/somebody", "not supported yet: twitch"),
        ("https://m.youtube.com/watch?v=1", "not supported yet: youtube"),
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
