"""What an answer, or its absence, means for a delivery: delivered, again later, failed, or the endpoint is gone."""

from dataclasses import dataclass
from datetime import datetime

from notifier.domain.delivery import Answer, Claim, NoAnswer, State, Verdict
from notifier.domain.schedule import retry_after_s, retry_delay_s

GONE = 410
THROTTLING = frozenset({429, 502, 503, 504})
MAX_PAUSE_S = 60.0
MAX_REASON = 500


@dataclass(frozen=True, slots=True)
class _Fault:
    code: str
    reason: str
    hint_s: float | None = None
    throttling: bool = False


def judge(outcome: Answer | NoAnswer, *, claim: Claim, at: datetime, spread: float) -> Verdict:
    """Only 2xx is success; a redirect is a failure. `spread` in [0, 1] is the jitter of the next attempt."""
    if isinstance(outcome, NoAnswer):
        if outcome.permanent:
            return _ended(State.FAILED, outcome.code, outcome.reason)
        return _again_or_failed(_Fault(outcome.code, outcome.reason), claim=claim, spread=spread)
    if 200 <= outcome.status < 300:
        return Verdict(state=State.DELIVERED)
    if outcome.status == GONE:
        return _ended(State.DISABLED, "gone", "the endpoint answered 410 Gone", gone=True)
    return _again_or_failed(_fault_of(outcome, at=at), claim=claim, spread=spread)


def refuse(reason: str) -> Verdict:
    """The verdict on a delivery whose endpoint takes nothing: it ends without an attempt."""
    return _ended(State.DISABLED, "endpoint_disabled", reason)


def _fault_of(answer: Answer, *, at: datetime) -> _Fault:
    redirect = 300 <= answer.status < 400
    return _Fault(
        code="redirect_refused" if redirect else "bad_status",
        reason=f"the endpoint answered {answer.status}" + (", and redirects are refused" if redirect else ""),
        hint_s=retry_after_s(answer.retry_after, at=at),
        throttling=answer.status in THROTTLING,
    )


def _again_or_failed(fault: _Fault, *, claim: Claim, spread: float) -> Verdict:
    attempts = claim.attempts + 1
    if attempts >= claim.endpoint.max_attempts:
        return _ended(State.FAILED, fault.code, f"{fault.reason}; given up after {attempts} attempts")
    delay_s = retry_delay_s(attempts, spread=spread, hint_s=fault.hint_s)
    return Verdict(
        state=State.PENDING,
        code=fault.code,
        reason=fault.reason[:MAX_REASON],
        delay_s=delay_s,
        pause_s=min(delay_s, MAX_PAUSE_S) if fault.throttling else 0.0,
    )


def _ended(state: State, code: str, reason: str, *, gone: bool = False) -> Verdict:
    return Verdict(state=state, code=code, reason=reason[:MAX_REASON], gone=gone)
