"""`EXT-X-DATERANGE`: one attribute list in, a frozen value out; and what 100ms puts into it.

Addresses in a range (of assets to be played) stay text: nothing here or behind it fetches them.
"""

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isfinite
from typing import Any, Final

from ingest.domain.playlist import MICROSECONDS, parse_attributes, parse_date_time

LONGEST_LINE: Final = 16 * 1024
_KEPT_ATTRIBUTES: Final = 32
_LONGEST_ID: Final = 200
_LONGEST_TEXT: Final = 2000
_LONGEST_RANGE_S: Final = 86_400.0
_PAYLOAD: Final = "X-100MSLIVE-PAYLOAD"
_AD_CLASSES: Final = ("twitch-stitched-ad", "twitch-ad")
_INTERSTITIAL: Final = "com.apple.hls.interstitial"


@dataclass(frozen=True, kw_only=True)
class DateRange:
    """A stretch of wall clock with a meaning. Lengths are None where the playlist does not tell them (yet)."""

    id: str
    class_name: str
    start_at: datetime
    end_at: datetime | None = None
    duration_us: int | None = None
    planned_us: int | None = None
    is_out: bool = False
    is_in: bool = False
    client: tuple[tuple[str, str], ...] = ()

    @property
    def length_us(self) -> int | None:
        """As told by its end, its duration, or what was planned, in this order."""
        if self.end_at is not None:
            return max(0, round((self.end_at - self.start_at) / timedelta(microseconds=1)))
        return self.duration_us if self.duration_us is not None else self.planned_us

    @property
    def is_interstitial(self) -> bool:
        return self.class_name == _INTERSTITIAL

    @property
    def is_ad(self) -> bool:
        """Whether it marks media that is no part of the programme."""
        name = self.class_name.lower()
        return self.is_out or self.is_interstitial or name in _AD_CLASSES or "slate" in name

    @property
    def replaced_us(self) -> int | None:
        """How much of the programme an interstitial covers: nothing where it is inserted (RFC 8216bis, D.2)."""
        offset = dict(self.client).get("X-RESUME-OFFSET")
        return self.length_us if offset is None else _seconds_us(offset)


def parse_date_range(value: str) -> DateRange | None:
    """None without an id or a readable start, or when it is absurdly long."""
    if len(value) > LONGEST_LINE:
        return None
    attributes = parse_attributes(_storable(value))
    start_at = parse_date_time(attributes.get("START-DATE", ""))
    name = attributes.get("ID", "")[:_LONGEST_ID]
    if start_at is None or not name:
        return None
    return DateRange(
        id=name,
        class_name=attributes.get("CLASS", "")[:_LONGEST_ID],
        start_at=start_at,
        end_at=parse_date_time(attributes.get("END-DATE", "")),
        duration_us=_seconds_us(attributes.get("DURATION", "")),
        planned_us=_seconds_us(attributes.get("PLANNED-DURATION", "")),
        is_out="SCTE35-OUT" in attributes,
        is_in="SCTE35-IN" in attributes,
        client=_client_attributes(attributes),
    )


def timed_metadata(found: DateRange) -> str | None:
    """The text that 100ms was given for this moment: base64 of JSON, else as it is; None in other ranges."""
    raw = dict(found.client).get(_PAYLOAD)
    if raw is None:
        return None
    payload = _decoded(raw).get("payload", raw)
    text = payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)
    return _storable(text)[:_LONGEST_TEXT]


def client_text(found: DateRange) -> str:
    """The attributes that the range's author added, as compact JSON; empty when there are none."""
    if not found.client:
        return ""
    named = {"CLASS": found.class_name} if found.class_name else {}
    text = json.dumps(named | dict(found.client), ensure_ascii=False, separators=(",", ":"))
    return text[:_LONGEST_TEXT]


def _client_attributes(attributes: dict[str, str]) -> tuple[tuple[str, str], ...]:
    own = [(name, value) for name, value in attributes.items() if name.startswith("X-")]
    return tuple(own[:_KEPT_ATTRIBUTES])


def _storable(text: str) -> str:
    """Without what PostgreSQL stores in no text, and UTF-8 cannot say: JSON may hold halves of a character."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def _decoded(raw: str) -> dict[str, Any]:
    try:
        document = json.loads(base64.b64decode(raw, validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _seconds_us(value: str) -> int | None:
    try:
        seconds = float(value)
    except ValueError:
        return None
    return round(seconds * MICROSECONDS) if isfinite(seconds) and 0 <= seconds <= _LONGEST_RANGE_S else None
