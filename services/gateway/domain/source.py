"""Where a stream's media comes from: which addresses are accepted, and the kind and platform that they stand for.

Nothing is asked of the source here: what only its answer can tell stands in `reachability`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from types import MappingProxyType
from urllib.parse import SplitResult, parse_qs, urlsplit, urlunsplit

from gateway.domain.pages import FIELD, Page, read_page
from gateway.domain.refusals import Unacceptable
from shared.addresses import MAX_URL_LENGTH, BlockedAddress, HostPort, UrlRefused, check_url

UPLOAD_SCHEME = "upload"
ACCEPTED = (
    "the address must start with http://, https://, rtmp://, rtmps://, rtsp://, rtsps:// or srt://, "
    "or be upload:<id> of a finished upload"
)
_HUNDREDMS_DOMAIN = "100ms.live"
_WEB_SCHEMES = ("https", "http")
# Schemes that FFmpeg reads through a relay of ours, with the port that each means by itself.
_DEFAULT_PORTS: Mapping[str, int | None] = MappingProxyType(
    {"rtmp": 1935, "rtmps": 443, "rtsp": 554, "rtsps": 322, "srt": None}
)
_WITH_USER = frozenset({"rtmp", "rtmps", "rtsp", "rtsps"})
_HLS_EXTENSIONS = frozenset({".m3u8", ".m3u"})
_FILE_EXTENSIONS = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".flv", ".ts", ".m2ts", ".mpg", ".mpeg", ".avi"}
)
_UPLOAD_ID = re.compile(r"upl_[0-9a-f]{12}")
_FORBIDDEN_CHARACTERS = re.compile(r"[\x00-\x20\x7f\\]")
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


class SourceKind(StrEnum):
    """How the media is read; the kinds of `shared.events.Source`."""

    HLS = "hls"
    FILE = "file"
    RTMP = "rtmp"
    RTSP = "rtsp"
    SRT = "srt"
    TWITCH = "twitch"
    YOUTUBE = "youtube"
    UPLOAD = "upload"


WHOLE_FILES = frozenset({SourceKind.FILE, SourceKind.UPLOAD})
_READ_BY_HTTP = frozenset({SourceKind.HLS, SourceKind.FILE})


@dataclass(frozen=True, kw_only=True)
class SourceAddress:
    """An accepted address. `url` may hold secrets; `display_url` has none.

    `is_hinted` is false where nothing in the address tells the kind, so that only the source's answer can.
    """

    url: str
    display_url: str
    platform: Platform
    kind: SourceKind
    is_hinted: bool = True
    page: Page | None = None
    upload_id: str | None = None

    @property
    def is_recording(self) -> bool:
        """Whether it is over already, whatever the customer says: such work waits behind live streams."""
        return self.kind in WHOLE_FILES or (self.page is not None and self.page.is_recording)

    @property
    def is_read_by_http(self) -> bool:
        """Whether headers can be sent to it, and its answer looked at."""
        return self.kind in _READ_BY_HTTP


def read_source(url: str, *, allowed: frozenset[HostPort]) -> SourceAddress:
    """Judge the text of a source address. Raises Unacceptable with the reason for the customer."""
    parts = _split(url)
    if parts.scheme == UPLOAD_SCHEME:
        return _upload(parts)
    if parts.scheme in _DEFAULT_PORTS:
        return _relayed(url, parts, allowed=allowed)
    if parts.scheme not in _WEB_SCHEMES:
        raise Unacceptable(f"{ACCEPTED}{_found(parts)}", field=FIELD)
    _check(url, allowed=allowed)
    page = read_page(parts)
    return _of_page(page) if page else _by_http(url, parts)


def display_form(url: str) -> str:
    """The address without user, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def check_headers(headers: Mapping[str, str], *, source: SourceAddress | None = None) -> None:
    """Raise Unacceptable for headers that are not HTTP, that our own client must set, or that go nowhere."""
    if headers and source is not None and not source.is_read_by_http:
        raise _bad_header(f"headers cannot be sent to a source of the kind {source.kind}")
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


def _split(url: str) -> SplitResult:
    if len(url) > MAX_URL_LENGTH:
        raise Unacceptable(f"the URL is longer than {MAX_URL_LENGTH} characters", field=FIELD)
    if _FORBIDDEN_CHARACTERS.search(url):
        raise Unacceptable("the URL contains a space, a backslash or a control character", field=FIELD)
    try:
        parts = urlsplit(url)
        _ = parts.hostname, parts.port
    except ValueError as error:
        raise Unacceptable(f"the URL cannot be read: {error}", field=FIELD) from error
    return parts


def _found(parts: SplitResult) -> str:
    return f", not {parts.scheme[:40]}:" if parts.scheme else ""


def _upload(parts: SplitResult) -> SourceAddress:
    upload_id = parts.path
    if parts.netloc or parts.query or parts.fragment or not _UPLOAD_ID.fullmatch(upload_id):
        raise Unacceptable(
            "an upload is named as upload:<id>, with the id that POST /uploads gave", field=FIELD
        )
    name = f"{UPLOAD_SCHEME}:{upload_id}"
    return SourceAddress(
        url=name, display_url=name, platform=Platform.CUSTOM, kind=SourceKind.UPLOAD, upload_id=upload_id
    )


def _of_page(page: Page) -> SourceAddress:
    return SourceAddress(
        url=page.url,
        display_url=page.url,
        platform=Platform(page.site.value),
        kind=SourceKind(page.site.value),
        page=page,
    )


def _by_http(url: str, parts: SplitResult) -> SourceAddress:
    extension = PurePosixPath(parts.path).suffix.lower()
    is_file = extension in _FILE_EXTENSIONS
    host = (parts.hostname or "").lower()
    is_hundredms = host == _HUNDREDMS_DOMAIN or host.endswith(f".{_HUNDREDMS_DOMAIN}")
    return SourceAddress(
        url=url,
        display_url=display_form(url),
        platform=Platform.HUNDREDMS if is_hundredms else Platform.CUSTOM,
        kind=SourceKind.FILE if is_file else SourceKind.HLS,
        is_hinted=is_file or extension in _HLS_EXTENSIONS,
    )


def _relayed(url: str, parts: SplitResult, *, allowed: frozenset[HostPort]) -> SourceAddress:
    """An address that FFmpeg reads through our relay: judged as far as text can be, and again when it is dialled."""
    port = parts.port or _DEFAULT_PORTS[parts.scheme]
    if port is None:
        raise Unacceptable(f"an {parts.scheme} address needs a port", field=FIELD)
    if parts.username is not None and parts.scheme not in _WITH_USER:
        raise Unacceptable("the URL must not contain a user name or password", field=FIELD)
    if parts.scheme == "srt":
        _check_srt_mode(parts)
    _check_host(parts, port=port, allowed=allowed)
    kind = SourceKind(parts.scheme.removesuffix("s"))
    platform = Platform.RTMP if kind is SourceKind.RTMP else Platform.CUSTOM
    return SourceAddress(url=url, display_url=display_form(url), platform=platform, kind=kind)


def _check_srt_mode(parts: SplitResult) -> None:
    mode = parse_qs(parts.query).get("mode", ["caller"])[-1]
    if mode != "caller":
        raise Unacceptable("we call the SRT source: mode must be caller, or absent", field=FIELD)


def _check_host(parts: SplitResult, *, port: int, allowed: frozenset[HostPort]) -> None:
    """Host and port by the rules of http addresses; a scheme's own port counts as the one of http."""
    host = (parts.hostname or "").lower()
    if HostPort(host, port) not in allowed and port in _DEFAULT_PORTS.values():
        port = 80
    _check(f"http://{f'[{host}]' if ':' in host else host}:{port}/", allowed=allowed)


def _check(url: str, *, allowed: frozenset[HostPort]) -> None:
    try:
        check_url(url, schemes=_WEB_SCHEMES, allowed=allowed)
    except (BlockedAddress, UrlRefused) as error:
        raise Unacceptable(str(error), field=FIELD) from error
