"""When each segment of each stream becomes available: by the clock alone, so that nobody must be asked."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

SEGMENT_S = 2.0
WINDOW = 5
FIRST_SEGMENTS = 5
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class Schedule:
    """`began_at` is unix time; then the first segments are there at once, and each stream goes on in its own phase."""

    began_at: float

    def phase_s(self, stream: int) -> float:
        return (stream * _GOLDEN % 1.0) * SEGMENT_S

    def available_at(self, stream: int, sequence: int) -> float:
        late = sequence - FIRST_SEGMENTS + 1
        return self.began_at + (self.phase_s(stream) + late * SEGMENT_S if late > 0 else 0.0)

    def newest(self, stream: int, *, at: float) -> int:
        elapsed = at - self.began_at - self.phase_s(stream)
        return FIRST_SEGMENTS - 1 + max(0, math.floor(elapsed / SEGMENT_S))

    def available(self, stream: int, *, from_at: float, to_at: float) -> Iterator[int]:
        """The segments that became available in that span."""
        yield from range(self.newest(stream, at=from_at) + 1, self.newest(stream, at=to_at) + 1)
