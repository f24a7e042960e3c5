"""Answers of 100ms' API, read as loosely as its webhooks: what is not understood is left out, not refused."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from json import loads
from typing import Any, ClassVar

from gateway.domain.hundredms_reconciliation import OVER, LiveStream
from gateway.domain.hundredms_recording import MAX_URL
from gateway.domain.hundredms_sighting import Sighting, url_key
from gateway.domain.hundredms_values import moment_of, number_of, text_of
from shared.errors import RetryableError

PAGE = 100
MAX_LIFE_S = 30 * 24 * 3600.0


class AnswerUnreadable(RetryableError):
    """The API answered 200 with something that is no answer: nothing follows from it."""

    code: ClassVar[str] = "hundredms_answer_unreadable"


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page of live streams. `following` is where the next one starts; empty at the end."""

    streams: tuple[LiveStream, ...]
    following: str


@dataclass(frozen=True, kw_only=True)
class Presigned:
    """An address that opens for `expires_in_s` seconds; None where the answer does not tell."""

    url: str = field(repr=False)
    expires_in_s: float | None


def read_page(body: bytes) -> Page:
    """Raises AnswerUnreadable."""
    answer = _object(body)
    listed = answer.get("data")
    if "data" not in answer or not isinstance(listed, list | None):
        raise AnswerUnreadable("the list of live streams has no `data`")
    found = [_live_stream(each) for each in listed or () if isinstance(each, Mapping)]
    return Page(
        streams=tuple(stream for stream in found if stream is not None),
        following="" if _is_last(answer, len(listed or ())) else text_of(answer.get("last")),
    )


def _is_last(answer: Mapping[str, Any], count: int) -> bool:
    """By the limit that the answer names; where it names none, only an empty page is surely the last."""
    limit = number_of(answer.get("limit"))
    return count == 0 or (limit is not None and count < min(limit, PAGE))


def read_presigned(body: bytes) -> Presigned:
    """Raises AnswerUnreadable."""
    answer = _object(body)
    url = text_of(answer.get("url"), limit=MAX_URL + 1)
    if not url.startswith(("https://", "http://")) or len(url) > MAX_URL:
        raise AnswerUnreadable("the answer has no address of the recording")
    expires_in_s = number_of(answer.get("expiry"))
    is_told = expires_in_s is not None and 0 < expires_in_s <= MAX_LIFE_S
    return Presigned(url=url, expires_in_s=expires_in_s if is_told else None)


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        answer = loads(body)
    except (ValueError, RecursionError) as error:
        raise AnswerUnreadable("the answer is not JSON") from error
    if not isinstance(answer, Mapping):
        raise AnswerUnreadable("the answer is no object")
    return answer


def _live_stream(entry: Mapping[str, Any]) -> LiveStream | None:
    live_id, room_id = text_of(entry.get("id")), text_of(entry.get("room_id"))
    if not (live_id and room_id):
        return None
    status, playback = text_of(entry.get("status")).lower(), entry.get("playback")
    url = text_of(playback.get("url"), limit=MAX_URL + 1) if isinstance(playback, Mapping) else ""
    return LiveStream(
        sighting=Sighting(
            room_id=room_id,
            session_id=text_of(entry.get("session_id")),
            url_key=url_key(url),
            started_at=moment_of(entry.get("started_at")),
            stopped_at=moment_of(entry.get("stopped_at")) if status in OVER else None,
            live_id=live_id,
        ),
        status=status,
        url=url if 0 < len(url) <= MAX_URL else None,
    )
