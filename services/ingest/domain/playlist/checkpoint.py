"""One place in a long list, by which the next reload is recognised as the same list up to there.

Nothing is read here: where to go on, and what holds at that place.
"""

from dataclasses import dataclass, field
from datetime import datetime

from ingest.domain.playlist.attributes import whole_number
from ingest.domain.playlist.values import EncryptionKey, InitSection


@dataclass
class Carried:
    """What outlives a segment: key, init section, clock, byte offset, discontinuity counter."""

    key: EncryptionKey | None = None
    init: InitSection | None = None
    wall_at: datetime | None = None
    range_end: dict[str, int] = field(default_factory=dict)
    discontinuities: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """A place between two segments of a long list: `text[:end]` holds all below `sequence`."""

    url: str
    sequence: int
    head: str
    anchor: str
    end: int
    carried: Carried
    discontinuity_sequence: int

    def found_in(self, text: str, head: str) -> int | None:
        """Where the place is in a reload; None when the list below it may be another one.

        A list that only grew has it where it was. One whose window moved on has it further ahead, and as many
        segments before it as the numbers say.
        """
        if "#EXT-X-SKIP" in head:
            return None
        if head == self.head:
            return self.end if text.startswith(self.anchor, self.end - len(self.anchor)) else None
        first = _media_sequence_of(head)
        if first <= _media_sequence_of(self.head) or first >= self.sequence:
            return None
        start = text.rfind(self.anchor)
        end = start + len(self.anchor)
        is_same = start >= 0 and text.count("\n#EXTINF", len(head) - 1, end) == self.sequence - first
        return end if is_same else None


def head_of(text: str) -> str:
    """All before the first segment."""
    end = text.find("#EXTINF")
    return text if end < 0 else text[:end]


def _media_sequence_of(head: str) -> int:
    _, _, rest = head.partition("#EXT-X-MEDIA-SEQUENCE:")
    return whole_number(rest.partition("\n")[0], 0)
