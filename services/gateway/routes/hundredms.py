"""100ms: connections, and the address that its webhooks come to."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import AwareDatetime, BaseModel, Field, SecretStr

from gateway.domain.hundredms_connection import DEFAULT_SECRET_HEADER, MAX_SECRET, MIN_SECRET
from gateway.domain.scopes import Scope
from gateway.domain.stream_options import StreamOptions
from gateway.routes.bodies import RequestBody
from gateway.routes.use_cases import Use, needs
from gateway.workflow.authentication import Caller
from shared.ids import ConnectionId

router = APIRouter(tags=["100ms"])
webhook_router = APIRouter(tags=["100ms"])
ConnectionWriter = Annotated[Caller, Depends(needs(Scope.CONNECTIONS_WRITE))]


_PAYLOAD = {
    "requestBody": {
        "required": True,
        "description": "The webhook as 100ms sends it, with the connection's secret in its header.",
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


class ConnectionRequest(RequestBody):
    name: str = Field(min_length=1, max_length=100, description="For your eyes.", examples=["workspace eu"])
    secret: SecretStr | None = Field(
        default=None,
        min_length=MIN_SECRET,
        max_length=MAX_SECRET,
        description="What 100ms sends in the header. Made by us when absent.",
    )
    secret_header: str = Field(
        default=DEFAULT_SECRET_HEADER,
        pattern=r"^[A-Za-z0-9-]{1,64}$",
        description="Name of that header; none that HTTP itself uses, such as `Host` or `Content-Type`.",
    )
    options: StreamOptions = Field(default_factory=StreamOptions, description="For every stream of the room.")


class ConnectionAnswer(BaseModel):
    """A connection. The secret is shown this once."""

    id: str = Field(description="`con_` and 12 hexadecimal digits.", examples=["con_774ad5c86953"])
    name: str
    secret_header: str = Field(description="Name of the header that 100ms shall send.")
    secret: str = Field(description="Value of that header. Shown this once: store it now.")
    webhook_path: str = Field(description="Give 100ms this path on our host.")
    options: dict[str, Any] = Field(description="Of every stream that comes by this connection.")
    created_at: AwareDatetime


class ReceivedAnswer(BaseModel):
    status: str = "ok"


@router.post("/connections/100ms")
async def connect_hundredms(body: ConnectionRequest, use: Use, caller: ConnectionWriter) -> ConnectionAnswer:
    """Let 100ms tell us of streams: give it the path, and the header with the secret."""
    made = await use.hundredms.connect(
        caller,
        name=body.name,
        secret=body.secret.get_secret_value() if body.secret else None,
        secret_header=body.secret_header,
        options=body.options,
    )
    connection = made.connection
    return ConnectionAnswer(
        id=connection.connection_id,
        name=connection.name,
        secret_header=connection.secret_header,
        secret=made.secret,
        webhook_path=f"/webhooks/100ms/{connection.connection_id}",
        options=connection.options,
        created_at=connection.created_at,
    )


@webhook_router.post("/webhooks/100ms", openapi_extra=_PAYLOAD)
async def receive_hundredms(request: Request, use: Use) -> ReceivedAnswer:
    """A webhook of 100ms; its secret tells which connection it is for."""
    connection = await use.hundredms.authenticate(None, headers=request.headers)
    await use.hundredms.receive(connection, await request.body())
    return ReceivedAnswer()


@webhook_router.post("/webhooks/100ms/{connection_id}", openapi_extra=_PAYLOAD)
async def receive_hundredms_for(connection_id: str, request: Request, use: Use) -> ReceivedAnswer:
    """A webhook of 100ms for one connection. Known or not, once durable the answer is exactly 200."""
    connection = await use.hundredms.authenticate(ConnectionId(connection_id), headers=request.headers)
    await use.hundredms.receive(connection, await request.body())
    return ReceivedAnswer()
