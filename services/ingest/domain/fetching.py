"""One attempt at a segment: begun with its deadline, and judged when it failed.

What kind of failure deserves what is the table in `retry`; whether another variant is asked is in `variants`.
"""

from ingest.domain.actions import FetchFailure, FetchSegment, LossCause
from ingest.domain.policy import TrackerPolicy
from ingest.domain.queue import Progress, Slot
from ingest.domain.retry import Attempts, Verdict, judge, loss_cause


def begin_fetch(slot: Slot, *, policy: TrackerPolicy, now_s: float) -> FetchSegment:
    """The slot is being fetched from now on."""
    slot.attempts += 1
    if slot.attempts == 1:
        slot.first_try_s = now_s
    slot.progress = Progress.FETCHING
    return FetchSegment(
        epoch=slot.epoch, segment=slot.segment, attempt=slot.attempts, deadline_s=_deadline_s(slot, policy)
    )


def judge_attempt(
    slot: Slot, failure: FetchFailure, *, policy: TrackerPolicy, target_s: float, now_s: float
) -> Verdict:
    """What follows from this failure and those before it; the slot remembers what it would be called as a loss."""
    slot.cause = LossCause.SOURCE_GAP if slot.segment.gap else loss_cause(failure)
    attempts = Attempts(
        count=slot.attempts,
        first_s=slot.first_try_s,
        deadline_s=_deadline_s(slot, policy),
        is_newest=slot.is_newest,
        has_fresh_url=slot.asked_master,
        target_s=target_s,
    )
    return judge(failure, attempts=attempts, policy=policy, now_s=now_s)


def _deadline_s(slot: Slot, policy: TrackerPolicy) -> float:
    return min(slot.expires_s, slot.first_try_s + policy.segment_budget_s)
