"""What the answer of a source says about it: whether it can be media at all, and of which kind.

A live stream may not exist yet, so a source that does not answer is no fault; only what can never be media is.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.domain.pages import FIELD
from gateway.domain.refusals import Unacceptable
from gateway.domain.source import SourceAddress, SourceKind

LOOKED_AT_BYTES = 4096
MAX_DETAIL = 300
_TS_PACKET_BYTES = 188
_TS_SYNC = 0x47
_PLAYLIST_TYPES = frozenset(
    {
        *("application/vnd.apple.mpegurl", "application/x-mpegurl", "application/mpegurl"),
        *("audio/mpegurl", "audio/x-mpegurl"),
    }
)
_PAGE_TYPES = frozenset({"text/html", "application/xhtml+xml"})
# The atomic group takes comments once: without it, a page of nothing but comments is tried in 2^585 ways.
_PAGE_START = re.compile(
    rb"(?>\s*(?:<!--.*?-->\s*)*)<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL
)
_PLAYLIST_START = re.compile(rb"(\xef\xbb\xbf)?\s*#EXTM3U\b")
_FILE_STARTS = (b"\x1aE\xdf\xa3", b"FLV", b"RIFF", b"\x00\x00\x01\xba", b"OggS")
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")


class SourceStatus(StrEnum):
    REACHABLE = "reachable"
    UNREACHABLE = "unreachable"
    UNCHECKED = "unchecked"


class SourceCheck(BaseModel):
    """What was found when the source was looked at, once, at submission."""

    model_config = ConfigDict(frozen=True)

    status: SourceStatus = Field(
        description="`reachable`; `unreachable`: accepted all the same, and tried again until the stream begins or "
        "its time is over; `unchecked`: the source is first asked when it is followed."
    )
    detail: str = Field(default="", max_length=MAX_DETAIL, description="What was found, in words.")


NOT_CHECKED = SourceCheck(status=SourceStatus.UNCHECKED)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The beginning of what a source answered; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    start: bytes

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True, kw_only=True)
class ChannelNow:
    """What a platform tells of a channel; `started_at` is None while it sends nothing."""

    name: str
    title: str = ""
    game_name: str = ""
    started_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What is known of a source beside its address."""

    check: SourceCheck = NOT_CHECKED
    kind: SourceKind | None = None
    channel: ChannelNow | None = None


NOTHING_FOUND = Findings()


def judge(source: SourceAddress, answer: Answer) -> Findings:
    """Raises Unacceptable for a web page where nothing else hints at media."""
    if not answer.is_success:
        return unreachable(f"the source answered {answer.status}")
    kind = kind_of(answer, is_hinted=source.is_hinted)
    if kind is not None:
        return Findings(check=_reachable(f"the source answered with {_WORDS[kind]}"), kind=kind)
    if not _is_page(answer):
        return Findings(check=_reachable("the source answered"))
    if not source.is_hinted:
        raise Unacceptable(
            "this is a web page: give the address of the media itself, such as its .m3u8", field=FIELD
        )
    return unreachable("the source answered with a web page instead of media")


def unreachable(detail: str) -> Findings:
    return Findings(check=SourceCheck(status=SourceStatus.UNREACHABLE, detail=_storable(detail)[:MAX_DETAIL]))


def of_channel(channel: ChannelNow) -> Findings:
    """The findings about a channel that exists, whether it sends now or not."""
    channel = replace(
        channel,
        name=_storable(channel.name),
        title=_storable(channel.title),
        game_name=_storable(channel.game_name),
    )
    if channel.started_at is None:
        status, detail = SourceStatus.UNREACHABLE, f"{channel.name} is not live just now"
    else:
        status, detail = SourceStatus.REACHABLE, f"{channel.name} is live"
    return Findings(check=SourceCheck(status=status, detail=detail[:MAX_DETAIL]), channel=channel)


def _storable(text: str) -> str:
    """What others wrote may hold what PostgreSQL's text and jsonb cannot."""
    return text.replace("\x00", "").encode(errors="replace").decode()


def kind_of(answer: Answer, *, is_hinted: bool) -> SourceKind | None:
    """By the first bytes, else by the content type, which lies more often than an address; None where none tells."""
    if _PLAYLIST_START.match(answer.start):
        return SourceKind.HLS
    if _is_container(answer.start):
        return SourceKind.FILE
    if is_hinted:
        return None
    if answer.content_type in _PLAYLIST_TYPES:
        return SourceKind.HLS
    if answer.content_type.partition("/")[0] in ("video", "audio"):
        return SourceKind.FILE
    return None


_WORDS: Mapping[SourceKind, Literal["a playlist", "a media file"]] = {
    SourceKind.HLS: "a playlist",
    SourceKind.FILE: "a media file",
}


def _reachable(detail: str) -> SourceCheck:
    return SourceCheck(status=SourceStatus.REACHABLE, detail=detail)


def _is_container(start: bytes) -> bool:
    if start.startswith(_FILE_STARTS) or start[4:8] in _MP4_BOXES:
        return True
    return len(start) > _TS_PACKET_BYTES and start[0] == start[_TS_PACKET_BYTES] == _TS_SYNC


def _is_page(answer: Answer) -> bool:
    return answer.content_type in _PAGE_TYPES or _PAGE_START.match(answer.start) is not None
