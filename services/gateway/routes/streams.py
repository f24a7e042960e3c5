"""Streams and their highlights."""

from hashlib import sha256
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query
from pydantic import AliasChoices, BaseModel, Field, field_validator

from gateway.domain.page import Page
from gateway.domain.public_views import PublicHighlight, PublicStream
from gateway.domain.scopes import Scope
from gateway.domain.source import Platform
from gateway.domain.stream_options import (
    MAX_METADATA_CHARACTERS,
    MAX_METADATA_KEYS,
    StreamOptions,
    check_metadata,
)
from gateway.domain.submission import MAX_EXTERNAL_ID
from gateway.routes.bodies import RequestBody
from gateway.routes.limited import LimitedByKey
from gateway.routes.use_cases import PageQuery, Use, needs
from gateway.workflow.authentication import Caller
from gateway.workflow.intake import StreamRequest
from gateway.workflow.streams import RequestKey
from shared.ids import HighlightId, StreamId

MAX_GIVEN_EXTERNAL_ID = 200
router = APIRouter(tags=["streams"], route_class=LimitedByKey)
StreamReader = Annotated[Caller, Depends(needs(Scope.STREAMS_READ))]
StreamWriter = Annotated[Caller, Depends(needs(Scope.STREAMS_WRITE))]
HighlightReader = Annotated[Caller, Depends(needs(Scope.HIGHLIGHTS_READ))]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="The same key with the same body within 24 hours gives the same stream, not a second one.",
    ),
]


class StreamCreateRequest(RequestBody):
    source_url: str = Field(
        max_length=4096,
        description="Where the media is: an HLS playlist (live or VOD) or a media file over https or http, an "
        "`rtmp(s)`, `rtsp(s)` or `srt` address, the page of a Twitch channel or of a YouTube video, or "
        "`upload:<id>` of a finished upload. The kind is told from the address, and where that says nothing "
        "from what the source answers.",
        examples=["https://example.com/live/master.m3u8"],
    )
    external_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_GIVEN_EXTERNAL_ID,
        description="The id that the stream has with you: given back, and a filter of the list. Need not be unique.",
        examples=["match-17"],
    )
    platform: Platform | None = Field(default=None, description="Told from the address when absent.")
    options: StreamOptions = Field(
        default_factory=StreamOptions, validation_alias=AliasChoices("options", "processing_options")
    )
    title: str | None = Field(
        default=None, max_length=500, description="Shown with the stream.", examples=["Final, court 1"]
    )
    metadata: dict[str, Any] | None = Field(
        default=None,
        description="Kept, and given back unchanged with the stream and its highlights: "
        f"at most {MAX_METADATA_KEYS} keys and {MAX_METADATA_CHARACTERS} characters of JSON.",
        examples=[{"match_id": "m-17"}],
    )
    live: bool = Field(
        default=True,
        description="False sends the work to the lane for recordings, as it is always done with files and uploads.",
    )

    @field_validator("metadata")
    @classmethod
    def _small(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        check_metadata(value)
        return value


class StreamList(BaseModel):
    items: tuple[PublicStream, ...]
    page: int
    per_page: int
    total: int


class HighlightList(BaseModel):
    items: tuple[PublicHighlight, ...]
    page: int
    per_page: int
    total: int


class StopAnswer(BaseModel):
    message: str = "Stream processing stopped"


@router.post("/streams/analyze", include_in_schema=False)
@router.post("/streams")
async def create_stream(
    body: StreamCreateRequest, use: Use, caller: StreamWriter, idempotency_key: IdempotencyKey = None
) -> PublicStream:
    """Follow a live stream, or a VOD, and find its highlights. The work is always asynchronous.

    The source is looked at once, for some seconds at most; `source_check` tells what was found. One that does not
    answer yet is accepted: it is tried again until it begins, or its time is over.
    """
    request = StreamRequest(
        source_url=body.source_url,
        options=body.options,
        platform=body.platform,
        title=body.title,
        metadata=body.metadata or {},
        live=body.live,
        external_id=body.external_id,
    )
    return await use.streams.submit(caller, request, request_key=_request_key(idempotency_key, body))


def _request_key(key: str | None, body: StreamCreateRequest) -> RequestKey | None:
    if key is None:
        return None
    headers = sorted(body.options.headers().items())
    # Without the fields that came later: a key from before an update still knows its request.
    later = {"external_id"} if body.external_id is None else None
    return RequestKey(key, sha256(f"{body.model_dump_json(exclude=later)}{headers}".encode()).hexdigest())


@router.get("/streams")
async def list_streams(
    page: PageQuery,
    use: Use,
    caller: StreamReader,
    external_id: Annotated[
        str | None, Query(max_length=MAX_EXTERNAL_ID, description="Only streams with this id elsewhere.")
    ] = None,
) -> StreamList:
    """The organization's streams, newest first."""
    return StreamList(**_listed(await use.streams.streams(caller, page, external_id=external_id)))


@router.get("/streams/{stream_id}")
async def get_stream(stream_id: str, use: Use, caller: StreamReader) -> PublicStream:
    """Status and progress of a stream."""
    return await use.streams.stream(caller, StreamId(stream_id))


@router.post("/streams/{stream_id}/stop")
async def stop_stream(stream_id: str, use: Use, caller: StreamWriter) -> StopAnswer:
    """End a stream; what was found so far is completed. Without effect on one that has ended."""
    await use.streams.stop(caller, StreamId(stream_id))
    return StopAnswer()


@router.get("/streams/{stream_id}/highlights", tags=["highlights"])
async def list_stream_highlights(
    stream_id: str, page: PageQuery, use: Use, caller: HighlightReader
) -> HighlightList:
    """A stream's highlights in its order, also while it runs."""
    return HighlightList(**_listed(await use.streams.highlights(caller, StreamId(stream_id), page)))


@router.get("/highlights/{highlight_id}", tags=["highlights"])
async def get_highlight(highlight_id: str, use: Use, caller: HighlightReader) -> PublicHighlight:
    """One highlight, with fresh addresses of its clip."""
    return await use.streams.highlight(caller, HighlightId(highlight_id))


def _listed(page: Page[Any]) -> dict[str, Any]:
    return {
        "items": page.items,
        "page": page.request.page,
        "per_page": page.request.per_page,
        "total": page.total,
    }
