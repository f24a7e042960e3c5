"""Networks that a connection's webhooks may come from. The list is the customer's: 100ms changes its addresses."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from gateway.domain.refusals import Unacceptable

MAX_NETWORKS = 200


def read_networks(texts: Iterable[str]) -> tuple[str, ...]:
    """The networks in their canonical form, each once. Raises Unacceptable for what is none."""
    return tuple(dict.fromkeys(_network(text) for text in texts))


def _network(text: str) -> str:
    try:
        return str(ip_network(text.strip()))
    except ValueError as error:
        raise Unacceptable(f"{text[:60]!r} is no network: {error}"[:200], field="networks") from error


def holds(networks: Iterable[str], address: str) -> bool:
    """Whether the address lies in one of the networks; IPv4 within IPv6 counts as IPv4, no address as outside."""
    try:
        found = _plain(ip_address(address))
    except ValueError:
        return False
    return any(found in ip_network(each) for each in networks)


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
