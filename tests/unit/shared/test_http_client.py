from pathlib import Path

import pytest

from shared.http_client import (
    KEY_LIMITS,
    PLAYLIST_LIMITS,
    SEGMENT_LIMITS,
    WEBHOOK_LIMITS,
    HeadersRefused,
    SafeHttpClient,
    check_headers,
)


def test_the_documented_limits_are_those_of_the_design() -> None:
    sizes = [limits.max_bytes for limits in (PLAYLIST_LIMITS, SEGMENT_LIMITS, KEY_LIMITS, WEBHOOK_LIMITS)]
    assert sizes == [1 << 20, 64 << 20, 16, 64 << 10]
    assert KEY_LIMITS.exact_bytes == 16
    assert (WEBHOOK_LIMITS.total_s, WEBHOOK_LIMITS.max_redirects, WEBHOOK_LIMITS.connect_s) == (15.0, 0, 3.0)


async def test_a_client_outside_its_context_says_so(tmp_path: Path) -> None:
    client = SafeHttpClient(user_agent="test")
    with pytest.raises(RuntimeError, match="async with"):
        await client.download("https://example.com/", tmp_path / "x", limits=SEGMENT_LIMITS)


def test_ordinary_headers_pass() -> None:
    check_headers(
        {"Authorization": "Bearer x", "X-Token": "ü", "Referer": "https://example.com/", "X-Empty": ""}
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "a\r\nX-B: b"),
        ("X-A", "a\x00"),
        ("X A", "a"),
        ("", "a"),
        ("X-A\n", "a"),
        ("Host", "internal"),
        ("content-length", "3"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "close"),
        ("X-A", "a" * 9000),
    ],
)
def test_a_header_that_is_malformed_or_ours_is_refused_without_its_value(name: str, value: str) -> None:
    with pytest.raises(HeadersRefused) as caught:
        check_headers({name: value})
    assert "internal" not in str(caught.value)
