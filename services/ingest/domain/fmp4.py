"""Presentation times in fragmented MP4 (ISO/IEC 14496-12), read from its boxes; nothing is decoded.

Strict where `ts.py` is tolerant: boxes carry their lengths, so one that does not fit means a broken body.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, repeat
from operator import add
from typing import ClassVar, Final

from shared.errors import RetryableError

_MICROSECONDS: Final = 1_000_000
_HEADER_BYTES: Final = 8
_LONG_HEADER_BYTES: Final = 16
_TO_THE_END: Final = 0
_LONG_SIZE: Final = 1
_MOST_EDITS: Final = 8
_MOST_BOXES: Final = 100_000
_MOST_SAMPLES: Final = 1_000_000  # ten minutes of sound in frames of 1024 samples are 28 000
_VIDEO, _AUDIO = b"vide", b"soun"
# Flags of `tfhd` and `trun` that say which fields are there.
_BASE_OFFSET, _DESCRIPTION, _DEFAULT_DURATION = 0x01, 0x02, 0x08
_DATA_OFFSET, _FIRST_FLAGS = 0x01, 0x04
_DURATION, _SIZE, _FLAGS, _SHIFT = 0x100, 0x200, 0x400, 0x800


class BoxesMalformed(RetryableError):
    """A box is cut off, reaches beyond the one that holds it, or contradicts itself."""

    code: ClassVar[str] = "boxes_malformed"


@dataclass(frozen=True, kw_only=True)
class FragmentClock:
    """First presentation time (of video where there is some, else of audio) and length up to the last frame's end.

    `pts_us` is None where the fragments do not say at which time they decode.
    """

    pts_us: int | None
    duration_us: int


@dataclass
class _Bytes:
    """What is read, and how many boxes may still be looked at: millions of empty ones would take minutes."""

    content: bytes
    boxes_left: int = _MOST_BOXES


@dataclass(frozen=True)
class _Box:
    """`start` and `end` are where the content lies in the body."""

    kind: bytes
    start: int
    end: int


@dataclass(frozen=True)
class _Track:
    track_id: int
    handler: bytes
    timescale: int
    default_duration: int = 0


@dataclass(frozen=True)
class _Extent:
    """Ticks [first, end) that the samples of a fragment are shown; `next_decode` is where decoding goes on."""

    first: int
    end: int
    next_decode: int
    count: int


@dataclass(frozen=True)
class _Samples:
    """One run of samples: shown in ticks [first, end) from its own decode time, and how long decoding takes."""

    first: int
    end: int
    decoding: int
    count: int


def read_fragment_clock(body: bytes, *, init: bytes | None) -> FragmentClock | None:
    """The clock of a media segment; None where it has no sample of picture or sound.

    The tracks stand in `init`, or in the body where there is none. Raises BoxesMalformed, also when there is no
    fragment with media, or nothing says what its tracks are.
    """
    media = _Bytes(body)
    boxes = tuple(_boxes(media, 0, len(body)))
    fragments = [box for box in boxes if box.kind == b"moof"]
    if not fragments or not any(box.kind == b"mdat" for box in boxes):
        raise BoxesMalformed("no movie fragment with media")
    track = _chosen(_tracks(media if init is None else _Bytes(init)))
    return _clock(media, fragments, track) if track else None


def has_sound(init: bytes) -> bool:
    """Whether an init section names a track of sound. Raises BoxesMalformed."""
    return any(track.handler == _AUDIO for track in _tracks(_Bytes(init)))


def edit_shift_us(init: bytes) -> int:
    """How much later the media's own clock is than its presentation, by the edit list of the track whose clock is
    read: an encoder that reorders pictures or primes a filter begins before its presentation does. 0 without one.
    Raises BoxesMalformed.
    """
    content = _Bytes(init)
    track = _chosen(_tracks(content))
    if track is None:
        return 0
    movie = next(box for box in _boxes(content, 0, len(init)) if box.kind == b"moov")
    for trak in _children(content, movie, b"trak"):
        if _track(content, trak, {}).track_id == track.track_id:
            return _edit_shift_us(content, movie, trak, timescale=track.timescale)
    return 0


def _edit_shift_us(init: _Bytes, movie: _Box, trak: _Box, *, timescale: int) -> int:
    """Of empty edits, and the first one with media (ISO/IEC 14496-12, 8.6.6)."""
    later_us = 0
    for edits in _children(init, trak, b"edts", b"elst"):
        width = 8 if _field(init, edits, 0, 1) else 4
        for n in range(min(_field(init, edits, 4), _MOST_EDITS)):
            at = 8 + n * (2 * width + 4)
            media_time = _field(init, edits, at + width, width)
            if media_time < 1 << (8 * width - 1):
                return _microseconds(media_time, timescale) - later_us
            later_us += _microseconds(_field(init, edits, at, width), _movie_timescale(init, movie))
    return -later_us


def _movie_timescale(init: _Bytes, movie: _Box) -> int:
    header = _only(init, movie, b"mvhd")
    return _field(init, header, 20 if _field(init, header, 0, 1) else 12) or 1


def _chosen(tracks: tuple[_Track, ...]) -> _Track | None:
    """The first video track, else the first audio track."""
    for handler in (_VIDEO, _AUDIO):
        for track in tracks:
            if track.handler == handler:
                return track
    return None


def _clock(body: _Bytes, fragments: list[_Box], track: _Track) -> FragmentClock | None:
    extents: list[_Extent] = []
    count, has_time = 0, True
    for run in _track_fragments(body, fragments, track):
        told = _decode_time(body, run)
        has_time = has_time and (told is not None or bool(extents))
        following = extents[-1].next_decode if extents else 0
        extent = _extent(body, run, track, decode=following if told is None else told)
        if extent is not None:
            extents.append(extent)
            count += extent.count
        if count > _MOST_SAMPLES:
            raise BoxesMalformed(f"more than {_MOST_SAMPLES} samples")
    if not extents:
        return None
    first, end = min(one.first for one in extents), max(one.end for one in extents)
    first_us = _microseconds(first, track.timescale)
    return FragmentClock(
        pts_us=first_us if has_time else None,
        duration_us=_microseconds(end, track.timescale) - first_us,
    )


# -- boxes ---------------------------------------------------------------------------------------------


def _boxes(body: _Bytes, start: int, end: int) -> Iterator[_Box]:
    """The boxes that lie side by side in `body[start:end]`."""
    while start < end:
        body.boxes_left -= 1
        if body.boxes_left < 0:
            raise BoxesMalformed("more boxes than any stream needs")
        header, size = _measured(body, start, end)
        if size < header or start + size > end:
            raise BoxesMalformed(f"a box of {size} bytes at {start}, where {end - start} are left")
        yield _Box(body.content[start + 4 : start + _HEADER_BYTES], start + header, start + size)
        start += size


def _measured(body: _Bytes, start: int, end: int) -> tuple[int, int]:
    """Length of the header and of the whole box."""
    size = _number(body, start, 4, end=end)
    if end - start < _HEADER_BYTES:
        raise BoxesMalformed(f"a box header is cut off at {start}")
    if size == _TO_THE_END:
        return _HEADER_BYTES, end - start
    if size == _LONG_SIZE:
        return _LONG_HEADER_BYTES, _number(body, start + _HEADER_BYTES, 8, end=end)
    return _HEADER_BYTES, size


def _children(body: _Bytes, parent: _Box, *path: bytes) -> Iterator[_Box]:
    """The boxes at a path of kinds below the parent."""
    for box in _boxes(body, parent.start, parent.end):
        if box.kind == path[0]:
            if len(path) == 1:
                yield box
            else:
                yield from _children(body, box, *path[1:])


def _only(body: _Bytes, parent: _Box, *path: bytes) -> _Box:
    for box in _children(body, parent, *path):
        return box
    raise BoxesMalformed(f"no {b'/'.join(path).decode()} in a {parent.kind!r}")


def _number(body: _Bytes, at: int, size: int, *, end: int) -> int:
    """An unsigned number, big end first."""
    if at + size > end:
        raise BoxesMalformed(f"{size} bytes at {at} reach beyond {end}")
    return int.from_bytes(body.content[at : at + size], "big")


def _field(body: _Bytes, box: _Box, offset: int, size: int = 4) -> int:
    return _number(body, box.start + offset, size, end=box.end)


def _flags(body: _Bytes, box: _Box) -> int:
    return _field(body, box, 1, 3)


# -- what an init section tells ------------------------------------------------------------------------


def _tracks(init: _Bytes) -> tuple[_Track, ...]:
    """In the order in which the first `moov` names them. Raises BoxesMalformed when there is none."""
    for movie in _boxes(init, 0, len(init.content)):
        if movie.kind == b"moov":
            defaults = dict(_default_durations(init, movie))
            return tuple(_track(init, trak, defaults) for trak in _children(init, movie, b"trak"))
    raise BoxesMalformed("no init section")


def _default_durations(init: _Bytes, movie: _Box) -> Iterator[tuple[int, int]]:
    for trex in _children(init, movie, b"mvex", b"trex"):
        yield _field(init, trex, 4), _field(init, trex, 12)


def _track(init: _Bytes, trak: _Box, defaults: Mapping[int, int]) -> _Track:
    header = _only(init, trak, b"tkhd")
    media = _only(init, trak, b"mdia", b"mdhd")
    handler = _only(init, trak, b"mdia", b"hdlr")
    track_id = _field(init, header, 20 if _field(init, header, 0, 1) else 12)
    timescale = _field(init, media, 20 if _field(init, media, 0, 1) else 12)
    if not timescale:
        raise BoxesMalformed(f"track {track_id} counts no time")
    kind = _field(init, handler, 8).to_bytes(4, "big")
    return _Track(track_id, kind, timescale, defaults.get(track_id, 0))


# -- what a fragment tells -----------------------------------------------------------------------------


def _track_fragments(body: _Bytes, fragments: list[_Box], track: _Track) -> Iterator[_Box]:
    for fragment in fragments:
        for run in _children(body, fragment, b"traf"):
            if _field(body, _only(body, run, b"tfhd"), 4) == track.track_id:
                yield run


def _decode_time(body: _Bytes, run: _Box) -> int | None:
    for time in _children(body, run, b"tfdt"):
        return _field(body, time, 4, 8 if _field(body, time, 0, 1) else 4)
    return None


def _extent(body: _Bytes, run: _Box, track: _Track, *, decode: int) -> _Extent | None:
    duration = _fragment_duration(body, run, track)
    first: int | None = None
    end = count = 0
    for trun in _children(body, run, b"trun"):
        samples = _samples(body, trun, duration)
        if samples.count:
            shown = decode + samples.first
            first = shown if first is None else min(first, shown)
            end = max(end, decode + samples.end)
        decode += samples.decoding
        count += samples.count
    return None if first is None else _Extent(first, end, decode, count)


def _fragment_duration(body: _Bytes, run: _Box, track: _Track) -> int:
    header = _only(body, run, b"tfhd")
    flags = _flags(body, header)
    if not flags & _DEFAULT_DURATION:
        return track.default_duration
    return _field(body, header, 8 + 8 * bool(flags & _BASE_OFFSET) + 4 * bool(flags & _DESCRIPTION))


def _samples(body: _Bytes, trun: _Box, default_duration: int) -> _Samples:
    """The shift is read as signed in either version of the box, as FFmpeg does."""
    flags, count = _flags(body, trun), _field(body, trun, 4)
    present = [flag for flag in (_DURATION, _SIZE, _FLAGS, _SHIFT) if flags & flag]
    at = trun.start + 8 + 4 * bool(flags & _DATA_OFFSET) + 4 * bool(flags & _FIRST_FLAGS)
    if count > _MOST_SAMPLES or at + 4 * len(present) * count > trun.end:
        raise BoxesMalformed(f"{count} samples do not fit into {trun.end - trun.start} bytes")
    if not flags & (_DURATION | _SHIFT):
        return _Samples(0, count * default_duration, count * default_duration, count)
    row = "".join("i" if flag == _SHIFT else "I" for flag in present)
    values = struct.unpack_from(f">{row * count}", body.content, at)
    columns = {flag: values[n :: len(present)] for n, flag in enumerate(present)}
    durations = columns.get(_DURATION, (default_duration,) * count)
    decoded = tuple(accumulate(durations, initial=0))
    shown = tuple(map(add, decoded, columns.get(_SHIFT, repeat(0))))[:count]
    ends = map(add, shown, durations)
    return _Samples(min(shown, default=0), max(ends, default=0), decoded[-1], count)


def _microseconds(ticks: int, timescale: int) -> int:
    return (ticks * _MICROSECONDS + timescale // 2) // timescale
