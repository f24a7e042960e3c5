"""Uploaded files: what is known of one while it comes in, in which parts it lies, and how tus speaks of it.

tus 1.0: https://tus.io/protocols/resumable-upload with creation, expiration, termination and checksum.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from gateway.domain.refusals import Unacceptable
from gateway.domain.source import UPLOAD_SCHEME
from shared.ids import OrganizationId

UploadId = NewType("UploadId", str)

PART_BYTES = 8 * 1024 * 1024
# What is left of a connection that broke is kept as a part of its own only where that is worth an object.
LEAST_TAIL_BYTES = 256 * 1024
MAX_PARTS = 10_000
MAX_NAME = 255
MAX_METADATA = 2048
CHECKSUMS = ("sha1", "sha256")
_METADATA_FIELD = "Upload-Metadata"
_CHECKSUM_FIELD = "Upload-Checksum"


class UploadStatus(StrEnum):
    UPLOADING = "uploading"
    COMPLETE = "complete"


@dataclass(frozen=True, kw_only=True)
class UploadCaps:
    """What one organization may bring; `*_s` are seconds after the last use."""

    max_bytes: int
    total_bytes: int
    unfinished: int
    unfinished_s: float
    finished_s: float


@dataclass(frozen=True, kw_only=True)
class Upload:
    """One row of `uploads`. `metadata` is as tus brought it."""

    upload_id: UploadId
    organization_id: OrganizationId
    name: str
    content_type: str
    metadata: str
    size_bytes: int
    offset_bytes: int = 0
    created_at: datetime
    expires_at: datetime
    completed_at: datetime | None = None

    @property
    def left_bytes(self) -> int:
        return self.size_bytes - self.offset_bytes


@dataclass(frozen=True, kw_only=True)
class Part:
    """Bytes of an upload that lie in one object."""

    offset_bytes: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Checksum:
    algorithm: str
    digest: bytes

    def fits(self, body: bytes) -> bool:
        return hmac.compare_digest(hashlib.new(self.algorithm, body).digest(), self.digest)


class PublicUpload(BaseModel):
    """A file on its way in, or whole."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(description="`upl_` and 12 hexadecimal digits.")
    status: UploadStatus = Field(description="`uploading`, or `complete` when every byte is stored.")
    source_url: str = Field(
        description="What to give as `source_url` of a stream, once the upload is complete."
    )
    name: str = Field(description="The name of the file, where one was given.")
    content_type: str = Field(description="The type of the file, where one was given; nothing depends on it.")
    size_bytes: int = Field(description="Size of the whole file.")
    received_bytes: int = Field(description="How much of it is stored: the offset at which to go on.")
    created_at: AwareDatetime = Field(description="When the upload was begun.")
    expires_at: AwareDatetime = Field(description="When it is deleted, unless it is used or goes on before.")
    completed_at: AwareDatetime | None = Field(description="When the last byte was stored.")


def public_upload(upload: Upload) -> PublicUpload:
    return PublicUpload(
        id=upload.upload_id,
        status=UploadStatus.COMPLETE if upload.completed_at else UploadStatus.UPLOADING,
        source_url=f"{UPLOAD_SCHEME}:{upload.upload_id}",
        name=upload.name,
        content_type=upload.content_type,
        size_bytes=upload.size_bytes,
        received_bytes=upload.offset_bytes,
        created_at=upload.created_at,
        expires_at=upload.expires_at,
        completed_at=upload.completed_at,
    )


def read_metadata(text: str) -> Mapping[str, str]:
    """`key base64, key base64`, as tus writes it; a key without a value has the empty one. Raises Unacceptable."""
    if len(text) > MAX_METADATA:
        raise Unacceptable(f"longer than {MAX_METADATA} characters", field=_METADATA_FIELD)
    found: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = pair.partition(" ")
        found[key.lower()] = _decoded(value.strip())
    return found


def _decoded(value: str) -> str:
    try:
        text = base64.b64decode(value, validate=True).decode("utf-8")
    except (binascii.Error, ValueError) as error:
        raise Unacceptable("a value is not base64 of UTF-8 text", field=_METADATA_FIELD) from error
    return text.replace("\x00", "")[:MAX_NAME]


def read_checksum(text: str) -> Checksum:
    """`algorithm base64`. Raises Unacceptable."""
    algorithm, _, value = text.partition(" ")
    if algorithm not in CHECKSUMS:
        raise Unacceptable(f"the algorithm must be {' or '.join(CHECKSUMS)}", field=_CHECKSUM_FIELD)
    try:
        digest = base64.b64decode(value.strip(), validate=True)
    except binascii.Error as error:
        raise Unacceptable("the checksum is not base64", field=_CHECKSUM_FIELD) from error
    if len(digest) != hashlib.new(algorithm).digest_size:
        raise Unacceptable(f"this is not the length of a {algorithm} checksum", field=_CHECKSUM_FIELD)
    return Checksum(algorithm, digest)


def manifest(upload: Upload, parts: Iterable[Part]) -> bytes:
    """What ingest reads to find the parts of a whole upload; see `shared.keys.upload_manifest`."""
    listed = [
        {"offset": part.offset_bytes, "size_bytes": part.size_bytes, "sha256": part.sha256} for part in parts
    ]
    described = {
        "size_bytes": upload.size_bytes,
        "parts": listed,
        "name": upload.name,
        "content_type": upload.content_type,
    }
    return json.dumps(described, ensure_ascii=False).encode()
