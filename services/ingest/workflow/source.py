"""One HLS source over HTTP: its playlist, the chosen variant, and whole segments, decrypted and examined.

Every failure leaves as a `FetchFailed` with what the tracker must know; when to try again is the tracker's business.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from types import MappingProxyType
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import structlog
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from ingest.domain.actions import FailureKind, FetchFailure
from ingest.domain.freshness import Freshness
from ingest.domain.media_body import MediaBody, NotMedia, examine
from ingest.domain.playlist import (
    MICROSECONDS,
    ByteRange,
    EncryptionKey,
    InitSection,
    MediaPlaylist,
    MultivariantPlaylist,
    NotAPlaylist,
    NoUsableVariant,
    PlaylistReader,
    Segment,
    Variant,
    choose_variant,
)
from ingest.domain.sound import rendition_of
from ingest.workflow.ports import FetchedSegment, FetchFailed, Http
from ingest.workflow.sound import Mixer, SoundTrack
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

log = structlog.get_logger()

PLAYLIST_LIMITS = Limits(max_bytes=4 * 1024 * 1024, total_s=10.0)
INIT_LIMITS = Limits(max_bytes=1024 * 1024, total_s=10.0)
SHORTEST_FETCH_S = 0.5
LONGEST_FETCH_S = 10.0
SLOWEST_PACE = 5.0  # a segment may take so many times its own length, where that is more
REMEMBERED = 8
_REMEMBERED_SUSPECTS = 64
_SHORT_BY_NATURE = 3  # so many segments were the same when they were asked for again
INLINE_BYTES = 256 * 1024
# A thread gives the interpreter away and has to win it back, which costs more than hashing what most segments have.
INLINE_BODY_BYTES = 2 * 1024 * 1024
AES_BLOCK_BITS = 128
CAPTION_LIMITS = Limits(max_bytes=512 * 1024, total_s=10.0)
_NONE: Final[Mapping[str, str]] = MappingProxyType({})
_NOT_MODIFIED: Final = 304
_VALIDATORS: Final = (("etag", "If-None-Match"), ("last-modified", "If-Modified-Since"))
_NEWEST: Final = 2
_FINGERPRINT_BYTES: Final = 4096
_PATIENCE_WITH_PROMISES: Final = 2
_LONGEST_BLOCK_S: Final = 30.0
_BLOCK_PLAY_S: Final = 2.0


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


@dataclass(frozen=True, kw_only=True)
class VariantPolicy:
    """A variant that was left is tried again after `penalty_s`, or at a discontinuity after `least_penalty_s`."""

    penalty_s: float = 300.0
    least_penalty_s: float = 60.0


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    """The last reading of a media playlist, to be told again while the server says that nothing changed."""

    url: str
    from_sequence: int
    fingerprint: int
    validators: Mapping[str, str]
    playlist: MediaPlaylist

    def is_enough(self, from_sequence: int) -> bool:
        """Whether the reading holds all that another one from there on would."""
        return self.from_sequence <= from_sequence and not self.playlist.truncated


class HlsSource:
    """Remembers the variant that was chosen, the last reading of its playlist, and the last keys and init sections."""

    def __init__(
        self,
        http: Http,
        url: str,
        *,
        headers: Mapping[str, str],
        target_height: int,
        variant: str = "",
        policy: VariantPolicy | None = None,
        now_s: Callable[[], float] = monotonic,
        freshness: Freshness | None = None,
        mixer: Mixer | None = None,
    ) -> None:
        """`headers` go to the origin of `url` only: they may hold credentials. `variant` is taken if it is there.

        `freshness` hides what another stream left at the address; absent where each stream has its own.
        Without a `mixer`, sound that has a list of its own is not looked for.
        """
        self._mixer = mixer
        self._sound: SoundTrack | None = None
        self._sound_name = ("", "")
        self._freshness = freshness
        self._http = http
        self._url = url
        self._headers = headers
        self._target_height = target_height
        self._policy = policy or VariantPolicy()
        self._now_s = now_s
        self._media_url = ""
        self._master: MultivariantPlaylist | None = None
        self._variant: Variant | None = None
        self._pinned = variant
        self._left: dict[str, float] = {}
        self._reader = PlaylistReader()
        self._loaded: _Loaded | None = None
        self._broken_promises = 0
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._suspects: OrderedDict[str, str] = OrderedDict()
        self._short_count = 0

    def forget_variant(self) -> None:
        """Ask the original address again at the next load."""
        self._media_url = ""

    def leave_variant(self) -> bool:
        """Take the next best at the next load; without one, forgive all that was left and answer False."""
        if self._master is None or self._variant is None:
            return False
        self._pinned, self._media_url = "", ""
        others = {each.name for each in self._master.variants if not each.location.refusal} - {
            self._variant.name,
            *self._left,
        }
        if not others:
            self._left.clear()
            return False
        self._left[self._variant.name] = self._now_s()
        return True

    def refuse_delta(self) -> None:
        """Load without the query that asks for delta updates."""
        self._media_url = without_hls_queries(self._media_url or self._url)

    async def close(self) -> None:
        """Connections belong to the client."""
        if self._sound is not None:
            self._sound.close()

    def move_to(self, url: str, *, headers: Mapping[str, str]) -> None:
        """The same source under a fresh address."""
        self._url, self._headers = url, headers

    @property
    def captions_url(self) -> str:
        """Where the captions of the variant are listed; empty when it has none, or none that may be read."""
        group = self._variant.subtitles_group if self._variant else ""
        found = [] if self._master is None or not group else self._master.renditions
        fitting = [each for each in found if each.kind == "SUBTITLES" and each.group == group]
        listed = [each for each in fitting if each.location is not None and not each.location.refusal]
        best = max(listed, key=lambda each: each.default, default=None)
        return best.location.url if best is not None and best.location is not None else ""

    async def playlist(self, *, from_sequence: int) -> MediaPlaylist:
        """The media playlist, by way of the multivariant one where there is one. Raises FetchFailed."""
        if self._sound is not None and self._sound.wants_addresses:
            self._media_url = ""
        if self._is_time_to_return():
            self._pinned, self._media_url = "", ""
        try:
            parsed = await self._load(self._media_url or self._url, from_sequence)
            if isinstance(parsed, MultivariantPlaylist):
                before = self._variant
                self._choose(parsed)
                is_same = before is not None and before.name == self._variant_name
                parsed = await self._load(self._media_url, from_sequence if is_same else 0)
        except NotAPlaylist as error:
            raise FetchFailed(_failure(FailureKind.NOT_A_PLAYLIST)) from error
        except PermanentError as error:
            raise FetchFailed(_refused(error)) from error
        if isinstance(parsed, MediaPlaylist):
            shown = self._freshness.shown(parsed) if self._freshness else parsed
            return self._described(shown)
        raise FetchFailed(_failure(FailureKind.REFUSED, "a variant is a list of variants again"))

    @property
    def _variant_name(self) -> str:
        return self._variant.name if self._variant else ""

    def _choose(self, master: MultivariantPlaylist) -> None:
        """The one that was chosen before, as long as it is offered; else the best that was not left."""
        self._master = master
        pinned = [v for v in master.variants if v.name == self._pinned and not v.location.refusal]
        chosen = pinned[0] if pinned else self._best(master)
        if chosen.name != self._variant_name:
            self._reader, self._loaded, self._broken_promises = PlaylistReader(), None, 0
        self._variant, self._pinned, self._media_url = chosen, chosen.name, chosen.location.url
        self._listen(master, chosen)

    def _listen(self, master: MultivariantPlaylist, chosen: Variant) -> None:
        """To the sound that goes with the variant, where it has a list of its own; variants may share one."""
        found = rendition_of(master, chosen) if self._mixer is not None else None
        if found is None or found.location is None or self._mixer is None:
            self._quiet()
            return
        url, name = found.location.url, (found.group, found.name)
        headers = self._headers if _origin(url) == _origin(self._url) else _NONE
        if self._sound is not None and self._sound_name == name:
            self._sound.move_to(url, headers=headers)
            return
        self._quiet()
        source = HlsSource(self._http, url, headers=headers, target_height=0, now_s=self._now_s)
        self._sound, self._sound_name = SoundTrack(source, self._mixer, now_s=self._now_s), name

    def _quiet(self) -> None:
        if self._sound is not None:
            self._sound.close()
        self._sound = None

    def _best(self, master: MultivariantPlaylist) -> Variant:
        try:
            return choose_variant(master, target_height=self._target_height, excluding=self._left)
        except NoUsableVariant:
            self._left.clear()
            return choose_variant(master, target_height=self._target_height)

    def _is_time_to_return(self) -> bool:
        """Up again when the variants that were left had their time, at once at a discontinuity after less."""
        if not self._left or not self._media_url:
            return False
        last = self._loaded.playlist.segments[-_NEWEST:] if self._loaded else ()
        breaks = any(each.discontinuity for each in last)
        penalty_s = self._policy.least_penalty_s if breaks else self._policy.penalty_s
        if self._now_s() - max(self._left.values()) < penalty_s:
            return False
        self._left.clear()
        return True

    def _described(self, parsed: MediaPlaylist) -> MediaPlaylist:
        others = len(self._master.variants) > 1 if self._master is not None and self._variant else False
        blocks = parsed.blocks_reload and self._broken_promises < _PATIENCE_WITH_PROMISES
        if not others and not self._variant_name and blocks == parsed.blocks_reload:
            return parsed
        return replace(parsed, variant=self._variant_name, has_other_variants=others, blocks_reload=blocks)

    async def _load(self, url: str, from_sequence: int) -> MediaPlaylist | MultivariantPlaylist:
        known = self._loaded
        if known is None or known.url != url or known.playlist.ended:
            return await self._load_plainly(url, from_sequence, validators={})
        if known.playlist.blocks_reload and self._broken_promises < _PATIENCE_WITH_PROMISES:
            return await self._load_when_new(known, from_sequence)
        validators = known.validators if known.is_enough(from_sequence) else {}
        return await self._load_plainly(url, from_sequence, validators=validators)

    async def _load_plainly(
        self, url: str, from_sequence: int, *, validators: Mapping[str, str]
    ) -> MediaPlaylist | MultivariantPlaylist:
        answer = await self._playlist_text(url, validators=validators)
        if answer.status == _NOT_MODIFIED and self._loaded is not None:
            return self._loaded.playlist
        return await self._read(answer, url, from_sequence)

    async def _load_when_new(
        self, known: _Loaded, from_sequence: int
    ) -> MediaPlaylist | MultivariantPlaylist:
        """The server answers when the next segment is there (RFC 8216bis, 6.2.5.2), if it keeps its word."""
        wanted = known.playlist.last_sequence + 1
        wait_s = min(_LONGEST_BLOCK_S, 3 * known.playlist.target_us / MICROSECONDS + _BLOCK_PLAY_S)
        limits = replace(PLAYLIST_LIMITS, total_s=wait_s, first_byte_s=wait_s)
        try:
            answer = await self._playlist_text(_with_query(known.url, f"_HLS_msn={wanted}"), limits=limits)
            parsed = await self._read(answer, known.url, from_sequence)
        except (FetchFailed, NotAPlaylist):
            self._broken_promises = _PATIENCE_WITH_PROMISES
            return await self._load_plainly(known.url, from_sequence, validators={})
        if isinstance(parsed, MediaPlaylist) and parsed.last_sequence < wanted and not parsed.ended:
            self._broken_promises += 1
        return parsed

    async def _read(
        self, answer: Response, url: str, from_sequence: int
    ) -> MediaPlaylist | MultivariantPlaylist:
        """What was read before, byte for byte, is not parsed again. Long lists are read beside the loop."""
        known, fingerprint = self._loaded, _fingerprint(answer.body)
        is_same = known is not None and (known.url, known.fingerprint) == (url, fingerprint)
        if known is not None and is_same and known.is_enough(from_sequence):
            return known.playlist
        text = answer.body.decode("utf-8", errors="replace")
        base_url = without_hls_queries(answer.url)
        read = partial(self._reader.read, text, url=base_url, from_sequence=from_sequence)
        parsed = await asyncio.to_thread(read) if len(text) > INLINE_BYTES else read()
        if isinstance(parsed, MediaPlaylist):
            self._loaded = _Loaded(
                url=url,
                from_sequence=from_sequence,
                fingerprint=fingerprint,
                validators=_validators(answer),
                playlist=parsed,
            )
        return parsed

    async def segment(self, segment: Segment, *, epoch: int, left_s: float) -> FetchedSegment:
        """Body, decrypted and examined. `left_s` is how long it can still be had. Raises FetchFailed.

        An init section is kept for as long as `epoch` and the count of discontinuities stay: an encoder that starts
        anew may put another one under the same address.
        """
        until_s = self._now_s() + left_s
        longest_s = max(LONGEST_FETCH_S, SLOWEST_PACE * segment.duration_us / MICROSECONDS)
        total_s = min(longest_s, max(SHORTEST_FETCH_S, left_s))
        body, init = await self.clear(segment, epoch=epoch, limits=replace(SEGMENT_LIMITS, total_s=total_s))
        try:
            media, digest = await _judged(body, listed_us=segment.duration_us, init=init)
        except NotMedia as error:
            self._forget(segment.key.location.url if segment.key else "", _init_name(segment, epoch=epoch))
            raise FetchFailed(_failure(FailureKind.CORRUPT, str(error))) from error
        if media.looks_broken and not self._is_all_there_is(f"{epoch} {segment.sequence}", digest):
            raise FetchFailed(_failure(FailureKind.CORRUPT, f"a body of {len(body)} bytes looks broken"))
        fetched = FetchedSegment(body=body, sha256=digest, media=media, init=init)
        if self._sound is None:
            return fetched
        left_s = until_s - self._now_s()
        return await self._sound.join(fetched, segment=segment, epoch=epoch, left_s=left_s)

    async def clear(self, segment: Segment, *, epoch: int, limits: Limits) -> tuple[bytes, bytes | None]:
        """Body and init section, decrypted and not examined. Raises FetchFailed."""
        body = await self._bytes(segment.location.url, limits=limits, byte_range=segment.byte_range)
        if segment.key is not None:
            body = await self._decrypted(body, segment.key, sequence=segment.sequence)
        init_name = _init_name(segment, epoch=epoch)
        init = await self._init(init_name, segment.init, segment.key) if segment.init else None
        return body, init

    def _is_all_there_is(self, name: str, digest: str) -> bool:
        """A body that looks broken is taken when the same bytes come again; a source whose bodies are all like
        that is not asked twice for ever."""
        if self._short_count >= _SHORT_BY_NATURE:
            return True
        if self._suspects.pop(name, "") == digest:
            self._short_count += 1
            return True
        self._suspects[name] = digest
        if len(self._suspects) > _REMEMBERED_SUSPECTS:
            self._suspects.popitem(last=False)
        return False

    async def _playlist_text(
        self, url: str, *, limits: Limits = PLAYLIST_LIMITS, validators: Mapping[str, str] = _NONE
    ) -> Response:
        try:
            return await self._get(url, limits=limits, extra=validators)
        except FetchFailed as failed:
            if failed.failure.kind is FailureKind.CORRUPT:
                raise FetchFailed(replace(failed.failure, kind=FailureKind.NETWORK)) from failed
            raise

    async def captions(self, url: str) -> Response:
        """A list of captions, or a part of them. Raises FetchFailed."""
        return await self._get(url, limits=CAPTION_LIMITS)

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

    async def _get(
        self,
        url: str,
        *,
        limits: Limits,
        byte_range: tuple[int, int] | None = None,
        extra: Mapping[str, str] = _NONE,
    ) -> Response:
        headers = self._headers if _origin(url) == _origin(self._url) else _NONE
        sent = {**headers, **extra} if extra else headers
        try:
            answer = await self._http.get(url, limits=limits, headers=sent, byte_range=byte_range)
        except PipelineError as error:
            raise FetchFailed(_from_error(error)) from error
        if not 200 <= answer.status < 300 and not (extra and answer.status == _NOT_MODIFIED):
            raise FetchFailed(FetchFailure(kind=FailureKind.STATUS, status=answer.status))
        return answer


async def _judged(body: bytes, *, listed_us: int, init: bytes | None) -> tuple[MediaBody, str]:
    """Examined and hashed: a large body in a thread, a small one at once, for the way to a thread costs more."""
    if len(body) > INLINE_BODY_BYTES:
        return await asyncio.to_thread(_judge, body, listed_us, init)
    return _judge(body, listed_us, init)


def _judge(body: bytes, listed_us: int, init: bytes | None) -> tuple[MediaBody, str]:
    return examine(body, listed_us=listed_us, init=init), hashlib.sha256(body).hexdigest()


def _init_name(segment: Segment, *, epoch: int) -> str:
    identity = segment.init.identity if segment.init else ""
    return f"init {epoch} {segment.discontinuity_sequence} {identity}"


def _fingerprint(body: bytes) -> int:
    """Of length, head and tail: what is new in a list stands in one of them, also in one of megabytes."""
    return hash((len(body), body[:_FINGERPRINT_BYTES], body[-_FINGERPRINT_BYTES:]))


def _validators(answer: Response) -> Mapping[str, str]:
    """What a conditional request needs, where the server gave it."""
    given = {sent: answer.headers.get(name, "") for name, sent in _VALIDATORS}
    return {name: value for name, value in given.items() if value}


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


def _with_query(url: str, query: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=f"{parts.query}&{query}" if parts.query else query))


def without_hls_queries(url: str) -> str:
    """Delivery directives belong to one request: they are no part of an address."""
    if "_HLS_" not in url:
        return url
    parts = urlsplit(url)
    kept = [
        (name, value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if not name.startswith("_HLS_")
    ]
    return urlunsplit(parts._replace(query=urlencode(kept)))
