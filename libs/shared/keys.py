"""Object keys: readable paths, a pure function of what they name, and a contract between the services."""

from shared.ids import HighlightId, OrganizationId, StreamId

SHARED_ROOTS = ("profiles",)


def archive_prefix(organization_id: OrganizationId, stream_id: StreamId) -> str:
    return f"archive/{organization_id}/{stream_id}/"


def archive_segment(
    organization_id: OrganizationId,
    stream_id: StreamId,
    *,
    run: int,
    epoch: int,
    sequence: int,
    sha256: str,
    extension: str,
) -> str:
    """Key of one archived media segment; the content hash makes a second, different copy visible."""
    prefix = archive_prefix(organization_id, stream_id)
    return f"{prefix}{run:03d}/{epoch:04d}/{sequence:012d}-{sha256[:16]}.{extension}"


def clip_prefix(organization_id: OrganizationId, stream_id: StreamId) -> str:
    return f"clips/{organization_id}/{stream_id}/"


def clip_video(
    organization_id: OrganizationId, stream_id: StreamId, highlight_id: HighlightId, *, revision: int
) -> str:
    return f"{clip_prefix(organization_id, stream_id)}{highlight_id}/r{revision}/clip.mp4"


def clip_thumbnail(
    organization_id: OrganizationId, stream_id: StreamId, highlight_id: HighlightId, *, revision: int
) -> str:
    return f"{clip_prefix(organization_id, stream_id)}{highlight_id}/r{revision}/thumbnail.jpg"


def upload_prefix(organization_id: OrganizationId, upload_id: str) -> str:
    return f"uploads/{organization_id}/{upload_id}/"


def upload_part(organization_id: OrganizationId, upload_id: str, *, offset: int, sha256: str) -> str:
    """Key of the part of an uploaded file that begins at byte `offset`.

    The content's hash is in it, so that a writer who has lost its lease overwrites nothing that counts.
    """
    return f"{upload_prefix(organization_id, upload_id)}{offset:015d}-{sha256[:16]}.part"


def upload_manifest(organization_id: OrganizationId, upload_id: str) -> str:
    """Key of the JSON that names the parts of a whole upload; it appears when the last part is there."""
    return f"{upload_prefix(organization_id, upload_id)}manifest.json"


def profile(sha256: str) -> str:
    return f"profiles/{sha256}.json"


def organization_of(key: str) -> str | None:
    """Whose object it is: the second part of the key or prefix. None where all share it, or the part is cut off."""
    root, _, rest = key.partition("/")
    owner, slash, _ = rest.partition("/")
    return owner if slash and root not in SHARED_ROOTS else None
