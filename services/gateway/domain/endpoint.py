"""Webhook endpoints: which events there are, which an endpoint gets by default, which addresses are accepted."""

from collections.abc import Iterable

from gateway.domain.events_feed import OPT_IN, PublicEventType
from gateway.domain.refusals import Unacceptable
from shared.addresses import BlockedAddress, HostPort, UrlRefused, check_url

SECRET_BYTES = 32
MAX_ATTEMPTS = 11


DEFAULT_TYPES = tuple(kind for kind in PublicEventType if kind not in OPT_IN)


def check_endpoint_url(url: str, *, allowed: frozenset[HostPort], field: str = "url") -> None:
    """Raise Unacceptable unless the address is https and public, or on the allow-list."""
    try:
        check_url(url, schemes=("https",), allowed=allowed)
    except (BlockedAddress, UrlRefused) as error:
        raise Unacceptable(str(error), field=field) from error


def subscribed_types(given: Iterable[PublicEventType] | None) -> tuple[PublicEventType, ...]:
    """The types in the order of declaration, each once; nothing given means all but the opt-in ones."""
    wanted = set(given or DEFAULT_TYPES)
    return tuple(kind for kind in PublicEventType if kind in wanted)


def sealing_context(endpoint_id: str) -> str:
    """What an endpoint's address and secrets are sealed for; the notifier opens them with the same text."""
    return f"endpoint:{endpoint_id}"
