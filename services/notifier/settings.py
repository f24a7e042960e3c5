"""What the notifier is configured by."""

from pydantic import Field

from shared.settings import ServiceSettings


class NotifierSettings(ServiceSettings):
    delivery_concurrency: int = Field(
        default=256, ge=2, le=4096, description="Webhook attempts in flight in this process."
    )
    endpoint_concurrency: int = Field(
        default=4, ge=1, le=16, description="Webhook attempts in flight to one healthy endpoint."
    )
    delivery_keep_days: int = Field(
        default=30, ge=9, description="How long ended deliveries and their log are kept."
    )
