"""WebVTT: a file's text in, its cues and its clock out. Tolerant of a broken cue, strict on what is no WebVTT."""

import html
import re
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar, Final

from shared.errors import RetryableError

LONGEST_TEXT: Final = 2000
_MICROSECONDS: Final = 1_000_000
_KEPT_CUES: Final = 500
_LONGEST_CUE_US: Final = 600 * _MICROSECONDS
_TIME: Final = r"(?:(\d{2,5}):)?([0-5]\d):([0-5]\d)\.(\d{3})"
_TIMING: Final = re.compile(rf"\s*{_TIME}\s+-->\s+{_TIME}(?:\s|$)")
_LOCAL: Final = re.compile(rf"LOCAL:{_TIME}")
_MPEGTS: Final = re.compile(r"MPEGTS:(\d{1,16})")
_TAG: Final = re.compile(r"<[^<>]*>")
_BLANK: Final = re.compile(r"\s+")
_CLOCK_HZ: Final = 90_000


class NotCaptions(RetryableError):
    """The body is no WebVTT."""

    code: ClassVar[str] = "not_captions"


@dataclass(frozen=True, kw_only=True)
class CaptionCue:
    """A text from `start_us` to `end_us` of the file's own clock."""

    start_us: int
    end_us: int
    text: str


@dataclass(frozen=True, kw_only=True)
class CaptionFile:
    """`clock_us` is what the media's clock (PTS) shows at 0 of the file's, where X-TIMESTAMP-MAP tells it."""

    cues: tuple[CaptionCue, ...]
    clock_us: int | None = None


def parse_webvtt(text: str) -> CaptionFile:
    """Raises NotCaptions."""
    body = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if not body.startswith("WEBVTT"):
        raise NotCaptions(f"a body of {len(text)} characters is no WebVTT")
    header, _, rest = body.partition("\n\n")
    read = (_cue(block.split("\n")) for block in rest.split("\n\n"))
    cues = tuple(islice((cue for cue in read if cue is not None), _KEPT_CUES))
    return CaptionFile(cues=cues, clock_us=_clock_us(header))


def _cue(lines: list[str]) -> CaptionCue | None:
    """Notes, styles and regions have no timing, and so are no cues."""
    at, timing = next(((n, m) for n, line in enumerate(lines[:2]) if (m := _TIMING.match(line))), (0, None))
    if timing is None:
        return None
    start_us, end_us = _time_us(timing.groups()[:4]), _time_us(timing.groups()[4:8])
    text = _plain(" ".join(lines[at + 1 :]))
    if not text or not start_us <= end_us <= start_us + _LONGEST_CUE_US:
        return None
    return CaptionCue(start_us=start_us, end_us=end_us, text=text)


def _plain(text: str) -> str:
    shortened = text[: 8 * LONGEST_TEXT]
    return _BLANK.sub(" ", html.unescape(_TAG.sub("", shortened))).strip()[:LONGEST_TEXT]


def _clock_us(header: str) -> int | None:
    line = next((line for line in header.split("\n") if line.startswith("X-TIMESTAMP-MAP=")), "")
    local, ticks = _LOCAL.search(line), _MPEGTS.search(line)
    if local is None or ticks is None:
        return None
    return int(ticks.group(1)) * _MICROSECONDS // _CLOCK_HZ - _time_us(local.groups())


def _time_us(parts: tuple[str | None, ...]) -> int:
    hours, minutes, seconds, milliseconds = (int(part or 0) for part in parts)
    return ((hours * 60 + minutes) * 60 + seconds) * _MICROSECONDS + milliseconds * 1000
