"""What a scripted stream offered, segment by segment: when it could really be had, and what stood in the way.

Pure, and told before the stream begins. A separate program judges by it what a follower kept
(`sandbox.faults_checker`).
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import inf, isfinite
from pathlib import Path
from typing import Any

from sandbox.faults import AnswerFault, Freeze, PlaylistFault, Redirect, Stale, Status, WindowJump
from sandbox.faults_playlist import shown_at_s
from sandbox.faults_timeline import Cast, Timeline
from sandbox.scenario import Script


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One segment. `offered_s` is the longest time without a break in which a right playlist named it and its
    right bytes were served, so that somebody who came then could have it; `sha256` is of those bytes in the clear.

    `fetchable_s` is how long the bytes alone were served, for those who knew of them, and `named_s` how long right
    playlists named it, whether or not its bytes could be had. `faults` names what struck it or
    its playlists, as `status 404`.
    """

    stream: str
    ordinal: int
    epoch: int
    sequence: int
    uri: str
    start_us: int
    duration_us: int
    sha256: str
    presence: str
    listed_from_s: float
    listed_to_s: float
    offered_s: float
    fetchable_s: float
    named_s: float
    faults: tuple[str, ...] = ()


def label(fault: AnswerFault | PlaylistFault | WindowJump) -> str:
    """Short name of a fault, with its status where it is one."""
    return f"status {fault.code}" if isinstance(fault, Status) else str(getattr(fault, "fault", ""))


def offers(
    timeline: Timeline, script: Script, *, digests: Mapping[int, str], stream: str = "live"
) -> tuple[Offer, ...]:
    """All segments of the stream, by the best variant."""
    pieces = _Pieces(timeline, script)
    return tuple(
        Offer(
            stream=stream,
            ordinal=cast.ordinal,
            epoch=cast.epoch,
            sequence=cast.sequence,
            uri=cast.uri,
            start_us=cast.start_us,
            duration_us=cast.duration_us,
            sha256=digests.get(cast.ordinal, ""),
            presence=cast.presence,
            listed_from_s=cast.complete_s,
            listed_to_s=cast.left_s,
            offered_s=pieces.offered_s(cast),
            fetchable_s=pieces.fetchable_s(cast),
            named_s=pieces.named_s(cast),
            faults=pieces.faults(cast),
        )
        for cast in timeline.casts
    )


class _Pieces:
    """The time of the stream cut at every change, so that within a piece all stays as it is."""

    def __init__(self, timeline: Timeline, script: Script) -> None:
        self._timeline = timeline
        self._answers = [
            (fault, timeline.span_s(fault)) for fault in script.faults if isinstance(fault, AnswerFault)
        ]
        self._playlists = [
            (fault, timeline.span_s(fault)) for fault in script.faults if isinstance(fault, PlaylistFault)
        ]
        self._offered: dict[int, list[tuple[float, float]]] = {}
        self._named: dict[int, list[tuple[float, float]]] = {}
        self._had: dict[int, list[tuple[float, float]]] = {}
        for from_s, to_s in pairwise(self._cuts()):
            self._add(from_s, to_s)

    def offered_s(self, cast: Cast) -> float:
        return _longest_s(self._offered.get(cast.ordinal, ()))

    def named_s(self, cast: Cast) -> float:
        return _longest_s(self._named.get(cast.ordinal, ()))

    def fetchable_s(self, cast: Cast) -> float:
        return _longest_s(self._had.get(cast.ordinal, ()))

    def faults(self, cast: Cast) -> tuple[str, ...]:
        """What struck it while it was there: itself, or the playlists that should have named it."""
        found = {label(f) for f, _ in self._answers if _is_media(f) and self._hits(f, cast, None)}
        for fault, (from_s, to_s) in (*self._answers, *self._playlists):
            if not _is_media(fault) and from_s < cast.left_s and to_s > cast.complete_s:
                found.add(f"{fault.target} {label(fault)}")
        found |= {"gap"} if cast.presence == "gap" else set()
        found |= {"window_jump"} if cast.presence == "unlisted" else set()
        return tuple(sorted(found))

    def _cuts(self) -> list[float]:
        edges = [edge for _, span in (*self._answers, *self._playlists) for edge in span]
        casts = self._timeline.casts
        edges += [edge for cast in casts for edge in (cast.complete_s, cast.left_s, cast.gone_s)]
        return [*sorted({edge for edge in edges if isfinite(edge)}), inf]

    def _add(self, from_s: float, to_s: float) -> None:
        middle_s = from_s + 1e-6 if to_s == inf else (from_s + to_s) / 2
        named = self._named_at(middle_s)
        for ordinal in named:
            _extend(self._named.setdefault(ordinal, []), from_s, to_s)
        for cast in self._timeline.casts:
            if cast.presence != "there" or not cast.complete_s <= middle_s < cast.gone_s:
                continue
            if any(self._hits(fault, cast, middle_s) for fault, _ in self._answers if _is_media(fault)):
                continue
            _extend(self._had.setdefault(cast.ordinal, []), from_s, to_s)
            if cast.ordinal in named:
                _extend(self._offered.setdefault(cast.ordinal, []), from_s, to_s)

    def _named_at(self, at_s: float) -> set[int]:
        """What the playlists of this moment name, all of them: a copy that is sometimes stale counts as it is."""
        for fault, (from_s, to_s) in self._answers:
            if fault.target in ("playlist", "master") and not _is_harmless(fault) and from_s <= at_s < to_s:
                return set()
        active = [fault for fault, (from_s, to_s) in self._playlists if from_s <= at_s < to_s]
        if any(not isinstance(fault, Freeze | Stale) for fault in active):
            return set()
        older_s = shown_at_s(self._timeline, active, now_s=at_s)
        now = {cast.ordinal for cast in self._timeline.listed(at_s)}
        return now & {cast.ordinal for cast in self._timeline.listed(older_s)}

    def _hits(self, fault: AnswerFault, cast: Cast, at_s: float | None) -> bool:
        """Whether the bytes of this segment cannot be had; without a moment: at any time of its life."""
        if _is_harmless(fault):
            return False
        if fault.from_segment is not None and fault.target in ("segment", "audio"):
            to = inf if fault.count is None else fault.from_segment + fault.count
            return fault.from_segment <= cast.ordinal < to
        from_s, to_s = self._timeline.span_s(fault)
        if at_s is None:
            return from_s < cast.gone_s and to_s > cast.complete_s
        return from_s <= at_s < to_s


def _is_media(fault: AnswerFault | PlaylistFault) -> bool:
    return isinstance(fault, AnswerFault) and fault.target in ("segment", "key", "init")


def _is_harmless(fault: AnswerFault) -> bool:
    """One refusal per address, or one redirect, costs nobody the segment who tries again."""
    is_plain = isinstance(fault, Redirect) and not fault.loop and not fault.to
    return fault.tries == 1 or is_plain or bool(fault.variant)


def _extend(stretches: list[tuple[float, float]], from_s: float, to_s: float) -> None:
    if stretches and stretches[-1][1] == from_s:
        stretches[-1] = (stretches[-1][0], to_s)
    else:
        stretches.append((from_s, to_s))


def _longest_s(stretches: Sequence[tuple[float, float]]) -> float:
    return max((to_s - from_s for from_s, to_s in stretches), default=0.0)


def write_offers(path: Path, found: Iterable[Offer]) -> None:
    """One JSON object per line; what never ends is null."""
    with path.open("w") as file:
        for offer in found:
            plain = {k: None if v == inf else v for k, v in asdict(offer).items()}
            file.write(json.dumps(plain) + "\n")


def read_offers(path: Path) -> tuple[Offer, ...]:
    """Inverse of `write_offers`."""
    rows: Iterator[dict[str, Any]] = (json.loads(line) for line in path.read_text().splitlines())
    return tuple(Offer(**{name: _read(value) for name, value in row.items()}) for row in rows)


def _read(value: Any) -> Any:
    if value is None:
        return inf
    return tuple(value) if isinstance(value, list) else value
