"""The text form of API keys: `tldr_live_<key id>_<secret><checksum>`, as secret scanners can recognise it.

Only the hash of the secret is stored. Entropy comes from the caller. Also: how long a key may live.
"""

import hmac
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from gateway.domain.refusals import Unacceptable
from shared.ids import RANDOM_HEX_DIGITS, ApiKeyId, random_id

PREFIX = "tldr_live"
ENTROPY_BYTES = 38  # 6 for the id, 32 for the secret
MAX_LIFE = timedelta(days=36_525)  # a century: far enough for everybody, and PostgreSQL can store it
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_CHARACTERS = 43  # 32 bytes in base 62
_CHECKSUM_CHARACTERS = 6  # CRC-32 in base 62


@dataclass(frozen=True)
class ApiKeyText:
    """A key in its two parts; `secret` must not be logged or stored."""

    key_id: ApiKeyId
    secret: str

    def __str__(self) -> str:
        body = f"{PREFIX}_{self.key_id.removeprefix('key_')}_{self.secret}"
        return body + _checksum(body)

    def secret_hash(self) -> str:
        """64 hex digits. The secret has 256 bits of entropy, so a slow hash would add nothing."""
        return sha256(self.secret.encode()).hexdigest()


def mint(entropy: bytes) -> ApiKeyText:
    """A new key from `ENTROPY_BYTES` random bytes."""
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"a key needs {ENTROPY_BYTES} bytes of entropy, not {len(entropy)}")
    secret = _base62(int.from_bytes(entropy[6:], "big"), width=_SECRET_CHARACTERS)
    return ApiKeyText(ApiKeyId(random_id("key", entropy[:6])), secret)


def parse(text: str) -> ApiKeyText | None:
    """The key's parts, or None when the text cannot be a key of ours: wrong form or wrong checksum."""
    if not text.isascii() or not text.startswith(f"{PREFIX}_"):
        return None
    body, checksum = text[:-_CHECKSUM_CHARACTERS], text[-_CHECKSUM_CHARACTERS:]
    key_id, _, secret = body.removeprefix(f"{PREFIX}_").partition("_")
    well_formed = len(key_id) == RANDOM_HEX_DIGITS and len(secret) == _SECRET_CHARACTERS
    if not well_formed or checksum != _checksum(body):
        return None
    return ApiKeyText(ApiKeyId(f"key_{key_id}"), secret)


def matches(key: ApiKeyText, stored_hash: str) -> bool:
    """Whether the secret is the one whose hash is stored; compares in constant time."""
    return hmac.compare_digest(key.secret_hash(), stored_hash)


def checked_expiry(expires_at: datetime, *, now: datetime) -> datetime:
    """The moment from which the key is refused, in UTC. Raises Unacceptable unless it lies ahead."""
    if expires_at <= now:
        raise Unacceptable("The time of expiry must lie in the future", field="expires_at")
    if expires_at - now > MAX_LIFE:
        raise Unacceptable("The time of expiry is too far ahead; leave it out instead", field="expires_at")
    return expires_at.astimezone(UTC)


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), width=_CHECKSUM_CHARACTERS)


def _base62(number: int, *, width: int) -> str:
    digits = []
    while number:
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits)).rjust(width, _ALPHABET[0])
