"""The bytes of a scripted stream: the clock of a transport stream moved, AES-128, and bodies damaged by a seed."""

import hashlib
import random
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

PACKET_BYTES: Final = 188
WRAP: Final = 2**33
_PES_HEAD: Final = b"\x00\x00\x01"
_BLOCK_BITS: Final = 128


def shift_clock(body: bytes, *, ticks: int) -> bytes:
    """A transport stream with every PCR, PTS and DTS later by `ticks` of 90 kHz, modulo 2^33."""
    if not ticks:
        return body
    moved = bytearray(body)
    for at in range(0, len(moved) - PACKET_BYTES + 1, PACKET_BYTES):
        control = moved[at + 3]
        payload = at + 4
        if control & 0x20:
            _shift_pcr(moved, at, ticks)
            payload += 1 + moved[at + 4]
        if control & 0x10 and moved[at + 1] & 0x40:
            _shift_pes(moved, payload, at + PACKET_BYTES, ticks)
    return bytes(moved)


def _shift_pcr(body: bytearray, at: int, ticks: int) -> None:
    """Base of 33 bits, then 6 reserved and 9 of the extension (ISO 13818-1, 2.4.3.5)."""
    if body[at + 4] < 7 or not body[at + 5] & 0x10:
        return
    value = int.from_bytes(body[at + 6 : at + 12], "big")
    base = ((value >> 15) + ticks) % WRAP
    body[at + 6 : at + 12] = (base << 15 | value & 0x7FFF).to_bytes(6, "big")


def _shift_pes(body: bytearray, start: int, end: int, ticks: int) -> None:
    if start + 19 > end or body[start : start + 3] != _PES_HEAD:
        return
    for present, place in ((0x80, start + 9), (0x40, start + 14)):
        if body[start + 7] & present:
            _shift_stamp(body, place, ticks)


def _shift_stamp(body: bytearray, at: int, ticks: int) -> None:
    """Five bytes: 4 bits of kind, then 3, 15 and 15 bits of time, a marker after each (2.4.3.6)."""
    high, middle, low = body[at] >> 1 & 0x07, body[at + 1 : at + 3], body[at + 3 : at + 5]
    time = high << 30 | int.from_bytes(middle, "big") >> 1 << 15 | int.from_bytes(low, "big") >> 1
    time = (time + ticks) % WRAP
    body[at] = body[at] & 0xF0 | (time >> 30) << 1 | 1
    body[at + 1 : at + 3] = ((time >> 15 & 0x7FFF) << 1 | 1).to_bytes(2, "big")
    body[at + 3 : at + 5] = ((time & 0x7FFF) << 1 | 1).to_bytes(2, "big")


def make_key(seed: int, number: int) -> bytes:
    """The AES-128 key of that number; no secret, as it is for tests."""
    return hashlib.sha256(f"key {seed} {number}".encode()).digest()[:16]


def encrypt(body: bytes, *, key: bytes, iv: bytes) -> bytes:
    """AES-128 in CBC mode with PKCS7 padding (RFC 8216, 5.2)."""
    padder = PKCS7(_BLOCK_BITS).padder()
    padded = padder.update(body) + padder.finalize()
    encryptor = Cipher(AES128(key), CBC(iv)).encryptor()
    return encryptor.update(padded) + encryptor.finalize()


def corrupted(body: bytes, *, flips: int, draw: random.Random) -> bytes:
    """Some bytes inverted, the first always: no body stays what it was."""
    damaged = bytearray(body)
    places = {0, *(draw.randrange(len(damaged)) for _ in range(flips - 1))} if damaged else set()
    for at in places:
        damaged[at] ^= 0xFF
    return bytes(damaged)


def captions(text: str, *, start_us: int, duration_us: int) -> str:
    """One WebVTT segment that shows `text` for its whole length; the clock is that of the media."""
    return (
        "WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:126000,LOCAL:00:00:00.000\n\n"
        f"{_clock_text(start_us)} --> {_clock_text(start_us + duration_us)}\n{text}\n"
    )


def _clock_text(time_us: int) -> str:
    seconds, rest = divmod(time_us // 1000, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}.{rest:03d}"
