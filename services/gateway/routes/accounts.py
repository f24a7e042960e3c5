"""Registration and API keys."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import AwareDatetime, BaseModel, Field, SecretStr, StringConstraints

from gateway.domain.rate_limit import MAX_LIMIT
from gateway.domain.scopes import Scope
from gateway.routes.bodies import RequestBody
from gateway.routes.limited import LimitedByAddress, LimitedByKey
from gateway.routes.problems import problems_of
from gateway.routes.use_cases import Use, needs
from gateway.workflow.accounts import Registered
from gateway.workflow.authentication import Caller
from shared.ids import ApiKeyId

router = APIRouter(tags=["accounts"], route_class=LimitedByKey)
registration = APIRouter(tags=["accounts"], route_class=LimitedByAddress)
KeysCaller = Annotated[Caller, Depends(needs(Scope.KEYS_WRITE))]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class RegisterRequest(RequestBody):
    email: str = Field(max_length=254, examples=["ops@example.com"])
    password: SecretStr = Field(
        max_length=200,
        description="At least 10 characters, hard to guess.",
        examples=["a long phrase of yours"],
    )
    company_name: Name = Field(max_length=200, examples=["Example Sports"])


class OrganizationAnswer(BaseModel):
    id: str = Field(description="`org_` and 12 hexadecimal digits.", examples=["org_60d7a32ebf45"])
    name: str
    plan: str = Field(examples=["starter"])


class UserAnswer(BaseModel):
    """A new account. The API key is shown this once."""

    id: str = Field(description="`usr_` and 12 hexadecimal digits.", examples=["usr_0b4bca52240c"])
    email: str = Field(description="The address in lower case.")
    role: str = Field(examples=["owner"])
    created_at: AwareDatetime
    organization: OrganizationAnswer
    api_key: str = Field(description="Goes into `X-API-Key`. Shown this once: store it now.")
    api_key_id: str = Field(description="Revokes the key, with `DELETE /api-keys/{key_id}`.")


class ApiKeyRequest(RequestBody):
    name: Name = Field(max_length=100, description="For your eyes.", examples=["dashboard"])
    scopes: tuple[Scope, ...] = Field(
        min_length=1,
        description="What the key may do; only what the calling key may do itself.",
        examples=[["streams:read", "highlights:read"]],
    )
    expires_at: AwareDatetime | None = Field(
        default=None,
        description="From then on the key is refused; in the future, with an offset. Absent: never.",
        examples=["2030-01-01T00:00:00Z"],
    )
    rate_limit: int | None = Field(
        default=None,
        ge=1,
        le=MAX_LIMIT,
        description="Requests per hour, at most what the calling key may make. Absent: as the calling key.",
        examples=[500],
    )


class ApiKeyAnswer(BaseModel):
    """A new key. Its text is shown this once."""

    id: str = Field(description="`key_` and 12 hexadecimal digits.", examples=["key_cb5afe9ac075"])
    name: str
    scopes: tuple[Scope, ...]
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = Field(description="From then on the key is refused; null: never.")
    rate_limit: int = Field(description="Requests per hour, of its own or by the plan.", examples=[500])
    api_key: str = Field(description="Goes into `X-API-Key`. Shown this once: store it now.")


class MessageAnswer(BaseModel):
    message: str


@registration.post("/auth/register", responses=problems_of(HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS))
async def register(body: RegisterRequest, use: Use) -> UserAnswer:
    """Make a user, an organization and its first API key."""
    return _answer(
        await use.accounts.register(
            email=body.email, password=body.password.get_secret_value(), company_name=body.company_name
        )
    )


def _answer(made: Registered) -> UserAnswer:
    organization = made.organization
    return UserAnswer(
        id=made.user.user_id,
        email=made.user.email,
        role="owner",
        created_at=made.user.created_at,
        organization=OrganizationAnswer(
            id=organization.organization_id, name=organization.name, plan=organization.plan
        ),
        api_key=str(made.api_key),
        api_key_id=made.api_key.key_id,
    )


@router.post("/api-keys")
async def issue_api_key(body: ApiKeyRequest, use: Use, caller: KeysCaller) -> ApiKeyAnswer:
    """Make a key with some of this key's scopes."""
    issued = await use.accounts.issue_key(
        caller,
        name=body.name,
        scopes=body.scopes,
        expires_at=body.expires_at,
        rate_limit=body.rate_limit,
    )
    key = issued.key
    return ApiKeyAnswer(
        id=key.key_id,
        name=key.name,
        scopes=key.scopes,
        created_at=key.created_at,
        expires_at=key.expires_at,
        rate_limit=issued.rate_limit,
        api_key=str(issued.text),
    )


@router.delete("/api-keys/{key_id}")
async def revoke_api_key(key_id: str, use: Use, caller: KeysCaller) -> MessageAnswer:
    """Revoke a key: the next request with it is refused."""
    await use.accounts.revoke_key(caller, ApiKeyId(key_id))
    return MessageAnswer(message="API key revoked")
