"""Even shares of the streams, and which recordings make room."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.domain.sharing import (
    Census,
    Group,
    HeldRecording,
    SharingPolicy,
    recordings_to_yield,
    surplus,
)
from shared.events import Lane
from shared.ids import OrganizationId, StreamId

POLICY = SharingPolicy(at_once=4, tolerance=16, least_s=5, patience_s=30)


def census(live: dict[str, int], *, free: int = 0, capacity: int = 500) -> Census:
    groups = [group(Lane.LIVE, "org", owner, count) for owner, count in live.items()]
    return Census(
        capacities={owner: {Lane.LIVE: capacity, Lane.VOD: capacity} for owner in live},
        groups=(*groups, group(Lane.LIVE, "org", None, free)),
    )


def group(
    lane: Lane, organization: str, owner: str | None, count: int, *, is_free: bool | None = None
) -> Group:
    return Group(
        lane=lane,
        organization_id=OrganizationId(organization),
        owner=owner,
        is_free=owner is None if is_free is None else is_free,
        count=count,
    )


def recordings(organization: str, count: int, **changes: float | None) -> list[HeldRecording]:
    return [
        HeldRecording(
            stream_id=StreamId(f"{organization}-{n}"),
            organization_id=OrganizationId(organization),
            held_s=changes.get("held_s") or 60.0 + n,
            waits_s=changes.get("waits_s"),
        )
        for n in range(count)
    ]


def vod(held: dict[str, int], free: dict[str, int], *, resting: int = 0, capacity: int = 8) -> Census:
    groups = [group(Lane.VOD, name, "a", count) for name, count in held.items()]
    groups += [group(Lane.VOD, name, None, count) for name, count in free.items()]
    groups.append(group(Lane.VOD, "org", None, resting, is_free=False))
    return Census(capacities={"a": {Lane.LIVE: 1, Lane.VOD: capacity}}, groups=tuple(groups))


@pytest.mark.parametrize(
    ("held", "free", "expected"),
    [
        ({"a": 20, "b": 0}, 0, 4),
        ({"a": 12, "b": 8}, 0, 2),
        ({"a": 11, "b": 9}, 0, 0),
        ({"a": 11, "b": 10}, 0, 0),
        ({"a": 106, "b": 94}, 0, 0),
        ({"a": 107, "b": 93}, 0, 4),
        ({"a": 20, "b": 0}, 20, 0),
        ({"a": 20}, 0, 0),
        ({"a": 12, "b": 0, "c": 12}, 0, 4),
    ],
)
def test_a_replica_hands_over_what_the_others_have_room_for(
    held: dict[str, int], free: int, expected: int
) -> None:
    assert expected == surplus(census(held, free=free), owner="a", lane=Lane.LIVE, policy=POLICY)


def test_nothing_is_handed_over_to_a_replica_that_is_full_or_leaves() -> None:
    full = Census(
        capacities={
            "a": {Lane.LIVE: 50, Lane.VOD: 0},
            "b": {Lane.LIVE: 2, Lane.VOD: 0},
            "c": {}.fromkeys(Lane, 0),
        },
        groups=(group(Lane.LIVE, "org", "a", 20), group(Lane.LIVE, "org", "b", 2)),
    )
    assert 0 == surplus(full, owner="a", lane=Lane.LIVE, policy=POLICY)


@given(st.lists(st.integers(0, 400), min_size=2, max_size=6))
def test_handing_over_comes_to_an_end_with_even_shares(counts: list[int]) -> None:
    held = {f"r{n}": count for n, count in enumerate(counts)}
    for _ in range(1000):
        moves = {name: surplus(census(held), owner=name, lane=Lane.LIVE, policy=POLICY) for name in held}
        if not any(moves.values()):
            break
        for name, count in moves.items():
            held[name] -= count
        for _ in range(sum(moves.values())):
            held[min(held, key=lambda name: held[name])] += 1
    share = -(-sum(counts) // len(counts))
    assert max(held.values()) <= share + max(1, share // POLICY.tolerance)


def test_a_thousand_recordings_make_room_for_the_one_of_another_organization() -> None:
    held = recordings("rich", 8)
    chosen = recordings_to_yield(vod({"rich": 8}, {"rich": 992, "poor": 1}), held=held, policy=POLICY)
    assert ("rich-7",) == chosen


def test_organizations_that_wait_get_as_many_places_as_those_that_are_served() -> None:
    held = recordings("rich", 8)
    policy = SharingPolicy(at_once=100)
    chosen = recordings_to_yield(vod({"rich": 8}, {"poor": 10}), held=held, policy=policy)
    assert 4 == len(chosen)
    assert () == recordings_to_yield(vod({"rich": 4, "poor": 4}, {"poor": 6}), held=held[:4], policy=policy)


def test_recordings_that_wait_for_their_analysis_make_room_first() -> None:
    held = [*recordings("rich", 7), *recordings("rich", 1, waits_s=1.0)]
    chosen = recordings_to_yield(vod({"rich": 8}, {"poor": 1}), held=held, policy=POLICY)
    assert ("rich-0",) == chosen


def test_a_recording_is_followed_for_a_while_before_it_makes_room() -> None:
    held = recordings("rich", 8, held_s=4.0)
    assert () == recordings_to_yield(vod({"rich": 8}, {"poor": 1}), held=held, policy=POLICY)


def test_single_recordings_of_many_organizations_do_not_chase_one_another() -> None:
    held = [each for n in range(8) for each in recordings(f"org{n}", 1)]
    counted = vod({f"org{n}": 1 for n in range(8)}, {"other": 5})
    assert () == recordings_to_yield(counted, held=held, policy=POLICY)


@pytest.mark.parametrize(
    ("waits_s", "free", "resting", "expected"),
    [(31.0, 3, 0, 3), (29.0, 3, 0, 0), (31.0, 0, 0, 0), (31.0, 3, 8, 0), (31.0, 9, 6, 2)],
)
def test_recordings_whose_analysis_stands_still_make_room_as_long_as_few_rest(
    waits_s: float, free: int, resting: int, expected: int
) -> None:
    held = recordings("org", 8, waits_s=waits_s)
    counted = vod({"org": 8}, {"org": free}, resting=resting)
    assert expected == len(recordings_to_yield(counted, held=held, policy=POLICY))
