"""What a URI in a playlist means, and whether it may be fetched at all."""

import re
from typing import Final
from urllib.parse import urljoin, urlsplit

from ingest.domain.playlist.values import Location

_PLAIN_RELATIVE_URI: Final = re.compile(r"(?!\.)[\w.-]+(?:/(?!\.)[\w.-]+)*", re.ASCII)


def resolve(uri: str, *, base_url: str) -> Location:
    """The address that `uri` means inside the playlist at `base_url`; anything but http(s) is refused."""
    try:
        url = urljoin(base_url, uri.strip())
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return Location(url=uri, refusal="unreadable address")
    if parts.scheme not in ("http", "https"):
        return Location(url=url, refusal=f"scheme {parts.scheme or 'missing'} is not allowed")
    if not parts.hostname:
        return Location(url=url, refusal="address without a host")
    return Location(url=url)


class Resolver:
    """Resolves against one base; plain relative names, nearly all there are, take a short way."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        plain = base_url.split("#", 1)[0].split("?", 1)[0]
        self._folder = plain.rpartition("/")[0] + "/" if urlsplit(plain).path else ""

    def __call__(self, uri: str) -> Location:
        if self._folder.startswith(("http://", "https://")) and _PLAIN_RELATIVE_URI.fullmatch(uri):
            return Location(url=self._folder + uri)
        return resolve(uri, base_url=self._base_url)
