"""The small parts of a line: attribute lists, numbers, lengths, dates. What is unreadable is left out, or a fault."""

import re
from datetime import UTC, datetime
from math import isfinite
from typing import Final

from ingest.domain.playlist.values import MICROSECONDS

_KEPT_FAULTS: Final = 20
_PLAUSIBLE_YEARS: Final = range(1990, 2200)
# A name begins where no name goes on, and is not given back: else a long line costs the square of its length.
_ATTRIBUTE: Final = re.compile(r'(?<![A-Z0-9-])([A-Z0-9-]++)\s*+=\s*+("[^"]*"|[^,]*)\s*(?:,|$)')


def parse_attributes(value: str) -> dict[str, str]:
    """An attribute list (`A=1,B="x,y"`) as a dict, quotes removed; unreadable parts are left out."""
    return {name: raw.strip().strip('"') for name, raw in _ATTRIBUTE.findall(value)}


def parse_date_time(value: str) -> datetime | None:
    """PROGRAM-DATE-TIME as aware UTC; no zone means UTC; None when unreadable or implausible."""
    try:
        parsed = datetime.fromisoformat(value.strip().upper())
        aware = parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return aware if aware.year in _PLAUSIBLE_YEARS else None


def whole_number(value: str, fallback: int) -> int:
    digits = value.strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 19 else fallback


def seconds_us(value: str, *, longest_s: float) -> int | None:
    try:
        seconds = float(value.strip())
    except ValueError:
        return None
    return round(seconds * MICROSECONDS) if isfinite(seconds) and 0 < seconds <= longest_s else None


class Faults:
    """Remembers the first few tolerated faults, for log and metric."""

    def __init__(self) -> None:
        self.kept: list[str] = []

    def add(self, line: str, reason: str) -> None:
        if len(self.kept) < _KEPT_FAULTS:
            self.kept.append(f"{reason}: {line[:80]}")
