"""The event that tells the gateway what ended."""

from datetime import UTC, datetime

from notifier.domain.delivery import Attempt, Result, State, Verdict
from notifier.domain.report import report_of
from tests.fakes.notifier.claims import claim

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
DELIVERED = Result(
    claim(attempts=2), Verdict(state=State.DELIVERED), Attempt(NOW, duration_ms=10, status=200, text="")
)
FAILED = Result(
    claim(delivery_id="whd_2"),
    Verdict(state=State.FAILED, code="address_blocked", reason="private"),
    Attempt(NOW, duration_ms=0, status=None, text=""),
)


def test_each_result_stands_in_it_with_its_attempts_and_reason() -> None:
    report = report_of([DELIVERED, FAILED], organization_id=claim().organization_id, at=NOW)
    lines = [(line.outcome, line.attempts, line.status, line.error) for line in report.results]
    assert lines == [("delivered", 3, 200, ""), ("failed", 1, None, "address_blocked: private")]


def test_its_id_follows_from_the_deliveries_whatever_their_order() -> None:
    one, other = (
        report_of(results, organization_id=claim().organization_id, at=NOW)
        for results in ([DELIVERED, FAILED], [FAILED, DELIVERED])
    )
    assert one.event_id == other.event_id
