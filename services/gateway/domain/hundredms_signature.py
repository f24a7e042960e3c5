"""100ms' HMAC, as workspaces under HIPAA send it: hex HMAC-SHA256 of the raw body, without prefix and timestamp.

Source: 100ms' guide on HIPAA workspaces. Which of its secrets signs is not documented, so customers set it.
"""

import hmac
from collections.abc import Iterable
from hashlib import sha256

SIGNATURE_HEADER = "x-100ms-signature"
_PREFIX = "sha256="


def signature_of(body: bytes, *, secret: str) -> str:
    """64 hex digits."""
    return hmac.new(secret.encode(), body, sha256).hexdigest()


def is_signed(body: bytes, *, signature: str, secrets: Iterable[str]) -> bool:
    """Whether one of the secrets made the signature over exactly these bytes. All are tried, in constant time."""
    given = signature.strip().lower().removeprefix(_PREFIX).encode("utf-8", "replace")
    matches = [hmac.compare_digest(given, signature_of(body, secret=each).encode()) for each in secrets]
    return any(matches)
