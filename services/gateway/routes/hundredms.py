"""100ms: connections, and the address that its webhooks come to."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import AwareDatetime, BaseModel, Field, SecretStr

from gateway.domain.hundredms_connection import (
    DEFAULT_SECRET_HEADER,
    MAX_SECRET,
    MIN_HMAC_SECRET,
    MIN_SECRET,
    Checks,
)
from gateway.domain.hundredms_networks import MAX_NETWORKS
from gateway.domain.hundredms_token import ApiCredentials
from gateway.domain.scopes import Scope
from gateway.domain.stream_options import StreamOptions
from gateway.routes.bodies import RequestBody
from gateway.routes.limited import LimitedByKey
from gateway.routes.problems import Problem
from gateway.routes.use_cases import Use, UseCases, needs
from gateway.workflow.authentication import Caller
from gateway.workflow.hundredms_connections import ConnectionPatch, ConnectionRequest, ConnectionView
from shared.ids import ConnectionId

router = APIRouter(tags=["100ms"], route_class=LimitedByKey)
webhook_router = APIRouter(tags=["100ms"])
ConnectionReader = Annotated[Caller, Depends(needs(Scope.CONNECTIONS_READ))]
ConnectionWriter = Annotated[Caller, Depends(needs(Scope.CONNECTIONS_WRITE))]
_TOO_MANY: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "The organization has as many connections as it may have"}
}
OVERLAP_S = 24 * 3600
MAX_OVERLAP_S = 30 * OVERLAP_S


_PAYLOAD = {
    "requestBody": {
        "required": True,
        "description": "The webhook as 100ms sends it, with the connection's secret in its header, "
        "`x-100ms-signature`, or both.",
        "content": {
            "application/json": {
                "schema": {"type": "object", "required": ["type"], "additionalProperties": True},
                "example": {
                    "version": "2.0",
                    "id": "2d8ad8c1-6b1c-4c4f-a6c6-3b5a3a5d3a11",
                    "account_id": "627cdddff2e4e30487862ad1",
                    "timestamp": "2026-01-01T12:00:00Z",
                    "type": "hls.started.success",
                    "data": {
                        "room_id": "627ce6b1f2e4e30487862ad4",
                        "session_id": "627ce6b1f2e4e30487862ad5",
                        "beam_id": "627ce6b1f2e4e30487862ad6",
                        "url": "https://example.com/beam/627ce6b1/master.m3u8",
                        "started_at": "2026-01-01T11:59:58Z",
                    },
                },
            }
        },
    }
}


class ChecksBody(RequestBody):
    """What a webhook must pass: the secret header, the signature, or both; and an address, if you like."""

    secret: bool = Field(default=True, description="The secret in its header.")
    signature: bool = Field(
        default=False, description="`x-100ms-signature`, the hex HMAC-SHA256 of the raw body."
    )
    network: bool = Field(default=False, description="That the sender's address lies in `networks`.")


class ChecksPatch(RequestBody):
    secret: bool | None = Field(default=None, description="The secret in its header.")
    signature: bool | None = Field(default=None, description="The signature; needs an HMAC secret.")
    network: bool | None = Field(default=None, description="The sender's address; needs `networks`.")


Networks = Annotated[
    tuple[Annotated[str, Field(max_length=64)], ...],
    Field(
        max_length=MAX_NETWORKS,
        description="IPv4 or IPv6, as single addresses or CIDR.",
        examples=[["34.100.213.146/32", "2001:db8::/48"]],
    ),
]
HeaderSecret = Annotated[SecretStr, Field(min_length=MIN_SECRET, max_length=MAX_SECRET)]
HmacSecret = Annotated[SecretStr, Field(min_length=MIN_HMAC_SECRET, max_length=MAX_SECRET)]


class ConnectionBody(RequestBody):
    name: str = Field(min_length=1, max_length=100, description="For your eyes.", examples=["workspace eu"])
    secret: HeaderSecret | None = Field(
        default=None, description="What 100ms sends in the header. Made by us when absent."
    )
    secret_header: str = Field(
        default=DEFAULT_SECRET_HEADER,
        pattern=r"^[A-Za-z0-9-]{1,64}$",
        description="Name of that header; none that HTTP itself uses, such as `Host` or `Content-Type`.",
    )
    hmac_secret: HmacSecret | None = Field(
        default=None,
        description="What 100ms signs with. Made by us when absent, if the signature is checked.",
    )
    checks: ChecksBody = Field(default_factory=ChecksBody)
    networks: Networks = ()
    options: StreamOptions = Field(default_factory=StreamOptions, description="For every stream of the room.")


class ConnectionPatchBody(RequestBody):
    """Only what is given changes; `options` and `networks` are replaced as a whole."""

    name: str | None = Field(default=None, min_length=1, max_length=100)
    checks: ChecksPatch = Field(default_factory=ChecksPatch)
    networks: Networks | None = None
    options: StreamOptions | None = Field(
        default=None, description="For streams that start from now on; absent fields get their defaults."
    )


class RotationBody(RequestBody):
    secret: HeaderSecret | None = Field(default=None, description="The new one. Made by us when absent.")
    expires_in_s: int = Field(
        default=OVERLAP_S, ge=0, le=MAX_OVERLAP_S, description="How long the one before is taken as well."
    )


class HmacRotationBody(RotationBody):
    secret: HmacSecret | None = Field(default=None, description="The new one. Made by us when absent.")


class ApiCredentialsBody(RequestBody):
    """From the developer section of 100ms' dashboard. Never shown again, here or elsewhere."""

    access_key: str = Field(min_length=8, max_length=200, description="The app access key.")
    app_secret: SecretStr = Field(
        min_length=MIN_HMAC_SECRET, max_length=400, description="The app secret that tokens are signed with."
    )


class ConnectionAnswer(BaseModel):
    """A connection, without its secrets."""

    id: str = Field(description="`con_` and 12 hexadecimal digits.", examples=["con_774ad5c86953"])
    name: str
    secret_header: str = Field(description="Name of the header that 100ms shall send.")
    webhook_path: str = Field(description="Give 100ms this path on our host.")
    checks: ChecksBody
    networks: tuple[str, ...]
    has_hmac_secret: bool = Field(description="Whether there is one to check signatures with.")
    options: dict[str, Any] = Field(description="Of every stream that comes by this connection.")
    previous_secret_until: AwareDatetime | None = Field(
        description="Until then the secret before is taken too."
    )
    previous_hmac_secret_until: AwareDatetime | None = Field(
        description="Until then the HMAC secret before is taken too."
    )
    has_api_credentials: bool = Field(
        description="Whether 100ms' API is asked too, so that a lost webhook costs less than a minute."
    )
    api_checked_at: AwareDatetime | None = Field(description="When 100ms' API answered last.")
    api_error: str | None = Field(description="Why it has not answered since; null while it does.")
    created_at: AwareDatetime
    updated_at: AwareDatetime


class CreatedConnectionAnswer(ConnectionAnswer):
    """A new connection. Its secrets are shown this once."""

    secret: str = Field(description="Value of that header. Shown this once: store it now.")
    hmac_secret: str | None = Field(description="Shown this once; null where there is none.")


class RotatedAnswer(ConnectionAnswer):
    """The connection with its new secret, which is shown this once."""

    secret: str = Field(description="The new secret. Shown this once: store it now.")


class ConnectionList(BaseModel):
    items: tuple[ConnectionAnswer, ...]


class DeletedConnection(BaseModel):
    message: str = "Connection deleted"


class ReceivedAnswer(BaseModel):
    status: str = "ok"


@router.post("/connections/100ms", responses=_TOO_MANY)
async def connect_hundredms(
    body: ConnectionBody, use: Use, caller: ConnectionWriter
) -> CreatedConnectionAnswer:
    """Let 100ms tell us of streams: give it the path, and the header with the secret."""
    request = ConnectionRequest(
        name=body.name,
        secret_header=body.secret_header,
        options=body.options,
        checks=Checks(**body.checks.model_dump()),
        networks=body.networks,
        secret=_shown(body.secret),
        hmac_secret=_shown(body.hmac_secret),
    )
    made = await use.hundredms_connections.connect(caller, request)
    return CreatedConnectionAnswer(**_answer(made.view), secret=made.secret, hmac_secret=made.hmac_secret)


@router.get("/connections/100ms")
async def list_hundredms(use: Use, caller: ConnectionReader) -> ConnectionList:
    """The organization's connections, oldest first."""
    found = await use.hundredms_connections.connections(caller)
    return ConnectionList(items=tuple(ConnectionAnswer(**_answer(view)) for view in found))


@router.get("/connections/100ms/{connection_id}")
async def get_hundredms(connection_id: str, use: Use, caller: ConnectionReader) -> ConnectionAnswer:
    """One connection, without its secrets."""
    view = await use.hundredms_connections.connection(caller, ConnectionId(connection_id))
    return ConnectionAnswer(**_answer(view))


@router.patch("/connections/100ms/{connection_id}")
async def change_hundredms(
    connection_id: str, body: ConnectionPatchBody, use: Use, caller: ConnectionWriter
) -> ConnectionAnswer:
    """Change name, checks, networks or options; streams that run keep what they began with."""
    patch = ConnectionPatch(
        name=body.name, options=body.options, networks=body.networks, **body.checks.model_dump()
    )
    view = await use.hundredms_connections.change(caller, ConnectionId(connection_id), patch)
    return ConnectionAnswer(**_answer(view))


@router.post("/connections/100ms/{connection_id}/secret")
async def rotate_hundredms_secret(
    connection_id: str, body: RotationBody, use: Use, caller: ConnectionWriter
) -> RotatedAnswer:
    """Replace the header's secret. The one before is taken for `expires_in_s` more seconds."""
    rotated = await use.hundredms_connections.rotate_secret(
        caller, ConnectionId(connection_id), secret=_shown(body.secret), overlap_s=body.expires_in_s
    )
    return RotatedAnswer(**_answer(rotated.view), secret=rotated.secret)


@router.post("/connections/100ms/{connection_id}/hmac-secret")
async def rotate_hundredms_hmac_secret(
    connection_id: str, body: HmacRotationBody, use: Use, caller: ConnectionWriter
) -> RotatedAnswer:
    """Set or replace the HMAC secret. The one before is taken for `expires_in_s` more seconds."""
    rotated = await use.hundredms_connections.rotate_hmac_secret(
        caller, ConnectionId(connection_id), secret=_shown(body.secret), overlap_s=body.expires_in_s
    )
    return RotatedAnswer(**_answer(rotated.view), secret=rotated.secret)


@router.put("/connections/100ms/{connection_id}/api-credentials")
async def set_hundredms_api_credentials(
    connection_id: str, body: ApiCredentialsBody, use: Use, caller: ConnectionWriter
) -> ConnectionAnswer:
    """Let us ask 100ms' API for streams that no webhook told of. Replaces the credentials before at once."""
    credentials = ApiCredentials(access_key=body.access_key, app_secret=body.app_secret.get_secret_value())
    view = await use.hundredms_connections.set_api_credentials(
        caller, ConnectionId(connection_id), credentials
    )
    return ConnectionAnswer(**_answer(view))


@router.delete("/connections/100ms/{connection_id}/api-credentials")
async def delete_hundredms_api_credentials(
    connection_id: str, use: Use, caller: ConnectionWriter
) -> ConnectionAnswer:
    """Forget the credentials. Webhooks go on."""
    view = await use.hundredms_connections.drop_api_credentials(caller, ConnectionId(connection_id))
    return ConnectionAnswer(**_answer(view))


@router.delete("/connections/100ms/{connection_id}")
async def delete_hundredms(connection_id: str, use: Use, caller: ConnectionWriter) -> DeletedConnection:
    """Let nothing more in by it. Streams that it started go on."""
    await use.hundredms_connections.delete(caller, ConnectionId(connection_id))
    return DeletedConnection()


@webhook_router.post("/webhooks/100ms", openapi_extra=_PAYLOAD)
async def receive_hundredms(request: Request, use: Use) -> ReceivedAnswer:
    """A webhook of 100ms; its secret tells which connection it is for."""
    return await _received(None, request, use)


@webhook_router.post("/webhooks/100ms/{connection_id}", openapi_extra=_PAYLOAD)
async def receive_hundredms_for(connection_id: str, request: Request, use: Use) -> ReceivedAnswer:
    """A webhook of 100ms for one connection. Known or not, once durable the answer is exactly 200."""
    return await _received(ConnectionId(connection_id), request, use)


async def _received(connection_id: ConnectionId | None, request: Request, use: UseCases) -> ReceivedAnswer:
    await use.hundredms.receive(
        connection_id,
        headers=dict(request.headers.items()),
        body=await request.body(),
        peer=request.client.host if request.client else "",
    )
    return ReceivedAnswer()


def _shown(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _answer(view: ConnectionView) -> dict[str, Any]:
    return {
        "id": view.connection_id,
        "name": view.name,
        "secret_header": view.secret_header,
        "webhook_path": f"/webhooks/100ms/{view.connection_id}",
        "checks": asdict(view.checks),
        "networks": view.networks,
        "has_hmac_secret": view.has_hmac_secret,
        "options": view.options,
        "previous_secret_until": view.previous_secret_until,
        "previous_hmac_secret_until": view.previous_hmac_secret_until,
        "has_api_credentials": view.has_api_credentials,
        "api_checked_at": view.api_checked_at,
        "api_error": view.api_error,
        "created_at": view.created_at,
        "updated_at": view.updated_at,
    }
