"""One HLS source over HTTP: its playlist, the chosen variant, and whole segments, decrypted and examined.

Every failure leaves as a `FetchFailed` with what the tracker must know; when to try again is the tracker's business.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from ingest.domain.actions import FailureKind, FetchFailure
from ingest.domain.media_body import MediaBody, NotMedia, examine
from ingest.domain.playlist import (
    MICROSECONDS,
    ByteRange,
    EncryptionKey,
    InitSection,
    MediaPlaylist,
    MultivariantPlaylist,
    NotAPlaylist,
    Segment,
    choose_variant,
    parse_playlist,
)
from ingest.workflow.ports import FetchedSegment, FetchFailed, Http
from shared.errors import PermanentError, PipelineError
from shared.http_client import (
    KEY_LIMITS,
    SEGMENT_LIMITS,
    AnswerMalformed,
    HttpTimeout,
    Limits,
    Response,
    SizeMismatch,
    Truncated,
)

PLAYLIST_LIMITS = Limits(max_bytes=4 * 1024 * 1024, total_s=10.0)
INIT_LIMITS = Limits(max_bytes=1024 * 1024, total_s=10.0)
SHORTEST_FETCH_S = 0.5
LONGEST_FETCH_S = 10.0
SLOWEST_PACE = 5.0  # a segment may take so many times its own length, where that is more
REMEMBERED = 8
INLINE_BYTES = 256 * 1024
AES_BLOCK_BITS = 128


class NoSource:
    """Stands for a source that could not be opened: its run ends before anything is asked of it."""

    async def playlist(self, *, from_sequence: int) -> MediaPlaylist:
        raise FetchFailed(_failure(FailureKind.REFUSED, "the source could not be opened"))

    async def segment(self, segment: Segment, *, epoch: int, left_s: float) -> FetchedSegment:
        raise FetchFailed(_failure(FailureKind.REFUSED, "the source could not be opened"))

    def forget_variant(self) -> None:
        """There is none."""

    def refuse_delta(self) -> None:
        """Nothing is loaded."""

    async def close(self) -> None:
        """Nothing is held."""


class HlsSource:
    """Remembers the variant that was chosen, and the last keys and init sections."""

    def __init__(self, http: Http, url: str, *, headers: Mapping[str, str], target_height: int) -> None:
        """`headers` go to the origin of `url` only: they may hold credentials."""
        self._http = http
        self._url = url
        self._headers = headers
        self._target_height = target_height
        self._media_url = ""
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    def forget_variant(self) -> None:
        """Ask the original address again at the next load."""
        self._media_url = ""

    def refuse_delta(self) -> None:
        """Load without the query that asks for delta updates."""
        self._media_url = _without_hls_queries(self._media_url or self._url)

    async def close(self) -> None:
        """Nothing is held: connections belong to the client."""

    async def playlist(self, *, from_sequence: int) -> MediaPlaylist:
        """The media playlist, by way of the multivariant one where there is one. Raises FetchFailed."""
        answer = await self._playlist_text(self._media_url or self._url)
        try:
            parsed = _parsed(answer, from_sequence=from_sequence)
            if isinstance(parsed, MediaPlaylist):
                return parsed
            self._media_url = choose_variant(parsed, target_height=self._target_height).location.url
            answer = await self._playlist_text(self._media_url)
            parsed = _parsed(answer, from_sequence=from_sequence)
        except NotAPlaylist as error:
            raise FetchFailed(_failure(FailureKind.NOT_A_PLAYLIST)) from error
        except PermanentError as error:
            raise FetchFailed(_refused(error)) from error
        if isinstance(parsed, MediaPlaylist):
            return parsed
        raise FetchFailed(_failure(FailureKind.REFUSED, "a variant is a list of variants again"))

    async def segment(self, segment: Segment, *, epoch: int, left_s: float) -> FetchedSegment:
        """Body, decrypted and examined. `left_s` is how long it can still be had. Raises FetchFailed.

        An init section is kept for as long as `epoch` and the count of discontinuities stay: an encoder that starts
        anew may put another one under the same address.
        """
        longest_s = max(LONGEST_FETCH_S, SLOWEST_PACE * segment.duration_us / MICROSECONDS)
        total_s = min(longest_s, max(SHORTEST_FETCH_S, left_s))
        limits = replace(SEGMENT_LIMITS, total_s=total_s)
        body = await self._bytes(segment.location.url, limits=limits, byte_range=segment.byte_range)
        if segment.key is not None:
            body = await self._decrypted(body, segment.key, sequence=segment.sequence)
        init_name = _init_name(segment, epoch=epoch)
        init = await self._init(init_name, segment.init, segment.key) if segment.init else None
        try:
            media, digest = await _judged(body, listed_us=segment.duration_us, init=init)
        except NotMedia as error:
            self._forget(segment.key.location.url if segment.key else "", init_name)
            raise FetchFailed(_failure(FailureKind.CORRUPT, str(error))) from error
        return FetchedSegment(body=body, sha256=digest, media=media, init=init)

    async def _playlist_text(self, url: str) -> Response:
        try:
            return await self._get(url, limits=PLAYLIST_LIMITS)
        except FetchFailed as failed:
            if failed.failure.kind is FailureKind.CORRUPT:
                raise FetchFailed(replace(failed.failure, kind=FailureKind.NETWORK)) from failed
            raise

    async def _init(self, name: str, init: InitSection, key: EncryptionKey | None) -> bytes:
        known = self._kept.get(name)
        if known is not None:
            return known
        body = await self._bytes(init.location.url, limits=INIT_LIMITS, byte_range=init.byte_range)
        if key is not None and key.iv is not None and body[4:8] not in (b"ftyp", b"styp", b"moov"):
            body = await self._decrypted(body, key, sequence=0)
        return self._keep(name, body)

    async def _decrypted(self, body: bytes, key: EncryptionKey, *, sequence: int) -> bytes:
        url = key.location.url
        secret = self._kept.get(url) or self._keep(url, await self._bytes(url, limits=KEY_LIMITS))
        try:
            return await asyncio.to_thread(_decrypt, body, secret, key.iv_for(sequence))
        except ValueError as error:
            self._kept.pop(url, None)
            raise FetchFailed(_failure(FailureKind.CORRUPT, "the key does not fit the segment")) from error

    def _keep(self, name: str, body: bytes) -> bytes:
        self._kept[name] = body
        if len(self._kept) > REMEMBERED:
            self._kept.popitem(last=False)
        return body

    def _forget(self, *names: str) -> None:
        for name in names:
            self._kept.pop(name, None)

    async def _bytes(self, url: str, *, limits: Limits, byte_range: ByteRange | None = None) -> bytes:
        if byte_range is None:
            body = (await self._get(url, limits=limits)).body
        else:
            body = await self._part(url, byte_range, limits=limits)
        if not body:
            raise FetchFailed(_failure(FailureKind.CORRUPT, "an empty body"))
        return body

    async def _part(self, url: str, wanted: ByteRange, *, limits: Limits) -> bytes:
        """Servers that know no ranges send the whole; then the part is cut out here."""
        last = wanted.offset + wanted.length - 1
        answer = await self._get(url, limits=limits, byte_range=(wanted.offset, last))
        body = answer.body if answer.status == 206 else answer.body[wanted.offset : last + 1]
        if len(body) != wanted.length:
            raise FetchFailed(_failure(FailureKind.CORRUPT, f"{len(body)} bytes of {wanted.length}"))
        return body

    async def _get(self, url: str, *, limits: Limits, byte_range: tuple[int, int] | None = None) -> Response:
        headers = self._headers if _origin(url) == _origin(self._url) else {}
        try:
            answer = await self._http.get(url, limits=limits, headers=headers, byte_range=byte_range)
        except PipelineError as error:
            raise FetchFailed(_from_error(error)) from error
        if not 200 <= answer.status < 300:
            raise FetchFailed(FetchFailure(kind=FailureKind.STATUS, status=answer.status))
        return answer


async def _judged(body: bytes, *, listed_us: int, init: bytes | None) -> tuple[MediaBody, str]:
    """Examined and hashed: a large body in a thread, a small one at once, for the way to a thread costs more."""
    if len(body) > INLINE_BYTES:
        return await asyncio.to_thread(_judge, body, listed_us, init)
    return _judge(body, listed_us, init)


def _judge(body: bytes, listed_us: int, init: bytes | None) -> tuple[MediaBody, str]:
    return examine(body, listed_us=listed_us, init=init), hashlib.sha256(body).hexdigest()


def _init_name(segment: Segment, *, epoch: int) -> str:
    identity = segment.init.identity if segment.init else ""
    return f"init {epoch} {segment.discontinuity_sequence} {identity}"


def _parsed(answer: Response, *, from_sequence: int) -> MediaPlaylist | MultivariantPlaylist:
    text = answer.body.decode("utf-8", errors="replace")
    return parse_playlist(text, url=answer.url, from_sequence=from_sequence)


def _failure(kind: FailureKind, detail: str = "") -> FetchFailure:
    return FetchFailure(kind=kind, detail=detail)


def _refused(error: PermanentError) -> FetchFailure:
    return _failure(FailureKind.REFUSED, str(error))


def _from_error(error: PipelineError) -> FetchFailure:
    """The failure that an error of the client is; what is permanent there is permanent here."""
    if isinstance(error, SizeMismatch | Truncated | AnswerMalformed):
        return _failure(FailureKind.CORRUPT, str(error))
    if isinstance(error, PermanentError):
        return _refused(error)
    kind = FailureKind.TIMEOUT if isinstance(error, HttpTimeout) else FailureKind.NETWORK
    return _failure(kind, str(error))


def _decrypt(body: bytes, secret: bytes, iv: bytes) -> bytes:
    """AES-128 in CBC mode with PKCS7 padding (RFC 8216, 5.2). Raises ValueError."""
    decryptor = Cipher(AES128(secret), CBC(iv)).decryptor()
    padded = decryptor.update(body) + decryptor.finalize()
    unpadder = PKCS7(AES_BLOCK_BITS).unpadder()
    return unpadder.update(padded) + unpadder.finalize()


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.rpartition("@")[2]


def _without_hls_queries(url: str) -> str:
    parts = urlsplit(url)
    kept = [
        (name, value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if not name.startswith("_HLS_")
    ]
    return urlunsplit(parts._replace(query=urlencode(kept)))
