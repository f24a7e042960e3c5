"""Stored objects behind expiring signed URLs, where the store is a local folder and the gateway serves it."""

from pathlib import Path
from typing import Protocol

from gateway.domain.refusals import Forbidden, NotFound
from shared.clock import Clock
from shared.object_store import KeyInvalid, ObjectMissing, verify_signature


class Files(Protocol):
    def file_of(self, key: str) -> Path:
        """Where the object lies, if there is one. Raises KeyInvalid, ObjectMissing."""
        ...


class FilesElsewhere:
    """Where objects lie in S3, signed URLs lead there, and the gateway has no file of any."""

    def file_of(self, key: str) -> Path:
        raise ObjectMissing(f"object {key} is not served here")


class SignedObjects:
    def __init__(self, *, files: Files, secret: str, clock: Clock) -> None:
        self._files = files
        self._secret = secret
        self._clock = clock

    def file(self, key: str, *, expires: int, signature: str) -> Path:
        """Where the object would lie. Raises Forbidden for a wrong or old signature, NotFound for a bad key."""
        if not verify_signature(key, expires, signature, secret=self._secret, now=self._clock()):
            raise Forbidden("The URL is not valid, or has expired")
        try:
            return self._files.file_of(key)
        except (KeyInvalid, ObjectMissing) as error:
            raise NotFound("Object not found") from error
