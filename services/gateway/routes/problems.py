"""Errors as RFC 9457 problem documents: what is wrong in `detail`, the trace to ask for, faults field by field."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from gateway.domain import refusals
from shared.errors import RetryableError
from shared.trace import current_trace_id

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2
_STATUS: tuple[tuple[type[refusals.Refused], HTTPStatus], ...] = (
    (refusals.Unauthenticated, HTTPStatus.UNAUTHORIZED),
    (refusals.Forbidden, HTTPStatus.FORBIDDEN),
    (refusals.NotFound, HTTPStatus.NOT_FOUND),
    (refusals.Conflict, HTTPStatus.CONFLICT),
    (refusals.Malformed, HTTPStatus.BAD_REQUEST),
    (refusals.Unacceptable, HTTPStatus.UNPROCESSABLE_ENTITY),
    (refusals.Refused, HTTPStatus.BAD_REQUEST),
)


class FieldFault(BaseModel):
    field: str = Field(description="Path of the field, such as `options.clip_duration`.")
    message: str


class Problem(BaseModel):
    """What went wrong. `type` is stable and meant for programs, `detail` for people."""

    type: str = Field(examples=["urn:tldr:problem:not_found"])
    title: str
    status: int
    detail: str
    trace_id: str | None = None
    errors: list[FieldFault] | None = None


def problem(
    status: int,
    *,
    code: str,
    detail: str,
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    body = Problem(
        type=f"urn:tldr:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        trace_id=current_trace_id(),
        errors=[FieldFault(**error) for error in errors] or None,
    )
    return JSONResponse(
        body.model_dump(exclude_none=True), status_code=status, media_type=MEDIA_TYPE, headers=headers
    )


def install(app: FastAPI) -> None:
    """Answer every error of the application with a problem document."""
    for kind, handler in (
        (refusals.Refused, _refused),
        (RetryableError, _unavailable),
        (RequestValidationError, _invalid),
        (HTTPException, _http),
        (Exception, _unexpected),
    ):
        app.add_exception_handler(kind, cast("Callable[[Request, Exception], Awaitable[Response]]", handler))


async def _refused(_request: Request, error: refusals.Refused) -> Response:
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    faults = (
        [{"field": error.field, "message": str(error)}] if isinstance(error, refusals.Unacceptable) else []
    )
    headers = {"WWW-Authenticate": "ApiKey"} if status is HTTPStatus.UNAUTHORIZED else None
    return problem(status, code=error.code, detail=str(error), errors=faults, headers=headers)


async def _unavailable(_request: Request, error: RetryableError) -> Response:
    log.warning("request_unavailable", code=error.code, reason=str(error))
    return problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        code=error.code,
        detail="Service temporarily unavailable",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


async def _invalid(_request: Request, error: RequestValidationError) -> Response:
    faults = [_fault(fault) for fault in error.errors()]
    if any(fault["type"] == "json_invalid" for fault in error.errors()):
        return problem(HTTPStatus.BAD_REQUEST, code="malformed", detail="The body is not JSON")
    detail = "; ".join(f"{fault['field']}: {fault['message']}" for fault in faults[:5])
    return problem(
        HTTPStatus.UNPROCESSABLE_ENTITY, code="invalid_request", detail=detail[:1000], errors=faults[:50]
    )


def _fault(fault: Mapping[str, Any]) -> dict[str, str]:
    """Field and message; never the value, which may be a secret."""
    place = [str(part) for part in fault["loc"] if part not in ("body", "query", "path", "header")]
    return {"field": ".".join(place) or "body", "message": str(fault["msg"])}


async def _http(_request: Request, error: HTTPException) -> Response:
    detail = str(error.detail)
    return problem(error.status_code, code=_code(error.status_code), detail=detail, headers=error.headers)


def _code(status: int) -> str:
    return HTTPStatus(status).name.lower()


async def _unexpected(_request: Request, error: Exception) -> Response:
    log.error("request_failed", exc_info=error)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        code="internal",
        detail="An internal error happened; we have a trace",
    )
