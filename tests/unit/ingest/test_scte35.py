"""Splice messages, as encoders send them."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.domain.scte35 import Splice, read_splice

HEAD = bytes([0xFC, 0x30, 0x25, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xF0, 0x14, 0x05])
EVENT = bytes([0, 0, 0, 1])
SPLICE_TIME = bytes([0xFE, 0, 0, 0, 0])
THIRTY_SECONDS = bytes([0xFE]) + (30 * 90_000).to_bytes(4, "big")


def message(*parts: bytes, head: bytes = HEAD) -> str:
    return base64.b64encode(head + EVENT + b"".join(parts)).decode()


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((b"\x7f\xef", SPLICE_TIME, THIRTY_SECONDS), Splice(is_out=True, duration_us=30_000_000)),
        ((b"\x7f\xff", THIRTY_SECONDS), Splice(is_out=True, duration_us=30_000_000)),
        ((b"\x7f\xcf", SPLICE_TIME), Splice(is_out=True)),
        ((b"\x7f\x4f", SPLICE_TIME), Splice(is_out=False)),
        ((b"\x7f\xbf", b"\x01\x07", THIRTY_SECONDS), Splice(is_out=True, duration_us=30_000_000)),
    ],
    ids=["timed", "immediate", "without a length", "back", "by component"],
)
def test_what_a_splice_insert_says_is_read(parts: tuple[bytes, ...], expected: Splice) -> None:
    assert expected == read_splice(message(*parts))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no base64!",
        message(b"\xff\xcf"),
        message(b"\x7f"),
        message(b"\x7f\x4f", head=HEAD[:-1] + b"\x06"),
        "A" * 9000,
    ],
    ids=["empty", "no base64", "cancelled", "cut off", "another command", "huge"],
)
def test_everything_else_says_nothing(text: str) -> None:
    assert read_splice(text) is None


@given(st.binary(max_size=60))
def test_no_message_raises(body: bytes) -> None:
    read_splice(base64.b64encode(HEAD + body).decode())
    read_splice(base64.b64encode(body).decode())
