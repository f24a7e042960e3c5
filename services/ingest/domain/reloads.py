"""What a reload means once doubt is weighed: news, nothing new, a copy to ignore, or a source that began anew.

`history` compares one playlist with what is known; here it is remembered what several of them in a row suggest.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from ingest.domain.history import Known, OlderCopy, Relation, older_copy, relate
from ingest.domain.playlist import MediaPlaylist
from ingest.domain.policy import TrackerPolicy

_NO_SEQUENCE: Final = 2**63  # above all that a playlist can state


@dataclass(frozen=True, kw_only=True)
class Reload:
    """One playlist with the time and wall clock at which it came."""

    playlist: MediaPlaylist
    now_s: float
    wall_at: datetime | None


class Meaning(StrEnum):
    """What is to be done about a reload; what is DOUBTFUL is left alone until the next."""

    EMPTY = "empty"
    NEWER = "newer"
    UNCHANGED = "unchanged"
    DOUBTFUL = "doubtful"
    RESET = "reset"


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """What reloads since the last sure one suggest: a reset (`suspicions` of it), or an older copy."""

    suspicions: int = 0
    suspect_newest: int = _NO_SEQUENCE
    older_copy: OlderCopy | None = None

    @property
    def is_calm(self) -> bool:
        """Whether the last reload was sure."""
        return not self.suspicions and self.older_copy is None


CALM: Final = Doubt()


@dataclass(frozen=True, kw_only=True)
class _Case:
    reload: Reload
    known: Known
    doubt: Doubt
    policy: TrackerPolicy
    target_wall_s: float


_Weighed = tuple[Meaning, Doubt]


def weigh(
    reload: Reload, *, known: Known, doubt: Doubt, policy: TrackerPolicy, target_wall_s: float
) -> _Weighed:
    """The meaning of `reload`, and the doubt that remains; `target_wall_s` is in what time a segment comes."""
    relation = relate(reload.playlist, known=known, longest_gap_s=policy.longest_gap_s)
    case = _Case(reload=reload, known=known, doubt=doubt, policy=policy, target_wall_s=target_wall_s)
    return _WEIGHED[relation](case)


def _empty(case: _Case) -> _Weighed:
    return Meaning.EMPTY, case.doubt


def _newer(_: _Case) -> _Weighed:
    return Meaning.NEWER, CALM


def _unchanged(_: _Case) -> _Weighed:
    return Meaning.UNCHANGED, CALM


def _stale(case: _Case) -> _Weighed:
    """An older copy is ignored, unless it turns out to be a restart under the old names."""
    playlist, now_s = case.reload.playlist, case.reload.now_s
    first = case.doubt.older_copy or older_copy(playlist, known=case.known, now_s=now_s)
    copy = first.seen_again(playlist)
    is_restart = copy.is_restart(
        now_s=now_s, target_s=case.target_wall_s, least_targets=case.policy.stale_targets
    )
    doubt = replace(case.doubt, older_copy=copy)
    return (Meaning.RESET if is_restart else Meaning.DOUBTFUL), doubt


def _unknown(case: _Case) -> _Weighed:
    """Beyond memory an edge and a reset look alike until the reset moves on, or is over.

    An edge that moves on is mostly near enough by then to be told by what it lists; one that is not passes
    for a reset. A reset that never moves on is left alone.
    """
    newest = case.reload.playlist.last_sequence
    if newest > case.doubt.suspect_newest or case.reload.playlist.ended:
        return _suspect(case)
    suspicions = max(case.doubt.suspicions, 1)
    return Meaning.DOUBTFUL, replace(case.doubt, suspicions=suspicions, suspect_newest=newest)


def _suspect(case: _Case) -> _Weighed:
    suspicions = case.doubt.suspicions + 1
    newest = min(case.doubt.suspect_newest, case.reload.playlist.last_sequence)
    doubt = replace(case.doubt, suspicions=suspicions, suspect_newest=newest)
    return (Meaning.RESET if suspicions >= case.policy.reset_reloads else Meaning.DOUBTFUL), doubt


def _reset(case: _Case) -> _Weighed:
    return Meaning.RESET, replace(case.doubt, suspicions=case.policy.reset_reloads)


_WEIGHED: Final[dict[Relation, Callable[[_Case], _Weighed]]] = {
    Relation.EMPTY: _empty,
    Relation.NEWER: _newer,
    Relation.UNCHANGED: _unchanged,
    Relation.STALE: _stale,
    Relation.UNKNOWN: _unknown,
    Relation.SUSPECT: _suspect,
    Relation.RESET: _reset,
}
