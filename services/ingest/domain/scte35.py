"""What a SCTE 35 message says about a break: whether it begins or ends, and how long it is to be.

Only `splice_insert` is read; every other command says nothing here.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Final

_TABLE_ID: Final = 0xFC
_SPLICE_INSERT: Final = 0x05
_HEAD_BYTES: Final = 14  # up to the command: table, lengths, adjustment, tier, command type
_TICKS: Final = 90_000
_MICROSECONDS: Final = 1_000_000
_LONGEST_MESSAGE: Final = 4096


@dataclass(frozen=True, kw_only=True)
class Splice:
    """Out of the programme, or back into it; a length of 0 is unknown."""

    is_out: bool
    duration_us: int = 0


def read_splice(text: str) -> Splice | None:
    """The splice_insert of a base64 message; None where it is something else, or cannot be read."""
    if len(text) > _LONGEST_MESSAGE:
        return None
    try:
        message = base64.b64decode(text.strip().strip('"'), validate=True)
        return _splice_insert(message)
    except (binascii.Error, ValueError, IndexError):
        return None


def _splice_insert(message: bytes) -> Splice | None:
    """ANSI/SCTE 35, 9.7.3. Raises IndexError when the message ends too early."""
    if message[0] != _TABLE_ID or message[_HEAD_BYTES - 1] != _SPLICE_INSERT:
        return None
    command = message[_HEAD_BYTES:]
    if command[4] & 0x80:
        return None  # the event was cancelled
    flags = command[5]
    is_out, is_program, has_duration, is_immediate = (bool(flags & bit) for bit in (0x80, 0x40, 0x20, 0x10))
    if not is_out or not has_duration:
        return Splice(is_out=is_out)
    at = 6 + _time_bytes(command[6:], is_program=is_program, is_immediate=is_immediate)
    ticks = (command[at] & 0x01) << 32 | int.from_bytes(command[at + 1 : at + 5], "big")
    return Splice(is_out=True, duration_us=ticks * _MICROSECONDS // _TICKS)


def _time_bytes(rest: bytes, *, is_program: bool, is_immediate: bool) -> int:
    """Bytes of the splice times that stand before the length of the break."""
    if is_program:
        return 0 if is_immediate else _one_time(rest[0])
    at = 1
    for _ in range(rest[0]):
        at += 1
        at += 0 if is_immediate else _one_time(rest[at])
    return at


def _one_time(flags: int) -> int:
    return 5 if flags & 0x80 else 1
