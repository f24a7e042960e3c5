"""Settings of the selector."""

from pydantic import Field

from shared.settings import ServiceSettings


class SelectorSettings(ServiceSettings):
    window_deadline_s: float = Field(
        default=600, gt=0, description="How long a run waits for one window before it counts as failed."
    )
