"""Where a stream's media comes from: which addresses are accepted, and the platform that they stand for."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit, urlunsplit

from gateway.domain.refusals import Unacceptable
from shared.addresses import BlockedAddress, HostPort, UrlRefused, check_url

FIELD = "source_url"
_TWITCH = ("twitch.tv",)
_YOUTUBE = ("youtube.com", "youtu.be")
_LATER_SCHEMES = ("rtmp", "rtmps", "rtsp", "rtsps", "srt")
_HUNDREDMS = ("100ms.live",)
# What the HTTP client of the services sets by itself, or refuses: told here, not when the stream fails.
_OWN_HEADERS = frozenset(
    {
        *("accept-encoding", "connection", "content-length", "expect", "host", "keep-alive", "range"),
        *("proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
    }
)
_HEADER_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
MAX_HEADERS = 20
MAX_HEADER_CHARACTERS = 8_000


class Platform(StrEnum):
    TWITCH = "twitch"
    YOUTUBE = "youtube"
    RTMP = "rtmp"
    CUSTOM = "custom"
    HUNDREDMS = "100ms"


@dataclass(frozen=True)
class SourceAddress:
    """An accepted HLS address. `url` may hold secrets in its query; `display_url` has none."""

    url: str
    display_url: str
    platform: Platform


def read_source(url: str, *, allowed: frozenset[HostPort]) -> SourceAddress:
    """Judge the text of a source address. Raises Unacceptable with the reason for the customer."""
    scheme, host = _scheme_and_host(url)
    if scheme in _LATER_SCHEMES:
        raise Unacceptable(f"not supported yet: {scheme} sources", field=FIELD)
    platform = _platform_of(host)
    if platform in (Platform.TWITCH, Platform.YOUTUBE):
        raise Unacceptable(f"not supported yet: {platform} pages, give the HLS address", field=FIELD)
    try:
        check_url(url, schemes=("https", "http"), allowed=allowed)
    except (BlockedAddress, UrlRefused) as error:
        raise Unacceptable(str(error), field=FIELD) from error
    return SourceAddress(url, display_form(url), platform)


def display_form(url: str) -> str:
    """The address without user, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def check_headers(headers: Mapping[str, str]) -> None:
    """Raise Unacceptable for headers that are not HTTP, or that our own client must set."""
    if len(headers) > MAX_HEADERS:
        raise _bad_header(f"more than {MAX_HEADERS} headers")
    if sum(len(name) + len(value) for name, value in headers.items()) > MAX_HEADER_CHARACTERS:
        raise _bad_header(f"the headers have more than {MAX_HEADER_CHARACTERS} characters in all")
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise _bad_header(f"{name[:80]!r} is not a header name")
        if name.lower() in _OWN_HEADERS:
            raise _bad_header(f"the header {name} cannot be set")
        if not value.isprintable() or not value.isascii():
            raise _bad_header(f"the value of {name} has characters that a header cannot carry")


def _bad_header(message: str) -> Unacceptable:
    return Unacceptable(message, field="options.custom_headers")


def _scheme_and_host(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
        return parts.scheme.lower(), (parts.hostname or "").lower()
    except ValueError as error:
        raise Unacceptable(f"the URL cannot be read: {error}", field=FIELD) from error


def _platform_of(host: str) -> Platform:
    for names, platform in (
        (_TWITCH, Platform.TWITCH),
        (_YOUTUBE, Platform.YOUTUBE),
        (_HUNDREDMS, Platform.HUNDREDMS),
    ):
        if any(host == name or host.endswith(f".{name}") for name in names):
            return platform
    return Platform.CUSTOM
