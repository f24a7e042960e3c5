"""The whole API: every router under its prefixes, errors, limits and headers around them."""

from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from gateway.routes import accounts, docs, health, hundredms, objects, problems, streams, webhooks
from gateway.routes.edge import TRACE_HEADER, BodyLimit, Edge
from gateway.routes.problems import Problem
from gateway.routes.use_cases import UseCases

ALIASES = ("/v1", "/api/v1")
DESCRIPTION = (
    "Watches livestreams and VODs, finds the moments worth sharing, cuts them, "
    "and tells you within seconds.\n\n"
    "Send your key in `X-API-Key`. Errors are problem documents (RFC 9457)."
)
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text}
    for status, text in (
        (401, "No key, or not a valid one"),
        (403, "The key lacks a scope"),
        (404, "Not found"),
        (413, "The body is too long"),
        (422, "A field is wrong"),
        (503, "Try again in a moment"),
    )
}


class Api(FastAPI):
    """With the edge around everything, also around the last resort for unforeseen errors."""

    def build_middleware_stack(self) -> ASGIApp:
        return Edge(super().build_middleware_stack())


def create_api(
    use_cases: UseCases | None,
    *,
    title: str,
    version: str,
    prefix: str,
    allowed_origins: tuple[str, ...],
    max_body_bytes: int,
) -> FastAPI:
    """The ASGI application. Without use cases it can only describe itself."""
    app = Api(
        title=title,
        version=version,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    app.state.use_cases = use_cases
    _include_routers(app, prefix=prefix)
    problems.install(app)
    app.add_middleware(BodyLimit, max_bytes=max_body_bytes)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(allowed_origins),
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
        allow_headers=["X-API-Key", "Content-Type", "Idempotency-Key", "traceparent"],
        expose_headers=[TRACE_HEADER, "Retry-After"],
        max_age=600,
    )
    return app


def _include_routers(app: FastAPI, *, prefix: str) -> None:
    """Canonical paths are in the documents; the aliases are the same routes under other names."""
    versioned = APIRouter(responses=_PROBLEMS)
    for module in (accounts, streams, webhooks, hundredms):
        versioned.include_router(module.router)
    app.include_router(health.router)
    app.include_router(docs.router)
    app.include_router(objects.router)
    app.include_router(hundredms.webhook_router, responses=_PROBLEMS)
    for path in dict.fromkeys((prefix, *ALIASES)):
        app.include_router(hundredms.webhook_router, prefix=path, include_in_schema=False)
        app.include_router(versioned, prefix=path, include_in_schema=path == prefix)
