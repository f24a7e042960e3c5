"""Date ranges are read whole, and what 100ms puts into them is taken out."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.domain.ads import Ads
from ingest.domain.date_ranges import DateRange, client_text, parse_date_range, timed_metadata
from ingest.domain.markers import Markers
from ingest.domain.timeline import Break, PlacedSegment

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
START = 'START-DATE="2026-05-01T12:00:00.000+0000"'


def read(line: str) -> DateRange:
    found = parse_date_range(line)
    assert found is not None
    return found


def test_all_attributes_are_read() -> None:
    found = read(
        f'ID="x",CLASS="c",{START},END-DATE="2026-05-01T12:00:05Z",DURATION=4.5,PLANNED-DURATION=6,'
        'X-COM-EXAMPLE="a,b",X-N=7,SCTE35-OUT=0xFC,END-ON-NEXT=YES'
    )
    assert ("x", "c", NOON, NOON.replace(second=5)) == (
        found.id,
        found.class_name,
        found.start_at,
        found.end_at,
    )
    assert (4_500_000, 6_000_000, 5_000_000) == (found.duration_us, found.planned_us, found.length_us)
    assert (True, False, (("X-COM-EXAMPLE", "a,b"), ("X-N", "7"))) == (
        found.is_out,
        found.is_in,
        found.client,
    )


@pytest.mark.parametrize(
    "line", ["", 'ID="x"', START, f'ID="",{START}', f'ID="x",{START},X="{"y" * 20_000}"']
)
def test_without_id_or_start_it_is_none(line: str) -> None:
    assert parse_date_range(line) is None


def payload(document: Any) -> str:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return base64.b64encode(raw).decode()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (payload({"payload": "goal", "start_date": "s", "end_date": "e", "version": "v1.1"}), "goal"),
        (payload({"payload": {"score": 3}}), '{"score": 3}'),
        (payload({"other": 1}), payload({"other": 1})),
        (payload([1]), payload([1])),
        (payload(b"\xff\xfe"), payload(b"\xff\xfe")),
        ("plain words", "plain words"),
        (payload({"payload": "x" * 5000}), "x" * 2000),
    ],
)
def test_the_payload_is_decoded_else_taken_as_it_is(raw: str, expected: str) -> None:
    assert expected == timed_metadata(read(f'ID="x",{START},X-100MSLIVE-PAYLOAD="{raw}"'))


def test_deeply_nested_payloads_are_taken_as_they_are() -> None:
    raw = base64.b64encode(b"[" * 3000).decode()
    assert raw[:2000] == timed_metadata(read(f'ID="x",{START},X-100MSLIVE-PAYLOAD="{raw}"'))


def test_other_attributes_of_a_range_are_its_text() -> None:
    assert '{"CLASS":"poll","X-Q":"who?"}' == client_text(read(f'ID="x",CLASS="poll",{START},X-Q="who?"'))


def placed(start_s: int) -> PlacedSegment:
    return PlacedSegment(
        position=start_s // 2,
        start_us=start_s * 1_000_000,
        duration_us=2_000_000,
        wall_at=NOON.replace(second=start_s),
        break_before=Break.NONE,
    )


def line(name: str, second: int, text: str = "t") -> str:
    return f'ID="{name}",START-DATE="2026-05-01T12:00:{second:02}Z",X-100MSLIVE-PAYLOAD="{text}"'


def test_a_range_is_told_once_when_its_media_is_there() -> None:
    markers = Markers()
    told = []
    for second in (0, 2, 4, 6):
        markers.see((line("a", 3), line("b", 5)), ads=Ads())
        told.append([(signal.external_id, signal.at_us) for signal in markers.due(placed(second))])
    assert [[], [("a", 3_000_000)], [("b", 5_000_000)], []] == told


def test_a_range_that_grows_is_still_one() -> None:
    markers = Markers()
    markers.see((line("a", 1),), ads=Ads())
    markers.see((line("a", 1) + ",DURATION=9",), ads=Ads())
    assert 1 == len(markers.due(placed(0)))


def test_before_the_first_segment_there_is_no_media_time() -> None:
    markers = Markers()
    early = 'ID="a",START-DATE="2026-05-01T11:59:00Z",X-100MSLIVE-PAYLOAD="t"'
    markers.see((early,), ads=Ads())
    (signal,) = markers.due(placed(0))
    assert (None, NOON.replace(hour=11, minute=59)) == (signal.at_us, signal.wall_at)


def test_what_never_came_is_told_at_the_end() -> None:
    markers = Markers()
    markers.see((line("a", 30),), ads=Ads())
    assert () == markers.due(placed(0))
    (signal,) = markers.rest(wall_end_at=NOON.replace(second=2), end_us=2_000_000)
    assert 30_000_000 == signal.at_us


def test_advertising_is_no_signal() -> None:
    markers = Markers()
    advert = f'ID="a",CLASS="twitch-stitched-ad",{START},DURATION=2,X-TV-TWITCH-AD-URL="https://x/"'
    ads = markers.see((advert,), ads=Ads())
    assert ((), 1) == (markers.due(placed(0)), len(ads.ranges))


def test_what_waits_and_what_is_remembered_is_bounded() -> None:
    markers = Markers()
    for n in range(6000):
        markers.see((line(f"n{n}", 50),), ads=Ads())
    assert 4096 >= max(len(markers._told), len(markers._lines))
    assert 6000 - 512 == len(markers.due(placed(0)))


@given(st.text(max_size=200))
def test_no_line_raises(text: str) -> None:
    parse_date_range(text)
    found = parse_date_range(f'ID="x",{START},X-100MSLIVE-PAYLOAD="{text}"')
    assert found is None or timed_metadata(found) is None or isinstance(timed_metadata(found), str)


@pytest.mark.parametrize("payload", ["a\x00b\ud800", {"a\ud800": "b"}])
def test_nothing_that_cannot_be_stored_comes_out_of_a_range(payload: object) -> None:
    raw = base64.b64encode(json.dumps({"payload": payload}).encode()).decode()
    found = parse_date_range(
        f'ID="a\x00b",CLASS="c\x00d",START-DATE="2026-05-01T12:00:00Z",X-N="\x00e",X-100MSLIVE-PAYLOAD="{raw}"'
    )
    assert found is not None
    told = (found.id, found.class_name, timed_metadata(found) or "", client_text(found))
    assert ("ab", "cd") == told[:2]
    assert b"\x00" not in " ".join(told).encode()
