"""Whether the API answers. Whether all it stands on is there is told by /readyz on the operations port."""

from fastapi import APIRouter, Request
from pydantic import BaseModel

SERVICE = "tldr-highlight-api"
router = APIRouter(tags=["health"])


class HealthAnswer(BaseModel):
    status: str = "healthy"
    service: str = SERVICE
    version: str


@router.get("/health")
async def health(request: Request) -> HealthAnswer:
    """Answers without authentication."""
    return HealthAnswer(version=request.app.version)
