"""Instant playback: signed links to a highlight's playlist, and the playlist itself over freshly signed segments."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol
from urllib.parse import urlencode

from gateway.domain.hls_playlist import covering, keys_of, media_playlist
from gateway.domain.playback_link import LinkState, judge_link, sign_link
from gateway.domain.refusals import Forbidden, Gone, NotFound
from gateway.workflow.reads import Reader
from shared.clock import Clock
from shared.events import SegmentRef
from shared.ids import HighlightId, OrganizationId
from shared.object_store import ObjectMissing

LONGEST_AGE_S = 300
AGE_SHARE = 4  # a kept playlist is at most a quarter as old as the addresses in it live
VIEWINGS = 2  # a player may pause for as long as the whole lasts


@dataclass(frozen=True, kw_only=True)
class PlayableHighlight:
    """What a playlist is made of; [start_us, end_us) on the stream's clock."""

    start_us: int
    end_us: int
    segments: tuple[SegmentRef, ...]


@dataclass(frozen=True, kw_only=True)
class Playlist:
    """`max_age_s` is how long it may be kept; the same `tag` says that a kept one is still good."""

    text: str
    tag: str
    max_age_s: int


class PlaybackTables(Protocol):
    """One transaction of one organization, which only reads."""

    async def playable(self, highlight_id: HighlightId) -> PlayableHighlight | None:
        """None also for a highlight that was retracted."""
        ...


class SegmentStore(Protocol):
    """The part of an object store that playback uses; errors as there."""

    async def get_range(self, key: str, start: int, end: int) -> bytes: ...

    async def signed_url(self, key: str, *, expires_s: int) -> str: ...


class PlaybackLinks:
    """Mints the addresses under which `routes/playback.py` serves playlists."""

    def __init__(self, *, base_url: str, secret: str, clock: Clock) -> None:
        """`base_url` ends before `/highlights`, without a slash."""
        self._base_url = base_url
        self._secret = secret
        self._clock = clock

    def playback_url(
        self, organization_id: OrganizationId, highlight_id: HighlightId, *, expires_s: int
    ) -> str:
        """An address that serves the playlist to anyone who holds it, for `expires_s` seconds."""
        expires = int((self._clock() + timedelta(seconds=expires_s)).timestamp())
        signature = sign_link(organization_id, highlight_id, expires=expires, secret=self._secret)
        query = urlencode({"organization": organization_id, "expires": expires, "signature": signature})
        return f"{self._base_url}/highlights/{highlight_id}/playlist.m3u8?{query}"


class Playback:
    def __init__(
        self,
        *,
        read: Reader[PlaybackTables],
        store: SegmentStore,
        secret: str,
        clock: Clock,
        expires_s: int,
    ) -> None:
        """`expires_s` is how long the segments of a playlist can be fetched, or longer where it plays longer."""
        self._read = read
        self._store = store
        self._secret = secret
        self._clock = clock
        self._expires_s = expires_s

    async def playlist(
        self, organization_id: OrganizationId, highlight_id: HighlightId, *, expires: int, signature: str
    ) -> Playlist:
        """The highlight as it is now, also where it was revised since the link was made.

        Raises Forbidden for a wrong or old link, NotFound where there is no such highlight any more, Gone where its
        segments are not kept any more, and StoreUnavailable.
        """
        self._check(organization_id, highlight_id, expires=expires, signature=signature)
        found = await self._read(organization_id, lambda tables: tables.playable(highlight_id))
        if found is None:
            raise NotFound("Highlight not found")
        segments = covering(found.segments, start_us=found.start_us, end_us=found.end_us)
        await self._check_kept(segments)
        return await self._written(segments, start_us=found.start_us)

    def _check(
        self, organization_id: OrganizationId, highlight_id: HighlightId, *, expires: int, signature: str
    ) -> None:
        state = judge_link(
            organization_id,
            highlight_id,
            expires=expires,
            signature=signature,
            secret=self._secret,
            now_s=self._clock().timestamp(),
        )
        if state is LinkState.EXPIRED:
            raise Forbidden("The link has expired: read the highlight again for a new one")
        if state is LinkState.FORGED:
            raise Forbidden("The link is not valid")

    async def _check_kept(self, segments: Sequence[SegmentRef]) -> None:
        """Retention takes the oldest first, or a stream as a whole: the two ends tell."""
        if not segments:
            raise _gone()
        try:
            await asyncio.gather(
                *(self._store.get_range(each.key, 0, 1) for each in (segments[0], segments[-1]))
            )
        except ObjectMissing as error:
            raise _gone() from error

    async def _written(self, segments: Sequence[SegmentRef], *, start_us: int) -> Playlist:
        last = segments[-1]
        length_s = (last.start_us + last.duration_us - segments[0].start_us) // 1_000_000
        expires_s = max(self._expires_s, VIEWINGS * length_s)
        urls = {key: await self._store.signed_url(key, expires_s=expires_s) for key in keys_of(segments)}
        return Playlist(
            text=media_playlist(segments, start_us=start_us, url_of=urls.__getitem__),
            tag=self._tag(segments, start_us=start_us, period_s=max(1, expires_s // AGE_SHARE)),
            max_age_s=min(LONGEST_AGE_S, expires_s // AGE_SHARE),
        )

    def _tag(self, segments: Sequence[SegmentRef], *, start_us: int, period_s: int) -> str:
        """Changes with the content, and with time: a kept playlist must not outlive the addresses in it."""
        period = int(self._clock().timestamp()) // period_s
        plain = media_playlist(segments, start_us=start_us, url_of=str)
        return hashlib.sha256(f"{period}\n{plain}".encode()).hexdigest()[:32]


def _gone() -> Gone:
    return Gone("The media of this highlight is not kept any more; its clip may still be")
