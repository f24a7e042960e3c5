from pathlib import Path

import pytest

from shared.http_client import (
    KEY_LIMITS,
    PLAYLIST_LIMITS,
    SEGMENT_LIMITS,
    WEBHOOK_LIMITS,
    SafeHttpClient,
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
