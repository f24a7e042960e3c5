"""The documentation pages: our own small page over /openapi.json, and the generated one of the events.

Neither needs another host; the page of the events needs no script either.
"""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

FOLDER = Path(__file__).resolve().parent / "docs_page"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
router = APIRouter(include_in_schema=False)


def _file(name: str, media_type: str) -> FileResponse:
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
    return FileResponse(FOLDER / name, media_type=media_type, headers=headers)


@router.get("/docs")
@router.get("/redoc")
async def page() -> FileResponse:
    return _file("page.html", "text/html")


@router.get("/docs/page.js")
async def script() -> FileResponse:
    return _file("page.js", "text/javascript")


@router.get("/docs/page.css")
async def style() -> FileResponse:
    return _file("page.css", "text/css")


@router.get("/docs/events")
async def events_page() -> FileResponse:
    return _file("events.html", "text/html")


@router.get("/docs/events.css")
async def events_style() -> FileResponse:
    return _file("events.css", "text/css")


@router.get("/docs/asyncapi.json")
async def asyncapi() -> FileResponse:
    return _file("asyncapi.json", "application/json")
