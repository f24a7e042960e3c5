"""The signature that opens a highlight's playlist to whoever holds the link, until it expires."""

import hashlib
import hmac
from enum import StrEnum

from shared.ids import HighlightId, OrganizationId


class LinkState(StrEnum):
    GENUINE = "genuine"
    EXPIRED = "expired"
    FORGED = "forged"


def sign_link(
    organization_id: OrganizationId, highlight_id: HighlightId, *, expires: int, secret: str
) -> str:
    """Hex HMAC-SHA256. The first words keep it apart from signatures of stored objects: no key has a space."""
    message = f"highlight playlist\n{organization_id}\n{highlight_id}\n{expires}"
    return hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()


def judge_link(
    organization_id: OrganizationId,
    highlight_id: HighlightId,
    *,
    expires: int,
    signature: str,
    secret: str,
    now_s: float,
) -> LinkState:
    """`expires` and `now_s` are unix seconds. Compares in constant time, and before it looks at the time."""
    expected = sign_link(organization_id, highlight_id, expires=expires, secret=secret)
    if not hmac.compare_digest(expected.encode(), signature.encode()):
        return LinkState.FORGED
    return LinkState.GENUINE if now_s < expires else LinkState.EXPIRED
