"""Fragmented MP4 as it comes out of a pipe: bytes in, init sections and whole fragments out, and pieces made of them.

A piece is what becomes a segment. Where pieces begin is a pure function of the fragments' own times, so whoever
reads the same media again from any place makes the same pieces. Nothing here reads or writes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

from ingest.domain.fmp4 import read_fragment_clock
from shared.errors import RetryableError

_MICROSECONDS: Final = 1_000_000
_HEADER_BYTES: Final = 8
_INIT_BOXES: Final = frozenset({b"ftyp", b"moov"})
_LARGEST_MEDIA_BYTES: Final = 96 * 1024 * 1024
_LARGEST_HEAD_BYTES: Final = 8 * 1024 * 1024
# As large as a segment of HLS may be; what comes faster makes shorter pieces.
LARGEST_PIECE_BYTES: Final = 64 * 1024 * 1024
# No camera takes so many pictures in a second, and no sound has so short packets.
_MOST_SAMPLES_PER_S: Final = 4000
_COUNT_AT: Final = slice(8, 12)  # trun, from its name on: version and flags, count
_NUMBER_AT: Final = slice(20, 24)  # moof header, then mfhd: header, version and flags, number
_NUMBER_RANGE: Final = 2**32
_TILE_US: Final = 50_000
_SAMPLE_ENTRIES_AT: Final = 8  # stsd: version and flags, count


class FragmentsMalformed(RetryableError):
    """What came out of the pipe is not the fragmented MP4 that was asked for."""

    code: ClassVar[str] = "fragments_malformed"


class ClockStandsStill(RetryableError):
    """The media's clock went back, after which FFmpeg gives all that comes the same time."""

    code: ClassVar[str] = "media_clock_stands_still"


@dataclass(frozen=True, kw_only=True)
class Fragment:
    """One movie fragment with its media; times are those of its pictures, of its sound where there are none."""

    init: bytes
    body: bytes
    pts_us: int
    end_us: int


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Fragments that make one segment."""

    init: bytes
    body: bytes
    start_us: int
    end_us: int

    @property
    def duration_us(self) -> int:
        return self.end_us - self.start_us


class FragmentReader:
    """Cuts the byte stream at its boxes."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._init = b""
        self._head = b""
        self._has_media = False

    def feed(self, chunk: bytes) -> Iterator[Fragment]:
        """The fragments that are whole by now. Raises FragmentsMalformed, BoxesMalformed and ClockStandsStill."""
        self._buffer += chunk
        while (size := self._whole_box()) is not None:
            box = bytes(self._buffer[:size])
            del self._buffer[:size]
            fragment = self._take(box)
            if fragment is not None:
                yield fragment

    def _whole_box(self) -> int | None:
        if len(self._buffer) < _HEADER_BYTES:
            return None
        size = int.from_bytes(self._buffer[:4], "big")
        is_media = self._buffer[4:8] == b"mdat"
        if not _HEADER_BYTES <= size <= (_LARGEST_MEDIA_BYTES if is_media else _LARGEST_HEAD_BYTES):
            raise FragmentsMalformed(f"a box of {size} bytes")
        return size if len(self._buffer) >= size else None

    def _take(self, box: bytes) -> Fragment | None:
        kind = box[4:8]
        if kind in _INIT_BOXES:
            self._init = box if kind == b"ftyp" else self._init + box
        elif kind == b"moof":
            self._head = box
        elif kind == b"mdat":
            return self._fragment(box)
        return None

    def _fragment(self, media: bytes) -> Fragment | None:
        """The number within the whole is taken from the time, so that a second reading gives the same bytes."""
        clock = read_fragment_clock(self._head + media, init=self._init)
        if clock is None or clock.pts_us is None:
            return None
        _check_pace(self._head, clock.duration_us)
        number = (clock.pts_us // 1000 % _NUMBER_RANGE).to_bytes(4, "big")
        head = self._head[: _NUMBER_AT.start] + number + self._head[_NUMBER_AT.stop :]
        return Fragment(
            init=self._init,
            body=head + media,
            pts_us=clock.pts_us,
            end_us=clock.pts_us + clock.duration_us,
        )


def _check_pace(head: bytes, duration_us: int) -> None:
    at = head.find(b"trun")
    count = int.from_bytes(head[at:][_COUNT_AT], "big") if at >= 0 else 0
    if count > 1 and count * _MICROSECONDS > duration_us * _MOST_SAMPLES_PER_S:
        raise ClockStandsStill(f"{count} samples in {duration_us} us")


class Splicer:
    """Joins fragments to pieces of at least `target_us`; what lies before `from_us` is passed over.

    Where they are too large together, a piece is shorter.

    A fragment begins with a key frame, unless key frames are further apart than the longest fragment.
    """

    def __init__(self, *, target_us: int, from_us: int | None = None) -> None:
        self._target_us = target_us
        self._from_us = from_us
        self._open: list[Fragment] = []
        self._open_bytes = 0

    def add(self, fragment: Fragment) -> Piece | None:
        """The piece that this fragment ends by beginning the next one."""
        if self._is_before(fragment):
            return None
        piece = self._close(fragment.pts_us) if self._is_due(fragment) else None
        self._open.append(fragment)
        self._open_bytes += len(fragment.body)
        return piece

    def finish(self) -> Piece | None:
        """What is left when nothing more comes."""
        return self._close(max(each.end_us for each in self._open)) if self._open else None

    def _is_before(self, fragment: Fragment) -> bool:
        is_open = bool(self._open) or self._from_us is None
        return not is_open and fragment.pts_us < (self._from_us or 0) - _TILE_US

    def _is_due(self, fragment: Fragment) -> bool:
        if not self._open:
            return False
        first = self._open[0]
        is_large = self._open_bytes + len(fragment.body) > LARGEST_PIECE_BYTES
        return is_large or fragment.init != first.init or fragment.pts_us - first.pts_us >= self._target_us

    def _close(self, end_us: int) -> Piece:
        first, body = self._open[0], b"".join(each.body for each in self._open)
        self._open, self._open_bytes = [], 0
        return Piece(init=first.init, body=body, start_us=first.pts_us, end_us=max(end_us, first.pts_us + 1))


def codecs_of(init: bytes) -> tuple[str, ...]:
    """The four-character names of the sample entries, one for each track: `avc1`, `mp4a`."""
    names: list[str] = []
    at = init.find(b"stsd")
    while at >= 0:
        entry = at + 4 + _SAMPLE_ENTRIES_AT + 4
        names.append(init[entry : entry + 4].decode("latin-1"))
        at = init.find(b"stsd", entry)
    return tuple(names)
