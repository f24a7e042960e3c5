"""The same media under numbers that jump ahead: no hole is made up, and nothing is taken twice."""

import pytest

from ingest.domain.history import Known, Relation, relate
from ingest.domain.playlist import MediaPlaylist, parse_playlist


def listed(
    first: int, names: range, *, path: str = "{}.ts", target_s: float = 2.0, length_s: float = 2.0
) -> MediaPlaylist:
    lines = ["#EXTM3U", f"#EXT-X-TARGETDURATION:{target_s}", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
    for name in names:
        lines += [f"#EXTINF:{length_s},", path.format(name)]
    parsed = parse_playlist("\n".join(lines), url="https://cdn.example.com/x.m3u8")
    assert isinstance(parsed, MediaPlaylist)
    return parsed


def relation(after: MediaPlaylist, before: MediaPlaylist) -> Relation:
    known = Known(newest=before.media_sequence - 1).learn(before)
    return relate(after, known=known, longest_gap_s=43_200)


@pytest.mark.parametrize("by", [6, 20, 1000])
def test_known_files_under_numbers_far_ahead_are_a_suspicion(by: int) -> None:
    assert Relation.SUSPECT is relation(listed(6 + by, range(6, 11)), listed(5, range(5, 10)))


def test_other_files_under_numbers_far_ahead_are_a_hole() -> None:
    assert Relation.NEWER is relation(listed(1005, range(1005, 1010)), listed(5, range(5, 10)))


def test_files_that_are_told_apart_by_the_query_alone_say_nothing() -> None:
    before, after = (
        listed(5, range(5, 10), path="live.ts?n={}"),
        listed(20, range(20, 25), path="live.ts?n={}"),
    )
    assert Relation.NEWER is relation(after, before)


def test_how_far_a_leap_is_follows_from_what_is_listed_where_the_target_is_tiny() -> None:
    after = listed(30_000_000, range(1005, 1010), target_s=0.001, length_s=86_400.0)
    assert Relation.SUSPECT is relation(after, listed(5, range(5, 10)))
