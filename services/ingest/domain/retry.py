"""What to do about a segment that could not be fetched: again later, with fresh URLs, or not at all.

One table from failure to rule; the tracker keeps the state of each segment.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ingest.domain.actions import FailureKind, FetchFailure, LossCause
from ingest.domain.policy import TrackerPolicy

_DENIED: Final = frozenset({401, 403, 410})
_TRANSIENT: Final = frozenset({408, 425, 429})
_BROKEN_BODIES: Final = 8  # with the pauses between them longer than a live window of 10 s


@dataclass(frozen=True, kw_only=True)
class Attempts:
    """History of one segment: `deadline_s` is when it can no longer be had or the budget is spent."""

    count: int
    first_s: float
    deadline_s: float
    is_newest: bool
    has_fresh_url: bool
    target_s: float


@dataclass(frozen=True, kw_only=True)
class RetryAt:
    """Try again at `at_s`."""

    at_s: float


@dataclass(frozen=True, kw_only=True)
class AskMaster:
    """Ask the master playlist for fresh URLs; try again when they came, at `at_s` at the latest."""

    at_s: float


@dataclass(frozen=True, kw_only=True)
class GiveUp:
    """The segment is lost."""

    cause: LossCause


Verdict = RetryAt | AskMaster | GiveUp


def judge(failure: FetchFailure, *, attempts: Attempts, policy: TrackerPolicy, now_s: float) -> Verdict:
    """The rule for `failure`, given what was tried before."""
    return _RULES[loss_cause(failure)](loss_cause(failure), attempts, policy, now_s)


def loss_cause(failure: FetchFailure) -> LossCause:
    """What the failure is called if it costs the segment."""
    if failure.kind is not FailureKind.STATUS:
        return _CAUSES[failure.kind]
    if failure.status == 404:
        return LossCause.NOT_FOUND
    if failure.status in _DENIED:
        return LossCause.DENIED
    if failure.status in _TRANSIENT or failure.status >= 500:
        return LossCause.SERVER_ERROR
    return LossCause.REJECTED


def _while_it_lasts(cause: LossCause, attempts: Attempts, policy: TrackerPolicy, now_s: float) -> Verdict:
    """Back-off within the time that the segment can still be had; the last try is at its very end."""
    if now_s >= attempts.deadline_s:
        return GiveUp(cause=cause)
    pause_s = min(policy.retry_ceiling_s, policy.retry_first_s * 2.0 ** min(attempts.count - 1, 10))
    return RetryAt(at_s=min(now_s + pause_s, attempts.deadline_s))


def _not_found(cause: LossCause, attempts: Attempts, policy: TrackerPolicy, now_s: float) -> Verdict:
    """The newest segment may be listed before it has reached every edge; an older one is gone."""
    if attempts.is_newest:
        lag_end_s = min(attempts.first_s + policy.not_found_targets * attempts.target_s, attempts.deadline_s)
        if now_s < lag_end_s:
            pause_s = min(policy.retry_ceiling_s, policy.retry_first_s * 2.0 ** min(attempts.count - 1, 10))
            return RetryAt(at_s=min(now_s + pause_s, lag_end_s))
        return GiveUp(cause=cause)
    return _few_times(cause, attempts, policy, now_s)


def _few_times(cause: LossCause, attempts: Attempts, policy: TrackerPolicy, now_s: float) -> Verdict:
    if attempts.count >= policy.settled_attempts:
        return GiveUp(cause=cause)
    return RetryAt(at_s=now_s + policy.retry_first_s)


def _in_good_faith(cause: LossCause, attempts: Attempts, policy: TrackerPolicy, now_s: float) -> Verdict:
    """A broken body may be whole the next time, but whoever only ever sends garbage must not be asked for minutes."""
    if attempts.count >= _BROKEN_BODIES:
        return GiveUp(cause=cause)
    return _while_it_lasts(cause, attempts, policy, now_s)


def _denied(cause: LossCause, attempts: Attempts, policy: TrackerPolicy, now_s: float) -> Verdict:
    if attempts.has_fresh_url:
        return GiveUp(cause=cause)
    return AskMaster(at_s=now_s + policy.retry_ceiling_s)


def _at_once(cause: LossCause, attempts: Attempts, policy: TrackerPolicy, now_s: float) -> Verdict:
    return GiveUp(cause=cause)


_CAUSES: Final[dict[FailureKind, LossCause]] = {
    FailureKind.TIMEOUT: LossCause.TIMEOUT,
    FailureKind.NETWORK: LossCause.NETWORK,
    FailureKind.CORRUPT: LossCause.CORRUPT,
    FailureKind.NOT_A_PLAYLIST: LossCause.CORRUPT,
    FailureKind.REFUSED: LossCause.REFUSED_ADDRESS,
}
_RULES: Final[dict[LossCause, Callable[[LossCause, Attempts, TrackerPolicy, float], Verdict]]] = {
    LossCause.NOT_FOUND: _not_found,
    LossCause.DENIED: _denied,
    LossCause.SERVER_ERROR: _while_it_lasts,
    LossCause.TIMEOUT: _while_it_lasts,
    LossCause.NETWORK: _while_it_lasts,
    LossCause.CORRUPT: _in_good_faith,
    LossCause.REJECTED: _few_times,
    LossCause.REFUSED_ADDRESS: _at_once,
}
