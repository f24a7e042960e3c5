"""Ledger lines: what was decided on a candidate, by which rule, against what, in words with numbers."""

from selector.domain.moment import Member, Moment
from selector.domain.outputs import Judged
from selector.domain.rules import Finding
from shared.events import Decision
from shared.ids import CandidateId


def rejected(candidate_id: CandidateId, finding: Finding, *, score: float) -> Judged:
    """The first and last line of a candidate that a rule turned away."""
    return Judged(
        candidate_id=candidate_id,
        ordinal=0,
        decision=Decision.REJECTED,
        rule=finding.rule,
        score=score,
        bound=finding.bound,
        against=finding.against.highlight_id if finding.against else None,
        explanation=finding.words,
    )


def accepted(moment: Moment, overridden: tuple[Finding, ...], *, threshold: float) -> Judged:
    """The first line of an anchor: pending from now on. Where it stands by override, `against` what."""
    words = f"score {moment.score:.3f} reaches {threshold:.3f}; pending"
    if not overridden:
        return _anchor_line(moment, 0, rule="accepted", bound=threshold, words=words)
    reasons = "; ".join(finding.words for finding in overridden)
    return _anchor_line(
        moment,
        0,
        rule="override",
        bound=threshold,
        words=f"{words}, exceptional: overrides {reasons}",
        against=overridden[0].against,
    )


def merged(newcomer: Moment, host: Moment, after: Moment) -> Judged:
    """The line of a candidate that saw a moment which stands already. `after` is what the host became by it."""
    span = f"{host.start_us / 1e6:.1f}–{host.end_us / 1e6:.1f} s"
    lifted = "; exceptional: its new peak overrides spacing or window limit"
    return Judged(
        candidate_id=newcomer.anchor,
        ordinal=0,
        decision=Decision.MERGED,
        rule="merged",
        score=newcomer.score,
        against=host.anchor,
        highlight_id=host.highlight_id,
        explanation=f"the same moment as “{host.title}”, {span}{lifted if after.override > host.override else ''}",
    )


def replaced(leaving: Moment, winner: Moment, finding: Finding) -> tuple[Judged, ...]:
    """Lines for every member of a pending moment that gave way."""
    words = f"score {leaving.score:.3f} gives way to {winner.score:.3f} of “{winner.title}” by {finding.rule}"
    return tuple(
        Judged(
            candidate_id=member.candidate_id,
            ordinal=member.lines,
            decision=Decision.REJECTED,
            rule="replaced",
            score=member.score,
            bound=winner.score,
            against=winner.highlight_id,
            highlight_id=leaving.highlight_id,
            explanation=words,
        )
        for member in leaving.members
    )


def published(moment: Moment) -> tuple[Moment, Judged]:
    """The anchor's line on confirmation or revision, and the moment that counts it."""
    rule = "revised" if moment.revision else "confirmed"
    anchor = moment.members[0]
    line = _anchor_line(moment, anchor.lines, rule=rule, words=f"{rule} with score {moment.score:.3f}")
    counted = Member(candidate_id=anchor.candidate_id, score=anchor.score, lines=anchor.lines + 1)
    return moment.model_copy(update={"members": (counted, *moment.members[1:])}), line


def _anchor_line(
    moment: Moment,
    ordinal: int,
    *,
    rule: str,
    words: str,
    bound: float | None = None,
    against: Moment | None = None,
) -> Judged:
    return Judged(
        candidate_id=moment.anchor,
        ordinal=ordinal,
        decision=Decision.KEPT,
        rule=rule,
        score=moment.members[0].score,
        bound=bound,
        against=against.highlight_id if against else None,
        highlight_id=moment.highlight_id,
        explanation=words,
    )
