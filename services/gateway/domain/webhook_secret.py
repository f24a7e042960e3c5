"""The text form of webhook secrets, as Standard Webhooks writes them."""

from base64 import b64encode

PREFIX = "whsec_"
MIN_ENTROPY_BYTES = 24


def webhook_secret(entropy: bytes) -> str:
    """`whsec_` and the key in base64, from 24 or more random bytes."""
    if len(entropy) < MIN_ENTROPY_BYTES:
        raise ValueError(f"a webhook secret needs {MIN_ENTROPY_BYTES} bytes of entropy, not {len(entropy)}")
    return PREFIX + b64encode(entropy).decode()
