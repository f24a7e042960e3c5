"""Addresses of Twitch and YouTube pages: which of them stand for one video, and whose it is.

Only these hosts, exactly; what the pages lead to is ingest's to find out.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import SplitResult, parse_qs

from gateway.domain.refusals import Unacceptable

FIELD = "source_url"
_TWITCH_DOMAIN = "twitch.tv"
_TWITCH_HOSTS = frozenset({"twitch.tv", "www.twitch.tv", "m.twitch.tv", "go.twitch.tv"})
_YOUTUBE_DOMAINS = ("youtube.com", "youtu.be", "youtube-nocookie.com")
_YOUTUBE_HOSTS = frozenset(
    {"youtube.com", "www.youtube.com", "m.youtube.com", "music.youtube.com", "www.youtube-nocookie.com"}
)
_YOUTUBE_SHORT_HOST = "youtu.be"
_CHANNEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{1,24}")
_TWITCH_VIDEO = re.compile(r"[0-9]{1,15}")
_YOUTUBE_VIDEO = re.compile(r"[A-Za-z0-9_-]{11}")
_YOUTUBE_NAME = re.compile(r"[\w.-]{1,100}")
_YOUTUBE_VIDEO_PATHS = ("live", "shorts", "embed", "v")
_YOUTUBE_CHANNEL_PATHS = ("channel", "c", "user")
_TWITCH_OWN_PATHS = frozenset(
    {
        *("clip", "collections", "directory", "downloads", "friends", "inventory", "jobs", "login", "p"),
        *(
            "popout",
            "search",
            "settings",
            "signup",
            "store",
            "subscriptions",
            "team",
            "turbo",
            "videos",
            "wallet",
        ),
    }
)
_TWITCH_WANTED = "https://www.twitch.tv/<channel>, or https://www.twitch.tv/videos/<number>"
_YOUTUBE_WANTED = (
    "https://www.youtube.com/watch?v=<video>, https://www.youtube.com/live/<video>, https://youtu.be/<video>, "
    "or https://www.youtube.com/@<channel>/live"
)


class PageSite(StrEnum):
    TWITCH = "twitch"
    YOUTUBE = "youtube"


@dataclass(frozen=True)
class Page:
    """One video's page in its plain form. `channel` is "" where the address names none."""

    site: PageSite
    url: str
    channel: str = ""
    is_recording: bool = False


def read_page(parts: SplitResult) -> Page | None:
    """The page that an http(s) address names; None for other sites. Raises Unacceptable with what is wanted."""
    host = (parts.hostname or "").lower().rstrip(".")
    if _belongs(host, (_TWITCH_DOMAIN,)):
        return _twitch_page(host, _path(parts))
    if _belongs(host, _YOUTUBE_DOMAINS):
        return _youtube_page(host, _path(parts), parse_qs(parts.query))
    return None


def _belongs(host: str, domains: tuple[str, ...]) -> bool:
    return any(host == domain or host.endswith(f".{domain}") for domain in domains)


def _path(parts: SplitResult) -> tuple[str, ...]:
    return tuple(part for part in parts.path.split("/") if part)


def _twitch_page(host: str, path: tuple[str, ...]) -> Page:
    if host not in _TWITCH_HOSTS:
        raise _refusal(f"{host} has no pages of live channels: give {_TWITCH_WANTED}")
    match path:
        case ("videos", number) if _TWITCH_VIDEO.fullmatch(number):
            return Page(PageSite.TWITCH, f"https://www.twitch.tv/videos/{number}", is_recording=True)
        case (channel,) if _CHANNEL.fullmatch(channel) and channel.lower() not in _TWITCH_OWN_PATHS:
            login = channel.lower()
            return Page(PageSite.TWITCH, f"https://www.twitch.tv/{login}", channel=login)
    raise _refusal(f"this Twitch page is not that of a channel or a video: give {_TWITCH_WANTED}")


def _youtube_page(host: str, path: tuple[str, ...], query: dict[str, list[str]]) -> Page:
    if host == _YOUTUBE_SHORT_HOST:
        return _youtube_video(path[0] if len(path) == 1 else "")
    if host not in _YOUTUBE_HOSTS:
        raise _refusal(f"{host} has no pages of videos: give {_YOUTUBE_WANTED}")
    match path:
        case ("watch",):
            return _youtube_video(query.get("v", [""])[0])
        case (kind, video) if kind in _YOUTUBE_VIDEO_PATHS:
            return _youtube_video(video)
        case (handle, "live") if handle.startswith("@") and _YOUTUBE_NAME.fullmatch(handle[1:]):
            return Page(PageSite.YOUTUBE, f"https://www.youtube.com/{handle}/live", channel=handle)
        case (kind, name, "live") if kind in _YOUTUBE_CHANNEL_PATHS and _YOUTUBE_NAME.fullmatch(name):
            return Page(PageSite.YOUTUBE, f"https://www.youtube.com/{kind}/{name}/live", channel=name)
        case ("playlist", *_):
            raise _refusal(f"this YouTube page is a list of videos: give one, as {_YOUTUBE_WANTED}")
    if path and (path[0].startswith("@") or path[0] in _YOUTUBE_CHANNEL_PATHS):
        raise _refusal("this YouTube page is a channel: add /live for what it sends now, or give one video")
    raise _refusal(f"this YouTube page is not that of a video: give {_YOUTUBE_WANTED}")


def _youtube_video(video: str) -> Page:
    if not _YOUTUBE_VIDEO.fullmatch(video):
        raise _refusal(f"the address names no YouTube video: give {_YOUTUBE_WANTED}")
    return Page(PageSite.YOUTUBE, f"https://www.youtube.com/watch?v={video}")


def _refusal(message: str) -> Unacceptable:
    return Unacceptable(message, field=FIELD)
