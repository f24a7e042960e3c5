"""The tags with which packagers mark a break for advertising in a playlist (CUE-OUT and its kin), one by one.

What they add up to over many segments is decided in `ads`.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Final

from ingest.domain.scte35 import read_splice

_MICROSECONDS: Final = 1_000_000
_LONGEST_BREAK_S: Final = 86_400.0
_NUMBER: Final = r"(\d+(?:\.\d+)?)"
_DURATION: Final = re.compile(rf'\bduration="?{_NUMBER}', re.IGNORECASE)
_ELAPSED: Final = re.compile(rf'\belapsed(?:time)?="?{_NUMBER}', re.IGNORECASE)
_LEADING: Final = re.compile(rf"\s*{_NUMBER}(?:\s*/\s*{_NUMBER})?")


class CueKind(StrEnum):
    """Where in a break a tag stands."""

    OUT = "out"
    CONTINUED = "continued"
    IN = "in"


@dataclass(frozen=True, kw_only=True)
class Cue:
    """One tag before a segment. Lengths of 0 are unknown; `left_us` is None where the tag does not tell it."""

    kind: CueKind
    left_us: int | None = None


def read_cue_out(value: str) -> Cue:
    """`CUE-OUT`, `CUE-OUT:30`, `CUE-OUT:DURATION=30.0`."""
    found = _DURATION.search(value) or _LEADING.match(value)
    return Cue(kind=CueKind.OUT, left_us=_microseconds(found.group(1)) if found else None)


def read_cue_continued(value: str) -> Cue:
    """`CUE-OUT-CONT:8.0/30`, `CUE-OUT-CONT:ElapsedTime=8,Duration=30`; without a length nothing is left known."""
    duration, elapsed = _DURATION.search(value), _ELAPSED.search(value)
    if duration is not None:
        passed_us = (_microseconds(elapsed.group(1)) or 0) if elapsed else 0
        return _continued(_microseconds(duration.group(1)), passed_us)
    pair = _LEADING.match(value)
    if pair is None or pair.group(2) is None:
        return Cue(kind=CueKind.CONTINUED)
    return _continued(_microseconds(pair.group(2)), _microseconds(pair.group(1)) or 0)


def read_cue_in(_: str) -> Cue:
    """`CUE-IN`."""
    return Cue(kind=CueKind.IN)


def read_splice_cue(value: str) -> Cue | None:
    """`EXT-OATCLS-SCTE35:<base64>`, which mostly comes with a CUE-OUT and sometimes alone."""
    splice = read_splice(value)
    if splice is None:
        return None
    return Cue(kind=CueKind.OUT, left_us=splice.duration_us or None) if splice.is_out else read_cue_in("")


def _continued(duration_us: int | None, passed_us: int) -> Cue:
    return Cue(
        kind=CueKind.CONTINUED, left_us=None if duration_us is None else max(0, duration_us - passed_us)
    )


def _microseconds(seconds: str) -> int | None:
    value = float(seconds)
    return round(value * _MICROSECONDS) if isfinite(value) and 0 <= value <= _LONGEST_BREAK_S else None
