"""Stored objects by signed URL, with ranges, so that players can seek."""

import asyncio

from fastapi import APIRouter
from fastapi.responses import FileResponse

from gateway.domain.refusals import NotFound
from gateway.routes.use_cases import Use
from shared.object_store import content_type_of

router = APIRouter(include_in_schema=False)


@router.api_route("/objects/{key:path}", methods=["GET", "HEAD"], response_class=FileResponse)
async def get_object(key: str, expires: int, signature: str, use: Use) -> FileResponse:
    path = use.objects.file(key, expires=expires, signature=signature)
    if not await asyncio.to_thread(path.is_file):
        raise NotFound("Object not found")
    headers = {"Cache-Control": "private, max-age=3600", "Cross-Origin-Resource-Policy": "cross-origin"}
    return FileResponse(path, media_type=content_type_of(key), headers=headers)
