"""Stored objects by signed URL, with ranges, so that players can seek."""

import asyncio
from http import HTTPStatus

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from gateway.domain.refusals import NotFound
from gateway.routes.problems import problem
from gateway.routes.use_cases import Use
from shared.object_store import content_type_of

router = APIRouter(include_in_schema=False)
_UNSATISFIABLE = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE


class StoredFile(FileResponse):
    """Refuses a wrong `Range` with a problem document, where the framework would in plain text."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusals: list[Message] = []

        async def send_unless_refused(message: Message) -> None:
            if message.get("status") in (HTTPStatus.BAD_REQUEST, _UNSATISFIABLE):
                refusals.append(message)
            elif not refusals:
                await send(message)

        await super().__call__(scope, receive, send_unless_refused)
        for refusal in refusals:
            await _range_problem(refusal)(scope, receive, send)


def _range_problem(refusal: Message) -> Response:
    if refusal["status"] == HTTPStatus.BAD_REQUEST:
        detail = "The header Range must name byte ranges, such as bytes=0-1023"
        return problem(HTTPStatus.BAD_REQUEST, code="malformed", detail=detail)
    length = Headers(raw=refusal["headers"])["content-range"]
    detail = "The header Range names bytes beyond the end of the object"
    return problem(
        _UNSATISFIABLE, code="range_not_satisfiable", detail=detail, headers={"Content-Range": length}
    )


@router.api_route("/objects/{key:path}", methods=["GET", "HEAD"], response_class=FileResponse)
async def get_object(key: str, expires: int, signature: str, use: Use) -> FileResponse:
    path = use.objects.file(key, expires=expires, signature=signature)
    if not await asyncio.to_thread(path.is_file):
        raise NotFound("Object not found")
    headers = {"Cache-Control": "private, max-age=3600", "Cross-Origin-Resource-Policy": "cross-origin"}
    return StoredFile(path, media_type=content_type_of(key), headers=headers)
