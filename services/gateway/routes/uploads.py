"""Resumable uploads of files, as tus 1.0 speaks; a finished one is the source of a stream as `upload:<id>`."""

import re
from email.utils import format_datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import JSONResponse, Response
from starlette.types import Scope as AsgiScope

from gateway.domain.refusals import Malformed, WrongMediaType, WrongVersion
from gateway.domain.scopes import Scope
from gateway.domain.uploads import CHECKSUMS, PublicUpload, Upload, UploadId, public_upload, read_checksum
from gateway.routes.edge import paced
from gateway.routes.limited import LimitedByKey
from gateway.routes.problems import MEDIA_TYPE, Problem, problems_of
from gateway.routes.use_cases import Use, needs
from gateway.workflow.authentication import Caller
from gateway.workflow.uploads import ChecksumWrong
from shared.trace import current_trace_id

TUS = "1.0.0"
EXTENSIONS = "creation,expiration,termination,checksum"
CHUNK_TYPE = "application/offset+octet-stream"
CHECKSUM_MISMATCH = 460  # tus' own status
ASKED_HEADERS = ("Tus-Resumable", "Upload-Length", "Upload-Offset", "Upload-Metadata", "Upload-Checksum")
TOLD_HEADERS = (
    *("Location", "Tus-Resumable", "Tus-Version", "Tus-Extension", "Tus-Max-Size", "Tus-Checksum-Algorithm"),
    *("Upload-Length", "Upload-Offset", "Upload-Metadata", "Upload-Expires"),
)
_CHUNK_PATH = re.compile(r"(/[a-z0-9]+)+/uploads/[^/]+")
_PROBLEMS = problems_of(HTTPStatus.GONE, HTTPStatus.PRECONDITION_FAILED)
_CHUNK_PROBLEMS: dict[int | str, dict[str, Any]] = {
    **_PROBLEMS,
    **problems_of(HTTPStatus.CONFLICT, HTTPStatus.LOCKED),
    CHECKSUM_MISMATCH: {"model": Problem, "description": "The chunk does not fit its checksum"},
}

description = APIRouter(tags=["uploads"])
router = APIRouter(tags=["uploads"], route_class=LimitedByKey)
Uploader = Annotated[Caller, Depends(needs(Scope.STREAMS_WRITE))]


def is_chunk(scope: AsgiScope) -> bool:
    """Whether the request brings bytes of a file, whose number only the upload itself bounds."""
    return scope["method"] == "PATCH" and _CHUNK_PATH.fullmatch(scope["path"]) is not None


def _spoken(
    tus_resumable: Annotated[str | None, Header(description="`1.0.0`, where it is sent.")] = None,
) -> None:
    """tus wants the header in every request; whoever comes without it, with curl perhaps, is understood too."""
    if tus_resumable is not None and tus_resumable != TUS:
        raise WrongVersion(f"this server speaks tus {TUS}", told={"Tus-Version": TUS})


_Spoken = Depends(_spoken)


@description.options("/uploads", status_code=HTTPStatus.NO_CONTENT, include_in_schema=False)
@description.options("/uploads/{upload_id}", status_code=HTTPStatus.NO_CONTENT, include_in_schema=False)
async def describe_uploads(use: Use) -> Response:
    """What this server can do, as tus' clients ask for it."""
    told = {
        "Tus-Resumable": TUS,
        "Tus-Version": TUS,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(use.uploads.max_bytes),
        "Tus-Checksum-Algorithm": ",".join(CHECKSUMS),
    }
    return Response(status_code=HTTPStatus.NO_CONTENT, headers=told)


@router.post(
    "/uploads",
    status_code=HTTPStatus.CREATED,
    response_model=PublicUpload,
    responses=problems_of(
        HTTPStatus.CONFLICT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.PRECONDITION_FAILED
    ),
    dependencies=[_Spoken],
)
async def begin_upload(
    request: Request,
    use: Use,
    caller: Uploader,
    upload_length: Annotated[int, Header(ge=1, description="Size of the file in bytes.")],
    upload_metadata: Annotated[
        str, Header(description="`filename` and `filetype`, each with a space and its value in base64.")
    ] = "",
) -> JSONResponse:
    """Begin to upload a file (tus 1.0, extension `creation`). `Location` is where its bytes go."""
    upload = await use.uploads.begin(caller, size_bytes=upload_length, metadata=upload_metadata)
    headers = _told(upload) | {"Location": f"{request.url.path.rstrip('/')}/{upload.upload_id}"}
    return _shown(upload, status=HTTPStatus.CREATED, headers=headers)


@router.head("/uploads/{upload_id}", dependencies=[_Spoken], responses=_PROBLEMS)
async def get_offset(upload_id: str, use: Use, caller: Uploader) -> Response:
    """How much is stored: `Upload-Offset` is where to go on after a broken connection."""
    upload = await use.uploads.upload(caller, UploadId(upload_id))
    metadata = {"Upload-Metadata": upload.metadata} if upload.metadata else {}
    headers = _told(upload) | metadata | {"Upload-Length": str(upload.size_bytes)}
    return Response(status_code=HTTPStatus.OK, headers=headers)


@router.get("/uploads/{upload_id}", responses=problems_of(HTTPStatus.GONE))
async def get_upload(upload_id: str, use: Use, caller: Uploader) -> PublicUpload:
    """An upload, and what to give as `source_url` when it is complete."""
    return public_upload(await use.uploads.upload(caller, UploadId(upload_id)))


@router.patch(
    "/uploads/{upload_id}",
    status_code=HTTPStatus.NO_CONTENT,
    dependencies=[_Spoken],
    responses=_CHUNK_PROBLEMS,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {CHUNK_TYPE: {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def receive_chunk(
    upload_id: str,
    request: Request,
    *,
    use: Use,
    caller: Uploader,
    upload_offset: Annotated[int, Header(ge=0, description="How much is stored, as HEAD tells it.")],
    upload_checksum: Annotated[
        str | None, Header(description="`sha1` or `sha256`, a space, and the chunk's digest in base64.")
    ] = None,
) -> Response:
    """Bytes of the file from this offset on: all that are left, or some. What was stored counts if the rest fails."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != CHUNK_TYPE:
        raise WrongMediaType(f"Send the bytes with the header Content-Type: {CHUNK_TYPE}")
    upload = await use.uploads.receive(
        caller,
        UploadId(upload_id),
        offset_bytes=upload_offset,
        announced_bytes=_announced(request),
        body=paced(request.stream()),
        checksum=read_checksum(upload_checksum) if upload_checksum else None,
    )
    return Response(status_code=HTTPStatus.NO_CONTENT, headers=_told(upload))


@router.delete(
    "/uploads/{upload_id}", status_code=HTTPStatus.NO_CONTENT, dependencies=[_Spoken], responses=_PROBLEMS
)
async def end_upload(upload_id: str, use: Use, caller: Uploader) -> Response:
    """Give an upload up, or delete a finished one. A stream that still reads it ends."""
    await use.uploads.end(caller, UploadId(upload_id))
    return Response(status_code=HTTPStatus.NO_CONTENT, headers={"Tus-Resumable": TUS})


def _told(upload: Upload) -> dict[str, str]:
    return {
        "Tus-Resumable": TUS,
        "Upload-Offset": str(upload.offset_bytes),
        "Upload-Expires": format_datetime(upload.expires_at, usegmt=True),
    }


def _shown(upload: Upload, *, status: HTTPStatus, headers: dict[str, str]) -> JSONResponse:
    return JSONResponse(public_upload(upload).model_dump(mode="json"), status_code=status, headers=headers)


def _announced(request: Request) -> int | None:
    text = request.headers.get("content-length")
    if text is not None and not text.isdigit():
        raise Malformed("Content-Length is not a number")
    return int(text) if text is not None else None


async def mismatch(_request: Request, wrong: ChecksumWrong) -> Response:
    """How the application answers this error: its status has no name in HTTP's register, so by hand."""
    body = {
        "type": f"urn:tldr:problem:{wrong.code}",
        "title": "Checksum Mismatch",
        "status": CHECKSUM_MISMATCH,
        "detail": str(wrong),
        "trace_id": current_trace_id(),
    }
    return JSONResponse(
        body, status_code=CHECKSUM_MISMATCH, media_type=MEDIA_TYPE, headers={"Tus-Resumable": TUS}
    )
