"""Bodies that end early though nothing says so: asked for again, and taken when there is no more of them."""

import pytest

from ingest.domain.actions import FailureKind
from ingest.domain.playlist import Location, Segment
from ingest.workflow.ports import FetchFailed
from ingest.workflow.source import HlsSource
from tests.fakes.ingest.http import FakeHttp
from tests.fakes.ingest.media import ts_segment

WHOLE = ts_segment(0, 2_000_000)
HALF = WHOLE[: len(WHOLE) // 2]


def segment(sequence: int) -> Segment:
    location = Location(url=f"https://cdn.example.com/{sequence}.ts")
    return Segment(sequence=sequence, location=location, duration_us=2_000_000)


def source(*bodies: bytes) -> HlsSource:
    """Each address answers with these bodies in turn, the last for ever."""
    http = FakeHttp()
    for sequence in range(8):
        left = list(bodies)
        http.pages[f"https://cdn.example.com/{sequence}.ts"] = lambda left=left: (
            left.pop(0) if len(left) > 1 else left[0]
        )
    return HlsSource(http, "https://cdn.example.com/x.m3u8", headers={}, target_height=720)


async def fetched(of: HlsSource, sequence: int) -> bytes:
    return (await of.segment(segment(sequence), epoch=0, left_s=10)).body


async def refused(of: HlsSource, sequence: int) -> bool:
    with pytest.raises(FetchFailed) as failed:
        await fetched(of, sequence)
    return failed.value.failure.kind is FailureKind.CORRUPT


async def test_half_a_body_is_not_taken_for_the_whole() -> None:
    cut = source(HALF, WHOLE)
    assert await refused(cut, 0)
    assert WHOLE == await fetched(cut, 0)


async def test_half_a_body_is_taken_when_the_source_has_no_more() -> None:
    cut = source(HALF)
    assert await refused(cut, 0)
    assert HALF == await fetched(cut, 0)


async def test_bodies_that_are_cut_off_differently_are_never_taken() -> None:
    cut = source(HALF, HALF[:-200], HALF[:-400])
    assert [True, True, True] == [await refused(cut, 0) for _ in range(3)]


async def test_a_source_whose_segments_are_all_like_that_is_not_asked_twice_for_ever() -> None:
    short = source(HALF)
    for sequence in range(3):
        assert await refused(short, sequence)
        await fetched(short, sequence)
    assert HALF == await fetched(short, 3)
