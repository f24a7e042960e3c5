"""What `hls.recording.success` offers: the recording to repair from, and the chat beside it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from gateway.domain.hundredms_values import moment_of, number_of, text_of

MAX_URL = 4096
MAX_FILES = 32
VOD = "vod"
MOST_PAUSED_US = 10_000_000


@dataclass(frozen=True, kw_only=True)
class RecordedFile:
    """One recording of the whole stream; an address may hold a signature."""

    asset_id: str
    url: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Recording:
    """`file` is the best of what is offered: the largest layer as MP4, else the VOD playlist, else nothing."""

    recording_id: str
    file: RecordedFile | None
    chat_url: str | None = field(repr=False)
    started_at: datetime | None
    duration_us: int


def read_recording(data: Mapping[str, Any]) -> Recording:
    started_at, stopped_at = moment_of(data.get("started_at")), moment_of(data.get("stopped_at"))
    return Recording(
        recording_id=text_of(data.get("recording_id")),
        file=_best_file(data),
        chat_url=_url(data.get("chat_recording_presigned_url")),
        started_at=started_at,
        duration_us=_duration_us(data.get("duration"), started_at, stopped_at),
    )


def _best_file(data: Mapping[str, Any]) -> RecordedFile | None:
    listed = data.get("recording_single_files")
    files = (
        [each for each in listed[:MAX_FILES] if isinstance(each, Mapping)] if isinstance(listed, list) else []
    )
    return next(_single_files(sorted(files, key=_layer)), None) or _vod(data)


def _single_files(files: Iterable[Mapping[str, Any]]) -> Iterator[RecordedFile]:
    for each in files:
        url = _url(each.get("recording_presigned_url"))
        asset_id = text_of(each.get("asset_id"))
        if url or asset_id:
            yield RecordedFile(asset_id=asset_id, url=url or "")


def _layer(each: Mapping[str, Any]) -> float:
    """Layer 0 is the largest; what tells no layer comes last."""
    layer = number_of(each.get("layer"))
    return float("inf") if layer is None else layer


def _vod(data: Mapping[str, Any]) -> RecordedFile | None:
    """A playlist; the zip that older templates make of it is of no use without unpacking."""
    url = _url(data.get("hls_vod_recording_presigned_url"))
    if url is None or not urlsplit(url).path.endswith(".m3u8"):
        return None
    return RecordedFile(asset_id="", url=url)


def _url(value: object) -> str | None:
    """An address that was cut off would be another one."""
    text = text_of(value, limit=MAX_URL + 1)
    return text if text.startswith(("https://", "http://")) and len(text) <= MAX_URL else None


def _duration_us(seconds: object, started_at: datetime | None, stopped_at: datetime | None) -> int:
    """0 where nothing tells it. The field is in whole seconds, so the two moments say it better.

    Also 0 where the field is much less than they: what was paused meanwhile, which nothing tells, has no certain
    place by the wall clock, and wrong media is worse than none.
    """
    told = number_of(seconds)
    told_us = round(told * 1_000_000) if told and 0 < told < 1e6 else 0
    if started_at and stopped_at and stopped_at > started_at:
        passed_us = (stopped_at - started_at) // timedelta(microseconds=1)
        return 0 if told_us and passed_us - told_us > MOST_PAUSED_US else passed_us
    return told_us
