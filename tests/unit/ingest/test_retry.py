import pytest

from ingest.domain.actions import FailureKind, FetchFailure, LossCause
from ingest.domain.policy import TrackerPolicy
from ingest.domain.retry import AskMaster, Attempts, GiveUp, RetryAt, judge, loss_cause

POLICY = TrackerPolicy()
FIRST = Attempts(count=1, first_s=0, deadline_s=60, is_newest=False, has_fresh_url=False, target_s=2)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (404, LossCause.NOT_FOUND),
        (403, LossCause.DENIED),
        (410, LossCause.DENIED),
        (429, LossCause.SERVER_ERROR),
        (503, LossCause.SERVER_ERROR),
        (418, LossCause.REJECTED),
    ],
)
def test_each_status_has_its_cause(status: int, expected: LossCause) -> None:
    assert loss_cause(FetchFailure(kind=FailureKind.STATUS, status=status)) == expected


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if kind is not FailureKind.STATUS])
def test_each_kind_of_failure_has_a_rule(kind: FailureKind) -> None:
    verdict = judge(FetchFailure(kind=kind), attempts=FIRST, policy=POLICY, now_s=1)
    expected = GiveUp if kind is FailureKind.REFUSED else RetryAt
    assert isinstance(verdict, expected)


def test_back_off_doubles_up_to_its_ceiling_and_ends_at_the_deadline() -> None:
    failure = FetchFailure(kind=FailureKind.TIMEOUT)
    pauses = []
    for count in range(1, 8):
        attempts = Attempts(**{**vars(FIRST), "count": count})
        verdict = judge(failure, attempts=attempts, policy=POLICY, now_s=0)
        assert isinstance(verdict, RetryAt)
        pauses.append(verdict.at_s)
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 4.0, 4.0]
    assert judge(failure, attempts=FIRST, policy=POLICY, now_s=59.9) == RetryAt(at_s=60)
    assert judge(failure, attempts=FIRST, policy=POLICY, now_s=60) == GiveUp(cause=LossCause.TIMEOUT)


def test_broken_bodies_are_given_up_after_some_tries_though_time_is_left() -> None:
    failure = FetchFailure(kind=FailureKind.CORRUPT)
    seventh, eighth = (Attempts(**{**vars(FIRST), "count": count}) for count in (7, 8))
    assert isinstance(judge(failure, attempts=seventh, policy=POLICY, now_s=1), RetryAt)
    assert judge(failure, attempts=eighth, policy=POLICY, now_s=1) == GiveUp(cause=LossCause.CORRUPT)


def test_a_denial_asks_for_fresh_addresses_first() -> None:
    failure = FetchFailure(kind=FailureKind.STATUS, status=403)
    assert isinstance(judge(failure, attempts=FIRST, policy=POLICY, now_s=0), AskMaster)


def test_the_newest_is_waited_for_no_longer_than_it_can_be_had_whatever_target_is_stated() -> None:
    missing = FetchFailure(kind=FailureKind.STATUS, status=404)
    newest = Attempts(**{**vars(FIRST), "is_newest": True, "target_s": 3600})
    assert judge(missing, attempts=newest, policy=POLICY, now_s=59.9) == RetryAt(at_s=60)
    assert judge(missing, attempts=newest, policy=POLICY, now_s=60) == GiveUp(cause=LossCause.NOT_FOUND)
