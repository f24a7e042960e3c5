"""Which addresses a customer may make us talk to: the deny set, the allow-list, the static URL check.

Pure: it judges addresses and texts. Resolving names and making sockets is `http_client`'s business, which
asks `check_address` for the address that is really dialled.
"""

import ipaddress
import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import SplitResult, urlsplit

from shared.errors import PermanentError

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_URL_LENGTH = 4096
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LOWEST_UNPRIVILEGED_PORT = 1024

# `ip.is_global` is not enough: Python 3.11 calls NAT64, 6to4, multicast, 3fff::/20 and 5f00::/16 global.
_DENIED_V4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host agent: a public address that is never the internet
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_DENIED_V6 = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "::/8",  # unspecified, loopback, v4-mapped, v4-compatible, NAT64 (64:ff9b::/96, 64:ff9b:1::/48)
        "100::/64",
        "2001::/23",  # Teredo, ORCHID, benchmarking
        "2001:db8::/32",
        "2002::/16",  # 6to4 carries any IPv4 address
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)
_GLOBAL_UNICAST_V6 = ipaddress.IPv6Network("2000::/3")

_FORBIDDEN_CHARACTERS = re.compile(r"[\x00-\x20\x7f\\]")
_DOTS = re.compile("[。．｡]")
_HOST_NAME = re.compile(
    r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
_NUMERIC_LABEL = re.compile(r"0x[0-9a-f]*|[0-9]+")
_LOCAL_NAMES = ("localhost", "local", "internal", "home.arpa")


class BlockedAddress(PermanentError):
    """The address, or the name, is not one that customers may reach through us."""

    code: ClassVar[str] = "address_blocked"


class UrlRefused(PermanentError):
    """The text is not a URL that we would open; the message says why and may be shown to the customer."""

    code: ClassVar[str] = "url_refused"


@dataclass(frozen=True, slots=True, order=True)
class HostPort:
    """A host (lower-case name, or IP literal without brackets) and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_allowed(text: str) -> frozenset[HostPort]:
    """Read an allow-list such as `127.0.0.1:8123,localhost:9000,[::1]:80`. Raises ValueError."""
    return frozenset(_parse_entry(entry.strip()) for entry in text.split(",") if entry.strip())


def _parse_entry(entry: str) -> HostPort:
    host, separator, port = entry.rpartition(":")
    if not separator or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"allow-list entry {entry!r} is not host:port")
    if host.startswith("[") and host.endswith("]"):
        return HostPort(str(ipaddress.IPv6Address(host[1:-1])), int(port))
    if ":" in host or _FORBIDDEN_CHARACTERS.search(host) or "/" in host or "*" in host:
        raise ValueError(f"allow-list entry {entry!r} is not host:port")
    return HostPort(host.lower(), int(port))


def check_address(
    ip: IpAddress, *, port: int, allowed: frozenset[HostPort] = frozenset(), host: str | None = None
) -> None:
    """Judge the address that is about to be dialled.

    `host` is the name from the URL, if there was one: an allow-list entry may name the address or that name.
    Raises BlockedAddress.
    """
    if HostPort(str(ip), port) in allowed or (host is not None and HostPort(host.lower(), port) in allowed):
        return
    if is_denied(ip):
        raise BlockedAddress(f"{HostPort(str(ip), port)} is not a public address")


def is_denied(ip: IpAddress) -> bool:
    """Whether the address is outside the public unicast internet, or can stand for an address that is."""
    if isinstance(ip, ipaddress.IPv4Address):
        return any(ip in network for network in _DENIED_V4)
    return ip not in _GLOBAL_UNICAST_V6 or any(ip in network for network in _DENIED_V6)


def check_url(
    url: str, *, schemes: Collection[str] = ("https",), allowed: frozenset[HostPort] = frozenset()
) -> HostPort:
    """Judge a URL by its text alone, at submission and before each hop; answer where it points to.

    A host and port on the allow-list may also be plain http and any port. Names are not resolved here.
    Raises UrlRefused or BlockedAddress.
    """
    parts = _split(url)
    target = HostPort(_host(parts), _port(parts))
    if target in allowed:
        return target
    if parts.scheme not in schemes:
        raise UrlRefused(f"the URL must use {' or '.join(schemes)}, not {parts.scheme}")
    if target.port not in _DEFAULT_PORTS.values() and target.port < _LOWEST_UNPRIVILEGED_PORT:
        raise UrlRefused(f"port {target.port} is not allowed: use 80, 443 or 1024 and above")
    _check_host(target)
    return target


def _split(url: str) -> SplitResult:
    if len(url) > MAX_URL_LENGTH:
        raise UrlRefused(f"the URL is longer than {MAX_URL_LENGTH} characters")
    if _FORBIDDEN_CHARACTERS.search(url):
        raise UrlRefused("the URL contains a space, a backslash or a control character")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UrlRefused(f"the URL cannot be read: {error}") from error
    if parts.scheme not in _DEFAULT_PORTS:
        found = f", not {parts.scheme}:" if parts.scheme else ""
        raise UrlRefused(f"the URL must start with http:// or https://{found}")
    if "@" in parts.netloc:
        raise UrlRefused("the URL must not contain a user name or password")
    return parts


def _host(parts: SplitResult) -> str:
    """The host as software on the way would read it: compatibility forms and full-width dots folded."""
    host = unicodedata.normalize("NFKC", _DOTS.sub(".", parts.hostname or "")).lower()
    if not host:
        raise UrlRefused("the URL has no host")
    if "%" in host:
        raise UrlRefused("the host must not contain a zone or an escape")
    return host


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError as error:
        raise UrlRefused("the port is not a number between 1 and 65535") from error
    if port == 0:
        raise UrlRefused("the port is not a number between 1 and 65535")
    return port or _DEFAULT_PORTS[parts.scheme]


def _check_host(target: HostPort) -> None:
    host = target.host.rstrip(".")
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        _check_name(host)
    else:
        check_address(ip, port=target.port)


def _check_name(host: str) -> None:
    try:
        name = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise UrlRefused(f"the host {host!r} is not a valid name") from error
    if not _HOST_NAME.fullmatch(name):
        raise UrlRefused(f"the host {host!r} is not a valid name")
    if _NUMERIC_LABEL.fullmatch(name.rpartition(".")[2]):
        raise UrlRefused(f"the host {host!r} is an IP address in an unusual form")
    if any(name == local or name.endswith(f".{local}") for local in _LOCAL_NAMES):
        raise BlockedAddress(f"{host} is a local name, not a public address")
