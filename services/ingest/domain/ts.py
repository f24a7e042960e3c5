"""Presentation times in an MPEG transport stream, read from the PES headers; nothing is decoded.

Tolerant of garbage: what is no PES header is passed over, and without a clock there is no answer.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import median_low
from typing import Final

PACKET_BYTES: Final = 188
_SYNC: Final = 0x47
_CHECKED_PACKETS: Final = 4
_STARTS: Final = re.compile(rb"[\x40-\x7f\xc0-\xff]")  # second header byte with payload_unit_start_indicator
_PES_HEAD: Final = b"\x00\x00\x01"
_PES_HEADER_BYTES: Final = 9
_VIDEO: Final = range(0xE0, 0xF0)
_AUDIO: Final = range(0xC0, 0xE0)
_OTHER_AUDIO: Final = frozenset({0xBD, 0xFD})
_WRAP: Final = 2**33
_CLOCK_HZ: Final = 90_000
_MICROSECONDS: Final = 1_000_000
_LONGEST_FRAME: Final = _CLOCK_HZ  # a picture that stands for over a second is a hole, not a frame


@dataclass(frozen=True, kw_only=True)
class Clock:
    """First presentation time (of video where there is some, else of audio) and length up to the last frame's end.

    `duration_us` is 0 when a single time says nothing about a length.
    """

    pts_us: int
    duration_us: int
    has_video: bool
    has_audio: bool


@dataclass(frozen=True)
class _Stamp:
    pid: int
    is_video: bool
    pts: int


def is_transport_stream(body: bytes) -> bool:
    """The first packets (all, of a short body) begin with the sync byte."""
    packets = min(_CHECKED_PACKETS, len(body) // PACKET_BYTES)
    return packets > 0 and all(body[n * PACKET_BYTES] == _SYNC for n in range(packets))


def is_whole_transport_stream(body: bytes) -> bool:
    """Nothing but packets, each of which begins with the sync byte."""
    packets, rest = divmod(len(body), PACKET_BYTES)
    return rest == 0 and body[::PACKET_BYTES].count(_SYNC) == packets


def read_clock(body: bytes) -> Clock | None:
    """The clock of the first video and the first audio track; None when there is no time stamp at all."""
    stamps = tuple(_stamps(body))
    video = _track(stamps, is_video=True)
    audio = _track(stamps, is_video=False)
    track = video or audio
    if not track:
        return None
    first, length = _extent(track)
    return Clock(
        pts_us=_microseconds(first % _WRAP),
        duration_us=_microseconds(first % _WRAP + length) - _microseconds(first % _WRAP),
        has_video=bool(video),
        has_audio=bool(audio),
    )


def read_sound_clock(body: bytes) -> Clock | None:
    """The clock of the first audio track alone, whatever else there is."""
    sound = _track(tuple(_stamps(body)), is_video=False)
    if not sound:
        return None
    first, length = _extent(sound)
    pts_us = _microseconds(first % _WRAP)
    return Clock(pts_us=pts_us, duration_us=_microseconds(length), has_video=False, has_audio=True)


def last_sound(body: bytes) -> tuple[int, bytes] | None:
    """Presentation time (microseconds) and content of the last PES packet of the first audio track."""
    found, pid = None, None
    for at in range(0, len(body) - len(body) % PACKET_BYTES, PACKET_BYTES):
        stamp = _stamp(body, at) if body[at + 1] & 0x40 else None
        if stamp is not None and not stamp.is_video and pid in (None, stamp.pid):
            found, pid = (at, stamp.pts), stamp.pid
    if found is None or pid is None:
        return None
    content = b"".join(_contents(body, pid, start=found[0]))
    return _microseconds(found[1]), content[9 + content[8] :] if len(content) > _PES_HEADER_BYTES else b""


def _contents(body: bytes, pid: int, *, start: int) -> Iterator[bytes]:
    for at in range(start, len(body) - len(body) % PACKET_BYTES, PACKET_BYTES):
        control = body[at + 3]
        if (body[at + 1] & 0x1F) << 8 | body[at + 2] == pid and control & 0x10:
            yield body[at + 4 + (1 + body[at + 4] if control & 0x20 else 0) : at + PACKET_BYTES]


def _stamps(body: bytes) -> Iterator[_Stamp]:
    """Only packets that begin a PES packet are looked at: some hundred of the thousands in a segment."""
    whole = len(body) - len(body) % PACKET_BYTES
    for match in _STARTS.finditer(body[1:whole:PACKET_BYTES]):
        stamp = _stamp(body, match.start() * PACKET_BYTES)
        if stamp is not None:
            yield stamp


def _stamp(body: bytes, at: int) -> _Stamp | None:
    if body[at] != _SYNC or not body[at + 3] & 0x10:
        return None
    start = at + 4 + (1 + body[at + 4] if body[at + 3] & 0x20 else 0)
    if start + 14 > at + PACKET_BYTES or body[start : start + 3] != _PES_HEAD or not body[start + 7] & 0x80:
        return None
    kind = body[start + 3]
    if kind not in _VIDEO and kind not in _AUDIO and kind not in _OTHER_AUDIO:
        return None
    pid = (body[at + 1] & 0x1F) << 8 | body[at + 2]
    return _Stamp(pid, kind in _VIDEO, _time(body, start + 9))


def _time(body: bytes, at: int) -> int:
    """A 33-bit time stamp in its five bytes (ISO 13818-1, 2.4.3.6)."""
    high = (body[at] & 0x0E) << 29
    middle = body[at + 1] << 22 | (body[at + 2] & 0xFE) << 14
    return high | middle | body[at + 3] << 7 | body[at + 4] >> 1


def _track(stamps: tuple[_Stamp, ...], *, is_video: bool) -> list[int]:
    """The times of the first track of a kind."""
    pid = next((stamp.pid for stamp in stamps if stamp.is_video == is_video), None)
    return [stamp.pts for stamp in stamps if stamp.pid == pid and stamp.is_video == is_video]


def _extent(times: list[int]) -> tuple[int, int]:
    """First time and length in ticks; the last frame is as long as most are."""
    unwrapped = sorted({times[0] + _step(time, times[0]) for time in times})
    steps = [after - before for before, after in pairwise(unwrapped)]
    frames = [step for step in steps if step <= _LONGEST_FRAME]
    if not frames:
        return unwrapped[0], 0
    return unwrapped[0], unwrapped[-1] - unwrapped[0] + median_low(frames)


def _step(time: int, origin: int) -> int:
    return (time - origin + _WRAP // 2) % _WRAP - _WRAP // 2


def _microseconds(ticks: int) -> int:
    return (ticks * _MICROSECONDS + _CLOCK_HZ // 2) // _CLOCK_HZ
