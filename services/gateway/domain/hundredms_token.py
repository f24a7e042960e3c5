"""The management token of 100ms' API: a JWT that is signed with the app secret, as its documentation says."""

import hmac
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from json import dumps
from typing import Any

from gateway.domain.refusals import Unacceptable

# 100ms refuses what was issued in its future; clocks differ.
SKEW_S = 10
LIFETIME_S = 600


@dataclass(frozen=True)
class ApiCredentials:
    """Access key and app secret of a workspace, from 100ms' dashboard."""

    access_key: str
    app_secret: str = field(repr=False)


def check_credentials(credentials: ApiCredentials) -> None:
    """Raise Unacceptable for what cannot come from 100ms' dashboard, a pasted line end for instance."""
    for field_name, value in (
        ("access_key", credentials.access_key),
        ("app_secret", credentials.app_secret),
    ):
        if not all("!" <= character <= "~" for character in value):
            raise Unacceptable("It must be of visible ASCII characters, without spaces", field=field_name)


def management_token(credentials: ApiCredentials, *, token_id: str, now: datetime) -> str:
    """A token that is good for ten minutes from `now`; `token_id` must be new for each."""
    issued_at = int(now.timestamp()) - SKEW_S
    claims = {
        "access_key": credentials.access_key,
        "type": "management",
        "version": 2,
        "jti": token_id,
        "iat": issued_at,
        "nbf": issued_at,
        "exp": issued_at + SKEW_S + LIFETIME_S,
    }
    signed = f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part(claims)}"
    signature = hmac.new(credentials.app_secret.encode(), signed.encode(), sha256).digest()
    return f"{signed}.{_encoded(signature)}"


def _part(content: dict[str, Any]) -> str:
    return _encoded(dumps(content, separators=(",", ":")).encode())


def _encoded(plain: bytes) -> str:
    return urlsafe_b64encode(plain).decode().rstrip("=")
