"""Webhook endpoints: where customers want to be told."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import AliasChoices, AwareDatetime, BaseModel, Field

from gateway.domain.events_feed import PublicEventType
from gateway.domain.scopes import Scope
from gateway.routes.bodies import RequestBody
from gateway.routes.limited import LimitedByKey
from gateway.routes.use_cases import Use, needs
from gateway.workflow.authentication import Caller
from gateway.workflow.endpoints import EndpointView
from shared.ids import EndpointId

router = APIRouter(tags=["webhooks"], route_class=LimitedByKey)
WebhookReader = Annotated[Caller, Depends(needs(Scope.WEBHOOKS_READ))]
WebhookWriter = Annotated[Caller, Depends(needs(Scope.WEBHOOKS_WRITE))]


class WebhookRequest(RequestBody):
    url: str = Field(
        max_length=4096, description="A public https address.", examples=["https://example.com/hooks/tldr"]
    )
    events: tuple[PublicEventType, ...] | None = Field(
        default=None,
        min_length=1,
        validation_alias=AliasChoices("events", "event_types"),
        description="Absent: all but `highlight.detected`.",
        examples=[["highlight.created", "stream.completed"]],
    )
    description: str = Field(default="", max_length=200, description="For your eyes.")


class WebhookAnswer(BaseModel):
    """An endpoint: where we post what happens."""

    id: str = Field(description="`whk_` and 12 hexadecimal digits.", examples=["whk_cc3a6a8bf706"])
    url: str = Field(description="Without query: it may hold secrets.")
    events: tuple[str, ...] = Field(description="The types of events that are sent there.")
    description: str
    active: bool
    stream_id: str | None = Field(description="Set where it came with a stream's `options.webhook_url`.")
    created_at: AwareDatetime
    updated_at: AwareDatetime


class CreatedWebhookAnswer(WebhookAnswer):
    secret: str = Field(description="Signs every delivery. Shown this once.")


class WebhookList(BaseModel):
    items: tuple[WebhookAnswer, ...]


class DeletedAnswer(BaseModel):
    message: str = "Webhook deleted"


@router.post("/webhooks/subscribe", include_in_schema=False)
@router.post("/webhooks")
async def create_webhook(body: WebhookRequest, use: Use, caller: WebhookWriter) -> CreatedWebhookAnswer:
    """Register an address. The answer holds the signing secret, this once."""
    made = await use.endpoints.create(
        caller, url=body.url, event_types=body.events, description=body.description
    )
    return CreatedWebhookAnswer(**_answer(made.view).model_dump(), secret=made.secret)


@router.get("/webhooks")
async def list_webhooks(use: Use, caller: WebhookReader) -> WebhookList:
    """The organization's endpoints."""
    return WebhookList(items=tuple(_answer(view) for view in await use.endpoints.endpoints(caller)))


@router.get("/webhooks/{webhook_id}")
async def get_webhook(webhook_id: str, use: Use, caller: WebhookReader) -> WebhookAnswer:
    """One endpoint, without its secret."""
    return _answer(await use.endpoints.endpoint(caller, EndpointId(webhook_id)))


@router.delete("/webhooks/{webhook_id}")
async def delete_webhook(webhook_id: str, use: Use, caller: WebhookWriter) -> DeletedAnswer:
    """Send nothing more there."""
    await use.endpoints.delete(caller, EndpointId(webhook_id))
    return DeletedAnswer()


def _answer(view: EndpointView) -> WebhookAnswer:
    return WebhookAnswer(
        id=view.endpoint_id,
        url=view.display_url,
        events=view.event_types,
        description=view.description,
        active=view.active,
        stream_id=view.stream_id,
        created_at=view.created_at,
        updated_at=view.updated_at,
    )
