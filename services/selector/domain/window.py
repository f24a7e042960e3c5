"""Sealing: a window is judged only when all that belongs to it is in, or its deadline has passed."""

from selector.domain.inputs import (
    CandidateArrived,
    VerdictArrived,
    WindowExpired,
    WindowInput,
    WindowLost,
    WindowOffered,
)
from shared.events import Part, Verdict


class OpenWindow(Part):
    """What has arrived of one window so far. The first of several equal arrivals counts."""

    index: int
    offered: WindowOffered | None = None
    verdict: VerdictArrived | None = None
    candidates: tuple[CandidateArrived, ...] = ()
    expiry_reason: str | None = None
    loss_reason: str | None = None

    @property
    def named_candidates(self) -> tuple[CandidateArrived, ...]:
        """The arrived candidates that the verdict names; all of them while there is no verdict."""
        if self.verdict is None:
            return self.candidates
        named = set(self.verdict.candidates)
        return tuple(candidate for candidate in self.candidates if candidate.candidate_id in named)

    @property
    def complete(self) -> bool:
        """Whether offer, verdict and every candidate that the verdict names are in."""
        if self.offered is None or self.verdict is None:
            return False
        return len(self.named_candidates) == len(set(self.verdict.candidates))

    @property
    def sealed(self) -> bool:
        expired = self.expiry_reason is not None and self.offered is not None
        return self.complete or expired or self.loss_reason is not None

    @property
    def outcome(self) -> tuple[Verdict, str]:
        """The verdict that counts, with its reason. An incomplete window has failed by its deadline."""
        if self.complete and self.verdict is not None:
            return self.verdict.verdict, self.verdict.reason
        return Verdict.FAILED, self.expiry_reason or self.loss_reason or ""

    @property
    def strays(self) -> tuple[CandidateArrived, ...]:
        """Candidates that the verdict does not name: they belong to an attempt that was given up."""
        named = {candidate.candidate_id for candidate in self.named_candidates}
        return tuple(candidate for candidate in self.candidates if candidate.candidate_id not in named)


def add(window: OpenWindow, given: WindowInput) -> OpenWindow:
    """The window with one more arrival; duplicates leave it as it is."""
    match given:
        case WindowOffered():
            return window.model_copy(update={"offered": window.offered or given})
        case VerdictArrived():
            return window.model_copy(update={"verdict": window.verdict or given})
        case WindowExpired():
            return window.model_copy(update={"expiry_reason": window.expiry_reason or given.reason})
        case WindowLost():
            return window.model_copy(update={"loss_reason": window.loss_reason or given.reason})
        case CandidateArrived():
            return _add_candidate(window, given)
    return window


def _add_candidate(window: OpenWindow, given: CandidateArrived) -> OpenWindow:
    if any(candidate.candidate_id == given.candidate_id for candidate in window.candidates):
        return window
    return window.model_copy(update={"candidates": (*window.candidates, given)})


def add_to(windows: tuple[OpenWindow, ...], given: WindowInput) -> tuple[OpenWindow, ...]:
    """The open windows, by index, after one arrival."""
    held = next((window for window in windows if window.index == given.index), OpenWindow(index=given.index))
    others = (window for window in windows if window.index != given.index)
    return tuple(sorted((*others, add(held, given)), key=lambda window: window.index))
