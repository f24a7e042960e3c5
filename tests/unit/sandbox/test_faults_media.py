"""Bytes of a scripted stream: the clock of a transport stream moved, AES-128, damage by seed."""

import random

from ingest.domain.ts import read_clock
from sandbox.faults_media import captions, corrupted, encrypt, make_key, shift_clock

PES = bytes.fromhex("000001e000008080052100010001")


def packet(pes: bytes = PES) -> bytes:
    return (b"\x47\x41\x00\x10" + pes).ljust(188, b"\xff")


def two_frames() -> bytes:
    later = bytearray(PES)
    later[9:14] = bytes.fromhex("2100011c21")
    return packet() + packet(bytes(later))


def test_a_clock_is_moved_and_wraps() -> None:
    body = two_frames()
    before, after = read_clock(body), read_clock(shift_clock(body, ticks=90_000))
    wrapped = read_clock(shift_clock(body, ticks=2**33 - 1))
    assert before is not None and after is not None and wrapped is not None
    assert 1_000_000 == after.pts_us - before.pts_us
    assert (after.duration_us, after.duration_us) == (before.duration_us, wrapped.duration_us)
    assert wrapped.pts_us > 95_000_000_000


def test_moving_there_and_back_changes_nothing() -> None:
    body = two_frames()
    assert body == shift_clock(shift_clock(body, ticks=12345), ticks=-12345)


def test_keys_come_from_the_seed() -> None:
    assert make_key(1, 2) == make_key(1, 2) != make_key(1, 3)
    assert b"secret" not in encrypt(b"secret" * 10, key=make_key(1, 2), iv=bytes(16))


def test_damage_is_the_same_for_the_same_seed_and_always_there() -> None:
    body = bytes(1000)
    once, again = (corrupted(body, flips=3, draw=random.Random(5)) for _ in range(2))
    assert once == again != body
    assert 0xFF == once[0]


def test_captions_stand_on_the_clock_of_the_media() -> None:
    assert "00:01:02.500 --> 00:01:04.500\nGoal!" in captions(
        "Goal!", start_us=62_500_000, duration_us=2_000_000
    )
