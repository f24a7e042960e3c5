"""How an endpoint fares over all of its deliveries: when its breaker opens, and when it is turned off."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from notifier.domain.delivery import Result, State

BREAKER_FAILURES = 10
PROBE_PAUSE_S = 60.0
DISABLE_FAILURES = 20
DISABLE_AFTER = timedelta(days=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """`failures` in a row since `failing_since`; nothing is sent for `pause_s`; `refusal`: turned off, and why."""

    failures: int = 0
    failing_since: datetime | None = None
    pause_s: float = 0.0
    refusal: str | None = None


def health_after(health: Health, *, results: Iterable[Result]) -> Health:
    """Fold what the endpoint's attempts brought, in order of time; what was not tried says nothing."""
    tried = [(result.attempt.at, result) for result in results if result.attempt is not None]
    for at, result in sorted(tried, key=lambda pair: pair[0]):
        health = _after(health, result=result, at=at)
    return health


def _after(health: Health, *, result: Result, at: datetime) -> Health:
    if health.refusal is not None:
        return health
    if result.verdict.state is State.DELIVERED:
        return Health()
    since = health.failing_since or at
    failures = health.failures + 1
    return Health(
        failures=failures,
        failing_since=since,
        pause_s=max(result.verdict.pause_s, PROBE_PAUSE_S if failures >= BREAKER_FAILURES else 0.0),
        refusal=_refusal(result, failures=failures, failing_for=at - since),
    )


def _refusal(result: Result, *, failures: int, failing_for: timedelta) -> str | None:
    if result.verdict.gone:
        return result.verdict.reason
    if failures >= DISABLE_FAILURES and failing_for >= DISABLE_AFTER:
        return f"{failures} attempts in a row have failed over {failing_for.days} days"
    return None
