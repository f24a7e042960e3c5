"""One live stream of 100ms as a webhook, its API or our own row tells of it, and when two of these are the same one.

Beam ids (webhooks) and live-stream ids (API) have no documented relation, so room, session, address and time decide.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from urllib.parse import urlsplit

from shared.ids import StreamId

# Two addresses, one stream: as far as the two starts that 100ms tells of it may lie apart.
SAME_START = timedelta(seconds=15)
# One address that serves stream after stream of a room (`enableStaticUrl`), or none that is known.
NEAR_START = timedelta(seconds=60)
_DATED = re.compile(r"/\d{10,}(/|$)")


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """What is known of one live stream; an empty string or None is what its source did not tell."""

    room_id: str
    session_id: str = ""
    url_key: str = ""
    started_at: datetime | None = None
    stopped_at: datetime | None = None
    beam_id: str = ""
    live_id: str = ""


@dataclass(frozen=True, kw_only=True)
class KnownStream:
    """A stream of ours. `is_over`: it was asked to stop, or has its final state.

    `is_own`: by the connection in question. Others of the organization may share its workspace.
    """

    stream_id: StreamId
    sighting: Sighting
    is_over: bool
    absences: int
    created_at: datetime
    is_own: bool = True


def url_key(url: str | None) -> str:
    """What two addresses of one playlist share, and whether each stream of the room has an address of its own.

    Documented forms: `/beam/<customer>/<room>/<yyyymmdd>/<epoch_ms>/master.m3u8`, and a static one without a date.
    """
    if not url:
        return ""
    parts = urlsplit(url)
    kind = "dated" if _DATED.search(parts.path) else "fixed"
    place = f"{parts.netloc.rpartition('@')[2].lower()}{parts.path}"
    return f"{kind}:{sha256(place.encode()).hexdigest()}"


def is_same(one: Sighting, other: Sighting) -> bool:
    """Whether both tell of one live stream, as far as either says anything."""
    if not one.room_id or one.room_id != other.room_id:
        return False
    if one.session_id and other.session_id and one.session_id != other.session_id:
        return False
    if _began_after(one, other) or _began_after(other, one):
        return False
    if not (one.url_key and other.url_key):
        return _starts_within(one, other, NEAR_START, unknown=True)
    if one.url_key != other.url_key:
        return _starts_within(one, other, SAME_START, unknown=False)
    return one.url_key.startswith("dated:") or _starts_within(one, other, NEAR_START, unknown=True)


def best_match(wanted: Sighting, known: Iterable[KnownStream]) -> KnownStream | None:
    """The stream of ours that is the same one: by address, then one that runs, then our own, then the nearest start."""
    found = [each for each in known if is_same(each.sighting, wanted)]
    return min(found, key=lambda each: _distance(each, wanted), default=None)


def _distance(known: KnownStream, wanted: Sighting) -> tuple[bool, bool, bool, float, str]:
    other_address = not wanted.url_key or known.sighting.url_key != wanted.url_key
    started = (known.sighting.started_at, wanted.started_at)
    apart_s = abs((started[0] - started[1]).total_seconds()) if started[0] and started[1] else 0.0
    return other_address, known.is_over, not known.is_own, apart_s, known.stream_id


def _began_after(one: Sighting, other: Sighting) -> bool:
    """Whether one began when the other had ended."""
    return bool(one.started_at and other.stopped_at and one.started_at > other.stopped_at)


def _starts_within(one: Sighting, other: Sighting, tolerance: timedelta, *, unknown: bool) -> bool:
    if one.started_at is None or other.started_at is None:
        return unknown
    return abs(one.started_at - other.started_at) <= tolerance
