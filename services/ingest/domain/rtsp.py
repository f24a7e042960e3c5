"""What a relay must understand of RTSP (RFC 2326): messages between interleaved frames, addresses, and authentication.

FFmpeg speaks to the loopback and has no credentials: its requests get the server's own address, and the answer to a
challenge is made here. Redirections are not followed. Bytes in, bytes out; no socket.
"""

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

from shared.errors import PermanentError, RetryableError

_FRAME: Final = b"$"
_FRAME_HEADER_BYTES: Final = 4
_HEAD_END: Final = b"\r\n\r\n"
_LARGEST_MESSAGE_BYTES: Final = 256 * 1024
_LOOPBACK: Final = re.compile(rb"rtsp://127\.0\.0\.1:\d{1,5}")
_LENGTH: Final = re.compile(rb"^content-length:\s*(\d{1,6})\s*$", re.IGNORECASE | re.MULTILINE)
_CHALLENGE: Final = re.compile(
    rb"^www-authenticate:\s*(basic|digest)\b\s*(.*?)\s*$", re.IGNORECASE | re.MULTILINE
)
_PAIR: Final = re.compile(r'(\w+)\s*=\s*(?:"([^"]*)"|([^,\s]*))')
# As narrow as it is written: whatever FFmpeg could read otherwise than we do would pass by us.
_STATUS: Final = re.compile(rb"RTSP/1\.0 (\d{3})( [^\r\n]*)?")
_SERVER_REQUEST: Final = re.compile(rb"[A-Z_]{3,20} [!-~]+ RTSP/1\.0")
_HEADER: Final = re.compile(rb"[A-Za-z][A-Za-z0-9_-]*:[^\r\n\0]*")


class RtspMalformed(RetryableError):
    """A message without an end, or one that could be read in two ways."""

    code: ClassVar[str] = "rtsp_malformed"


class RtspRefused(PermanentError):
    """The server sends us elsewhere, or wants what we do not have; the message is a clause for the owner."""

    code: ClassVar[str] = "rtsp_refused"


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """`nonce` is ours, for servers that demand one of the client."""

    user: str
    password: str
    nonce: str


class _Messages:
    """Cuts a direction into whole messages and whole frames."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """What is done is dropped once for each chunk: a chunk of many tiny frames must not be copied for each."""
        self._buffer += chunk
        start = 0
        while (end := self._whole(start)) is not None:
            yield self._buffer[start:end]
            start = end
        self._buffer = self._buffer[start:]

    def _whole(self, start: int) -> int | None:
        """Where what begins at `start` ends."""
        if self._buffer.startswith(_FRAME, start):
            header = self._buffer[start : start + _FRAME_HEADER_BYTES]
            end = start + _FRAME_HEADER_BYTES + int.from_bytes(header[2:], "big")
            return end if len(header) == _FRAME_HEADER_BYTES and len(self._buffer) >= end else None
        head_end = self._buffer.find(_HEAD_END, start)
        if head_end < 0:
            if len(self._buffer) - start > _LARGEST_MESSAGE_BYTES:
                raise RtspMalformed("a message without an end")
            return None
        length = _LENGTH.search(self._buffer, start, head_end + 2)
        end = head_end + len(_HEAD_END) + (int(length[1]) if length else 0)
        return end if len(self._buffer) >= end else None


class RtspRewrite:
    """One connection. `address` is the server's own: `rtsp://camera.example:554`."""

    def __init__(self, address: str, *, credentials: Credentials | None) -> None:
        self._address = address.encode()
        self._credentials = credentials
        self._upwards, self._downwards = _Messages(), _Messages()
        self._challenge: tuple[str, dict[str, str]] | None = None
        self._last = b""
        self._has_answered = False

    def to_server(self, chunk: bytes) -> bytes:
        """Raises RtspMalformed."""
        return b"".join(self._request(message) for message in self._upwards.feed(chunk))

    def to_ffmpeg(self, chunk: bytes) -> tuple[bytes, bytes]:
        """What goes on to FFmpeg, and what goes back to the server. Raises RtspRefused, RtspMalformed."""
        onwards, back = b"", b""
        for message in self._downwards.feed(chunk):
            answer = b"" if message.startswith(_FRAME) else self._answer(message)
            back += answer
            onwards += b"" if answer else message
        return onwards, back

    def _request(self, message: bytes) -> bytes:
        if message.startswith(_FRAME):
            return message
        self._last, self._has_answered = _LOOPBACK.sub(lambda _: self._address, message), False
        return self._authorized(self._last)

    def _answer(self, message: bytes) -> bytes:
        """The request once more, where the server wants to know who asks; nothing for all other replies."""
        code = _checked_status(message)
        if 300 <= code < 400:
            raise RtspRefused("its server redirects, which is not followed")
        if code != 401:
            return b""
        found = _CHALLENGE.findall(message)
        if self._credentials is None or self._has_answered or not found:
            raise RtspRefused("it demands a login (401)")
        self._has_answered = True
        self._challenge = _strongest(found)
        return self._authorized(self._last)

    def _authorized(self, message: bytes) -> bytes:
        if self._challenge is None or self._credentials is None:
            return message
        method, address = message.split(b" ", 2)[:2]
        line = _authorization(
            self._challenge, self._credentials, method=method.decode(), address=address.decode()
        )
        head, _, rest = message.partition(b"\r\n")
        return head + b"\r\nAuthorization: " + line.encode() + b"\r\n" + rest


def _checked_status(message: bytes) -> int:
    """The status of a reply, 0 for a request of the server. Raises RtspMalformed.

    FFmpeg is lenient: it ends lines at a bare LF, skips spaces, takes the last of two lengths, and a line that
    begins with `$` for a frame. A redirection in such disguise would reach it.
    """
    first, *headers = message[: message.index(_HEAD_END)].split(b"\r\n")
    status = _STATUS.fullmatch(first)
    if status is None and not _SERVER_REQUEST.fullmatch(first):
        raise RtspMalformed("what its server sends is not RTSP/1.0")
    if not all(_HEADER.fullmatch(header) for header in headers):
        raise RtspMalformed("a header that cannot be read")
    lengths = [header for header in headers if header.lower().startswith(b"content-length")]
    if len(lengths) != len(_LENGTH.findall(message, 0, message.index(_HEAD_END) + 2)) or len(lengths) > 1:
        raise RtspMalformed("a body of unclear length")
    return int(status[1]) if status else 0


def _strongest(found: list[tuple[bytes, bytes]]) -> tuple[str, dict[str, str]]:
    scheme, text = max(found, key=lambda each: each[0].lower() == b"digest")
    pairs = {name.lower(): quoted or plain for name, quoted, plain in _PAIR.findall(text.decode("latin-1"))}
    return scheme.decode().lower(), pairs


def _authorization(
    challenge: tuple[str, dict[str, str]], credentials: Credentials, *, method: str, address: str
) -> str:
    scheme, asked = challenge
    if scheme == "basic":
        return "Basic " + base64.b64encode(f"{credentials.user}:{credentials.password}".encode()).decode()
    realm, nonce = asked.get("realm", ""), asked.get("nonce", "")
    secret = _md5(f"{credentials.user}:{realm}:{credentials.password}")
    wanted = _md5(f"{method}:{address}")
    named = f'username="{credentials.user}", realm="{realm}", nonce="{nonce}", uri="{address}"'
    if "qop" not in asked:
        return f'Digest {named}, response="{_md5(f"{secret}:{nonce}:{wanted}")}"'
    response = _md5(f"{secret}:{nonce}:00000001:{credentials.nonce}:auth:{wanted}")
    return f'Digest {named}, qop=auth, nc=00000001, cnonce="{credentials.nonce}", response="{response}"'


def _md5(text: str) -> str:
    """The protocol's own digest; it protects nothing of ours."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
