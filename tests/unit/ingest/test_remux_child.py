"""How long FFmpeg may be silent: not long, but for as long as it takes in what may lead to the place it looks for."""

import asyncio
from itertools import count

import pytest

from ingest.adapters.remux.child import ChildSilent, read_patiently

QUIET_S = 0.02


async def test_who_takes_nothing_in_may_not_be_silent() -> None:
    with pytest.raises(ChildSilent, match="no media for"):
        await read_patiently(asyncio.StreamReader(), silence_s=QUIET_S, served_bytes=lambda: 7)


async def test_who_searches_may_be_silent_until_it_finds() -> None:
    stdout, asked = asyncio.StreamReader(), count()

    def served_bytes() -> int:
        if next(asked) == 4:
            stdout.feed_data(b"found")
        return next(asked)

    assert b"found" == await read_patiently(stdout, silence_s=QUIET_S, served_bytes=served_bytes)


async def test_who_searches_for_ever_is_given_up() -> None:
    served = count()
    with pytest.raises(ChildSilent, match="what was read"):
        await read_patiently(
            asyncio.StreamReader(), silence_s=QUIET_S, served_bytes=lambda: next(served), longest_s=0.1
        )
