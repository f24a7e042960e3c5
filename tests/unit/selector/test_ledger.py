"""Lines of the ledger."""

from selector.domain import ledger
from selector.domain.moment import merged
from selector.domain.rules import Finding
from shared.events import Decision
from tests.unit.selector.run_builder import moment

NEIGHBOUR = moment(20, score=0.97, title="b", confirmed=True)
TOO_NEAR = Finding(rule="spacing", words="10.0 s from the peak of “b”, less than 30.0 s", against=NEIGHBOUR)


def test_a_rejection_names_the_rule_and_the_highlight_that_it_stood_against() -> None:
    line = ledger.rejected(moment(10).anchor, TOO_NEAR, score=0.8)
    assert (line.decision, line.rule, line.against) == (
        Decision.REJECTED,
        "spacing",
        NEIGHBOUR.highlight_id,
    )


def test_an_override_is_recorded_with_what_it_overrode() -> None:
    line = ledger.accepted(moment(10, score=0.96), (TOO_NEAR,), threshold=0.7)
    assert (line.decision, line.rule, line.against) == (Decision.KEPT, "override", NEIGHBOUR.highlight_id)
    assert "10.0 s from the peak" in line.explanation


def test_a_merge_names_the_anchor_and_says_when_it_lifted_the_moment_over_a_rule() -> None:
    host, newcomer = moment(10, title="a"), moment(11, score=0.96)
    after = merged(host, newcomer)
    plain = ledger.merged(newcomer, host, after)
    lifted = ledger.merged(newcomer, host, after.model_copy(update={"override": True}))
    assert (plain.rule, plain.against, plain.score) == ("merged", host.anchor, 0.96)
    assert plain.explanation == "the same moment as “a”, 9.0–11.0 s"
    assert lifted.explanation.endswith("overrides spacing or window limit")


def test_a_replaced_moment_has_a_line_for_each_of_its_members() -> None:
    pair = merged(moment(10, score=0.8), moment(11, score=0.75))
    lines = ledger.replaced(pair, NEIGHBOUR, TOO_NEAR)
    assert [(line.candidate_id, line.ordinal, line.score) for line in lines] == [
        (moment(10).anchor, 1, 0.8),
        (moment(11).anchor, 1, 0.75),
    ]


def test_ordinals_count_the_anchors_lines() -> None:
    counted, first = ledger.published(moment(10))
    _, second = ledger.published(counted.model_copy(update={"revision": 1}))
    assert [(first.ordinal, first.rule), (second.ordinal, second.rule)] == [(1, "confirmed"), (2, "revised")]
