"""The checker sees what it is there for: each rule fails once on a planted violation."""

from dataclasses import replace
from typing import Any

import pytest

from sandbox.faults_checker import Archived, Judgement, Kept, Missed, judge
from sandbox.faults_offer import Offer


def offer(ordinal: int, **changes: Any) -> Offer:
    fields: dict[str, Any] = {
        "stream": "s",
        "ordinal": ordinal,
        "epoch": 0,
        "sequence": ordinal,
        "uri": f"{ordinal}.ts",
        "start_us": ordinal * 2_000_000,
        "duration_us": 2_000_000,
        "sha256": f"sha-{ordinal}",
        "presence": "there",
        "listed_from_s": 0.0,
        "listed_to_s": 10.0,
        "offered_s": 10.0,
        "fetchable_s": 20.0,
        "named_s": 10.0,
    }
    return Offer(**(fields | changes))


def row(ordinal: int, **changes: Any) -> Archived:
    fields: dict[str, Any] = {
        "stream": "s",
        "epoch": 0,
        "sequence": ordinal,
        "position": ordinal,
        "sha256": f"sha-{ordinal}",
        "duration_us": 2_000_000,
    }
    return Archived(**(fields | changes))


def missed(first: int, last: int, cause: str, **changes: Any) -> Missed:
    fields: dict[str, Any] = {
        "stream": "s",
        "epoch": 0,
        "from_sequence": first,
        "to_sequence": last,
        "duration_us": (last - first + 1) * 2_000_000,
        "cause": cause,
    }
    return Missed(**(fields | changes))


OFFERS = tuple(offer(n) for n in range(200))
ROWS = tuple(row(n) for n in range(200))
WHOLE = Kept(archived=ROWS, endings=(("s", "endlist"),), event_ids=("a", "b"))
STRUCK = (*OFFERS[:5], offer(5, offered_s=3.0, faults=("status 404",)), *OFFERS[6:])
WITHOUT_5 = tuple(each for each in ROWS if each.sequence != 5)


def judged(offers: tuple[Offer, ...] = OFFERS, kept: Kept = WHOLE, **changes: Any) -> Judgement:
    return judge(offers, replace(kept, **changes))


def test_what_is_whole_is_right() -> None:
    judgement = judged()
    assert () == judgement.violations
    assert (400.0, 400.0, 0.0) == (judgement.offered_s, judgement.archived_s, judgement.lost_s)


def test_a_loss_that_is_told_with_its_true_cause_is_right() -> None:
    judgement = judged(STRUCK, archived=WITHOUT_5, missed=(missed(5, 5, "not_found"),))
    assert () == judgement.violations
    assert (2.0, 0.0, {"not_found": 1}) == (
        judgement.lost_s,
        judgement.lost_though_offered_s,
        judgement.causes,
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"archived": WITHOUT_5, "missed": (missed(5, 5, "not_found"),)},
            "was offered for 10.0 s and is not archived",
        ),
        ({"archived": WITHOUT_5}, "segment 5 (0/5) is neither archived nor reported"),
        ({"archived": (*ROWS, row(5, position=200, epoch=1))}, "segment 5 is archived 2 times"),
        ({"archived": (*ROWS, row(7, position=200, sha256="other"))}, "bytes that were never offered"),
        ({"archived": (row(0, is_sound=False), *ROWS[1:])}, "0/0 has no object with its hash"),
        ({"archived": (row(1, position=0), row(0, position=1), *ROWS[2:])}, "segment 0 stands behind 1"),
        ({"missed": (missed(5, 5, "not_found"),)}, "gap 0/5-5 is archived"),
        ({"endings": ()}, "s: ended 0 times"),
        ({"endings": (("s", "endlist"), ("s", "stopped"))}, "s: ended 2 times"),
        ({"event_ids": ("a", "b", "a")}, "event a exists 2 times"),
        ({"spooled": ("x.body",)}, "spool: x.body was left behind"),
    ],
)
def test_a_planted_violation_is_told(changes: dict[str, Any], told: str) -> None:
    assert any(told in violation for violation in judged(**changes).violations)


def test_a_wrong_cause_is_told() -> None:
    (violation,) = judged(STRUCK, archived=WITHOUT_5, missed=(missed(5, 5, "timeout"),)).violations
    assert "reported as timeout; true would be not_found" in violation


def test_a_window_may_pass_while_the_follower_is_killed() -> None:
    kept = replace(WHOLE, archived=WITHOUT_5, missed=(missed(5, 5, "window_overrun"),))
    assert judge(STRUCK, kept).violations
    assert () == judge(STRUCK, kept, is_disturbed=True).violations


def test_what_no_playlist_named_is_due_only_where_later_numbers_show_it() -> None:
    unknown = {"named_s": 0.0, "offered_s": 0.0, "faults": ("playlist freeze",)}
    hidden = (*OFFERS[:199], offer(199, **unknown))
    hole = (*OFFERS[:198], offer(198, **unknown), offer(199))
    assert () == judged(hidden, archived=ROWS[:199]).violations
    without = (*ROWS[:198], row(199, position=198))
    (violation,) = judged(hole, archived=without).violations
    assert "segment 198 (0/198) is neither archived nor reported" in violation
    assert () == judged(hole, archived=without, missed=(missed(198, 198, "window_overrun"),)).violations


def test_a_gap_of_the_source_must_be_told() -> None:
    offers = (offer(0), offer(1, presence="gap", sha256="", offered_s=0.0, faults=("gap",)), offer(2))
    rows = (row(0), row(2, position=1))
    (violation,) = judged(offers, archived=rows).violations
    assert "segment 1 (0/1) is neither archived nor reported" in violation


def test_too_many_gaps_are_told() -> None:
    offers = tuple(replace(each, offered_s=1.0, faults=("status 404",)) for each in OFFERS)
    kept = replace(WHOLE, archived=ROWS[:190], missed=(missed(190, 199, "not_found"),))
    (violation,) = judge(offers, kept).violations
    assert "gaps: 20.0 s of 400.0 s are more than 2%" in violation


def test_epochs_are_matched_by_the_bytes() -> None:
    """The source renumbered where the follower did not see an epoch."""
    offers = (offer(0), offer(1, epoch=1), offer(2, epoch=1, offered_s=1.0, faults=("gap",)))
    kept = replace(WHOLE, archived=(row(0), row(1)), missed=(missed(2, 2, "source_gap"),))
    assert () == judge(offers, kept, most_gaps=1.0).violations
