"""Highlights as HLS playlists by signed link, playable from the moment a highlight is confirmed."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from gateway.domain.hls_playlist import MEDIA_TYPE
from gateway.routes.problems import Problem
from gateway.routes.use_cases import Use
from shared.ids import HighlightId, OrganizationId

router = APIRouter(tags=["highlights"])
_FILE_NAME = "/highlights/{highlight_id}/playlist.m3u8"
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}, "description": "The playlist"},
    403: {"model": Problem, "description": "The link is wrong, or has expired"},
    410: {"model": Problem, "description": "The media is not kept any more"},
}


class PlaylistLink(BaseModel):
    """The query of a link, as `playback_url` has it."""

    organization: str = Field(description="Whose highlight it is.")
    expires: int = Field(description="Until when the link opens, in unix seconds.")
    signature: str = Field(description="Covers highlight, organization and expiry.")


Link = Annotated[PlaylistLink, Query()]
IfNoneMatch = Annotated[str | None, Header(include_in_schema=False)]


@router.head(_FILE_NAME, include_in_schema=False)
@router.get(_FILE_NAME, response_class=Response, responses=_ANSWERS)
async def get_playlist(
    highlight_id: str, link: Link, use: Use, if_none_match: IfNoneMatch = None
) -> Response:
    """The highlight as an HLS playlist; `playback_url` of a highlight is such a link. Needs no key.

    It plays from the highlight's start (EXT-X-START) to the end of the segment in which the highlight ends.
    """
    playlist = await use.playback.playlist(
        OrganizationId(link.organization),
        HighlightId(highlight_id),
        expires=link.expires,
        signature=link.signature,
    )
    tag = f'W/"{playlist.tag}"'
    headers = {
        "ETag": tag,
        "Cache-Control": f"private, max-age={playlist.max_age_s}",
        "Cross-Origin-Resource-Policy": "cross-origin",
    }
    if if_none_match is not None and playlist.tag in if_none_match:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(playlist.text, media_type=MEDIA_TYPE, headers=headers)
