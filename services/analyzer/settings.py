"""Settings of the analyzer."""

from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, AnyHttpUrl, Field, SecretStr, field_validator

from analyzer.domain.gemini.models import DEFAULT_MODEL, fault_of_model
from shared.settings import ServiceSettings

Level = Literal["low", "medium", "high"]


class AnalyzerSettings(ServiceSettings):
    work_concurrency: int = Field(default=2, ge=1, le=64, description="Windows analysed at once.")
    scratch_folder: str = Field(default="/tmp/tldr-analyzer", description="Where windows are unpacked.")  # noqa: S108
    ffmpeg: str = Field(default="ffmpeg", description="FFmpeg binary, a name on PATH or a path.")
    ffprobe: str = Field(default="ffprobe", description="ffprobe binary, a name on PATH or a path.")
    media_timeout_s: float = Field(default=50, gt=0, le=60, description="Longest run of one media process.")

    gemini_api_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("gemini_api_key", "analysis_api_key"),
        description="Key of the Gemini API; without one every tier is judged by measurement alone. "
        "ANALYSIS_API_KEY is the same.",
    )
    gemini_base_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("gemini_base_url", "analysis_endpoint"),
        description="Where the Gemini API is, if not at Google's. ANALYSIS_ENDPOINT is the same.",
    )
    gemini_api_version: str = Field(
        default="v1", pattern="^v[a-z0-9]+$", description="Version of the Gemini API: v1 or v1beta."
    )
    gemini_model: str = Field(default=DEFAULT_MODEL, min_length=1, description="Model that judges windows.")
    gemini_thinking_level: Level = Field(
        default="low", description="How long the model thinks: low, medium or high; thoughts are billed."
    )
    gemini_media_resolution: Level | None = Field(
        default=None, description="Tokens for each picture: low, medium or high; the model's own default."
    )
    gemini_fps: float | None = Field(
        default=None,
        gt=0,
        le=24,
        description="Pictures a second that the model sees, whatever a stream's `frame_interval` says.",
    )
    gemini_timeout_s: float = Field(default=60, gt=0, le=300, description="Longest single request to Gemini.")
    gemini_budget_s: float = Field(
        default=150, gt=0, le=400, description="Longest time for one window: requests, waits and repeats."
    )
    gemini_file_ready_s: float = Field(
        default=60, gt=0, le=300, description="How long an uploaded clip may take to become usable."
    )
    gemini_inline_max_bytes: int = Field(
        default=14_000_000,
        ge=0,
        le=75_000_000,
        description="Clips up to this size travel inside the request (a third larger there); others are uploaded.",
    )
    gemini_prices: Path | None = Field(
        default=None,
        description="YAML file with prices, in the form of services/analyzer/prices/gemini.yaml.",
    )

    @field_validator("gemini_base_url")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is not None:
            AnyHttpUrl(value)
        return value

    @field_validator("gemini_model")
    @classmethod
    def _served(cls, value: str) -> str:
        fault = fault_of_model(value)
        if fault is not None:
            raise ValueError(fault)
        return value

    @field_validator("gemini_thinking_level", mode="before")
    @classmethod
    def _thinking(cls, value: object) -> object:
        if isinstance(value, str) and value.lower() == "minimal":
            raise ValueError("Gemini 3 answers `minimal` with an error; use low")
        return value.lower() if isinstance(value, str) else value
