"""Secrets at rest: encryption under a rotatable ring of keys, each secret bound to where it belongs.

Where the keys come from (a file, the environment) and where the tokens are stored is not known here.
"""

import binascii
import json
from collections.abc import Sequence
from typing import ClassVar, Self

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from shared.errors import PermanentError


class SecretUnreadable(PermanentError):
    """The token was made under another key, was changed, or belongs to another place."""

    code: ClassVar[str] = "secret_unreadable"


def generate_key() -> str:
    """A new random key: 44 characters of URL-safe base64."""
    return Fernet.generate_key().decode("ascii")


class Keyring:
    """The first key encrypts, every key decrypts: put a new one in front, rotate the tokens, drop the old."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Raises ValueError when there is no key or one is malformed; the message does not repeat the key."""
        if not keys:
            raise ValueError("the keyring needs at least one key")
        self._newest, *older = [_fernet(key, position=i) for i, key in enumerate(keys, start=1)]
        self._ring = MultiFernet([self._newest, *older])

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read `newest,older,…` as it stands in a setting or a file; line ends separate as commas do."""
        return cls([key.strip() for key in text.replace("\n", ",").split(",") if key.strip()])

    def encrypt(self, plain: str, *, context: str) -> str:
        """Encrypt for one place. `context` names it, e.g. `<organization id>/webhook_endpoint.secret`."""
        payload = json.dumps([context, plain], ensure_ascii=False)
        return self._ring.encrypt(payload.encode()).decode("ascii")

    def decrypt(self, token: str, *, context: str) -> str:
        """The secret, if the token was made for this very context. Raises SecretUnreadable."""
        stored_context, plain = json.loads(self._open(token, context=context))
        if stored_context != context:
            raise SecretUnreadable(f"the secret at {context} was encrypted for another place")
        return str(plain)

    def rotate(self, token: str) -> str:
        """The same secret under the newest key, with its context and its time. Raises SecretUnreadable."""
        try:
            return self._ring.rotate(token.encode()).decode("ascii")
        except (InvalidToken, UnicodeError) as error:
            raise SecretUnreadable("a token cannot be rotated: unknown key or changed token") from error

    def needs_rotation(self, token: str) -> bool:
        """Whether the token was made under an older key than the newest."""
        try:
            self._newest.decrypt(token.encode())
        except (InvalidToken, UnicodeError):
            return True
        return False

    def _open(self, token: str, *, context: str) -> bytes:
        try:
            return self._ring.decrypt(token.encode())
        except (InvalidToken, UnicodeError) as error:
            raise SecretUnreadable(f"the secret at {context} cannot be decrypted by any key") from error


def _fernet(key: str, *, position: int) -> Fernet:
    try:
        return Fernet(key)
    except (ValueError, binascii.Error) as error:
        raise ValueError(f"key {position} of the keyring is not 32 bytes of URL-safe base64") from error
