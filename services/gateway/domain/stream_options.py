"""How a customer wants a stream judged: the options of a request, with their defaults and bounds."""

from json import dumps
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from gateway.domain.source import display_form
from shared.profile import Quality, Sensitivity

MAX_METADATA_KEYS = 50
MAX_METADATA_CHARACTERS = 16_384
Tag = Annotated[str, Field(min_length=1, max_length=64)]


class StreamOptions(BaseModel):
    """The effective options are given back with every stream, so nobody has to guess a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    analysis_quality: Quality = Field(
        default=Quality.HIGH,
        description="`fast` measures sound and picture; `standard` shows promising windows to the model, "
        "`high` all of them, `premium` adds a second pass. Without a model every tier measures, and says "
        "`degraded`.",
    )
    sensitivity: Sensitivity = Field(
        default=Sensitivity.MEDIUM,
        description="Shifts the standard threshold: `low` by +0.10, `high` by -0.10.",
    )
    clip_duration: int = Field(default=30, ge=10, le=120, description="Target length of a clip in seconds.")
    include_chat: bool = Field(
        default=True, description="Whether the chat that 100ms records beside a stream becomes signals."
    )
    include_audio: bool = Field(default=True, description="Whether the sound counts in the analysis.")
    custom_tags: tuple[Tag, ...] = Field(
        default=(), max_length=20, description="Given back on every highlight."
    )
    webhook_url: str | None = Field(
        default=None, max_length=4096, description="Receives this stream's webhooks, beside the endpoints."
    )
    frame_interval: float = Field(
        default=1.0,
        ge=0.1,
        le=10.0,
        allow_inf_nan=False,
        description="Seconds between the pictures that a model sees; measurements look at ten a second.",
    )
    max_highlights: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="The most highlights that a stream gets; absent: the profile's.",
    )
    custom_headers: dict[str, SecretStr] | None = Field(
        default=None, description="Headers that we send to the source. Never given back."
    )
    privacy_mode: bool = Field(default=False, description="Kept and echoed; not acted on yet.")
    retention_days: int | None = Field(
        default=None, ge=1, le=3650, description="Kept and echoed; not acted on yet."
    )
    metadata: dict[str, Any] | None = Field(default=None, description="Merged into the stream's metadata.")

    @model_validator(mode="after")
    def _small_metadata(self) -> Self:
        check_metadata(self.metadata)
        return self

    def effective(self) -> dict[str, Any]:
        """What is stored and given back: without secrets, and without what stands elsewhere."""
        shown = self.model_dump(mode="json", exclude={"custom_headers", "metadata"})
        if self.webhook_url is not None:
            shown["webhook_url"] = display_form(self.webhook_url)
        return shown

    def headers(self) -> dict[str, str]:
        return {name: value.get_secret_value() for name, value in (self.custom_headers or {}).items()}


def check_metadata(metadata: dict[str, Any] | None) -> None:
    """Raise ValueError for more than a stream may carry: every highlight and webhook repeats it."""
    if metadata is None:
        return
    if len(metadata) > MAX_METADATA_KEYS:
        raise ValueError(f"metadata may have {MAX_METADATA_KEYS} keys at most")
    if len(dumps(metadata)) > MAX_METADATA_CHARACTERS:
        raise ValueError(f"metadata may have {MAX_METADATA_CHARACTERS} characters of JSON at most")
