"""How the repair of a gap is numbered, beside what was recorded while the stream ran: epochs and window indexes.

A recording that comes later is cut anew, so its segments stand in an epoch of their own, and its windows behind all
indexes that a run can reach. Both are functions of the gap, so the order in which gaps are repaired changes nothing.
"""

from typing import Final

REPAIR_EPOCH: Final = 1_000_000
FIRST_REPAIR_INDEX: Final = 1_000_000
WINDOWS_PER_GAP: Final = 1_000
MOST_GAPS: Final = 1_000_000


def repair_epoch(gap_index: int, *, revision: int) -> int:
    """Epoch of the segments that fill a gap; another attempt is another epoch."""
    return REPAIR_EPOCH * revision + gap_index


def is_repair_epoch(epoch: int) -> bool:
    return epoch >= REPAIR_EPOCH


def repair_index(gap_index: int, ordinal: int) -> int:
    """Index of the window `ordinal` (from 0, below WINDOWS_PER_GAP) of a gap's repair."""
    return FIRST_REPAIR_INDEX + gap_index * WINDOWS_PER_GAP + ordinal


def gap_and_ordinal(index: int) -> tuple[int, int]:
    """Inverse of `repair_index`."""
    return divmod(index - FIRST_REPAIR_INDEX, WINDOWS_PER_GAP)
