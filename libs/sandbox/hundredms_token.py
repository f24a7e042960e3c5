"""Judges a management token as 100ms' API does: a JWT, HS256 under the app secret, with its documented claims."""

import base64
import binascii
import hmac
import json
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any


def token_fault(authorization: str, *, access_key: str, app_secret: str, now: datetime) -> str:
    """What is wrong with the header `Authorization`; empty where nothing is."""
    scheme, _, token = authorization.partition(" ")
    parts = token.split(".")
    if scheme != "Bearer" or len(parts) != 3:
        return "missing or malformed token"
    signed = hmac.new(app_secret.encode(), f"{parts[0]}.{parts[1]}".encode(), sha256).digest()
    try:
        header, claims = (json.loads(_decoded(part)) for part in parts[:2])
        is_genuine = hmac.compare_digest(signed, _decoded(parts[2]))
    except (ValueError, binascii.Error):
        return "unreadable token"
    if header.get("alg") != "HS256" or not is_genuine:
        return "signature is invalid"
    return _claims_fault(claims, access_key=access_key) or _time_fault(claims, now_s=now.timestamp())


def _claims_fault(claims: Mapping[str, Any], *, access_key: str) -> str:
    if claims.get("access_key") != access_key:
        return "unknown access key"
    if claims.get("type") != "management" or claims.get("version") != 2:
        return "not a management token of version 2"
    return "" if claims.get("jti") else "a token needs a jti"


def _time_fault(claims: Mapping[str, Any], *, now_s: float) -> str:
    if not all(isinstance(claims.get(name), int | float) for name in ("iat", "nbf", "exp")):
        return "a token needs iat, nbf and exp"
    if max(claims["iat"], claims["nbf"]) > now_s:
        return "token used before issued"
    return "token is expired" if claims["exp"] < now_s else ""


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
