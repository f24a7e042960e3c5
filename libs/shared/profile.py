"""The profile: how a stream is judged, as data. Resolved once at submission and stored under its own hash.

Where profiles come from (YAML, organization, request) is the gateway's business; nothing here reads a file.
"""

from enum import StrEnum
from hashlib import sha256
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Quality(StrEnum):
    PREMIUM = "premium"
    HIGH = "high"
    STANDARD = "standard"
    FAST = "fast"
    CUSTOM = "custom"


class Sensitivity(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class ProfilePart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Dimension(ProfilePart):
    """One aspect that a moment is scored on, in [0, 1]."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)
    definition: str = Field(max_length=500)
    weight: float = Field(ge=0, le=1)


class Thresholds(ProfilePart):
    """Bounds on the weighted score; `sensitivity` has already been applied to `standard`."""

    exceptional: float = Field(default=0.95, ge=0, le=1)
    high_quality: float = Field(default=0.85, ge=0, le=1)
    standard: float = Field(default=0.70, ge=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.standard <= self.high_quality <= self.exceptional:
            raise ValueError("thresholds must rise: standard <= high_quality <= exceptional")
        return self


class SelectionRules(ProfilePart):
    """Numbers of the selector, all in media time."""

    limit_window_us: int = Field(default=300_000_000, gt=0, description="Length of a limit window.")
    max_per_window: int = Field(default=3, ge=1, description="Highlights that a limit window may hold.")
    spacing_us: int = Field(default=30_000_000, ge=0, description="Least distance between two peaks.")
    merge_gap_us: int = Field(
        default=3_000_000, ge=0, description="Candidates closer than this are one moment."
    )
    similarity: float = Field(default=0.6, ge=0, le=1, description="At or above it two moments are the same.")
    similarity_reach_us: int = Field(default=120_000_000, gt=0, description="Proximity falls to 0 over this.")
    override_margin: float = Field(
        default=0.1, ge=0, le=1, description="An override must beat the best by it."
    )
    pending_us: int = Field(
        default=30_000_000, ge=0, description="Media time that a highlight stays pending."
    )
    max_highlights: int | None = Field(default=None, ge=1, le=100, description="Cap for the whole stream.")


class ClipRules(ProfilePart):
    """Lengths of a clip, all in media time. `target_us` is `options.clip_duration`."""

    target_us: int = Field(default=30_000_000, ge=10_000_000, le=120_000_000)
    minimum_us: int = Field(default=10_000_000, ge=1_000_000)
    maximum_us: int = Field(default=120_000_000, le=600_000_000)
    lead_in_us: int = Field(default=4_000_000, ge=0, description="Context before the moment.")
    lead_out_us: int = Field(default=3_000_000, ge=0, description="Context after the moment.")
    snap_reach_us: int = Field(
        default=1_500_000, ge=0, description="How far an edge may move to a snap point."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.minimum_us <= self.target_us <= self.maximum_us:
            raise ValueError("clip lengths must rise: minimum <= target <= maximum")
        return self


class HighlightType(ProfilePart):
    """A type that a moment gets when the named dimensions lead or a keyword stands in its text."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)
    dimensions: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()


class Profile(ProfilePart):
    """Everything that decides what becomes a highlight of a stream, and how its clip is cut."""

    name: str = Field(max_length=100)
    quality: Quality = Quality.HIGH
    sensitivity: Sensitivity = Sensitivity.MEDIUM
    dimensions: tuple[Dimension, ...] = Field(min_length=1)
    thresholds: Thresholds = Thresholds()
    selection: SelectionRules = SelectionRules()
    clip: ClipRules = ClipRules()
    types: tuple[HighlightType, ...] = ()
    keywords: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    prompt: str = ""
    include_audio: bool = True
    include_chat: bool = True
    frame_interval_s: float = Field(
        default=1.0, ge=0.1, le=10, description="Seconds between the pictures that a model sees."
    )

    @model_validator(mode="after")
    def _weights_sum_to_one(self) -> Self:
        names = [dimension.name for dimension in self.dimensions]
        if len(names) != len(set(names)):
            raise ValueError("dimension names must be unique")
        total = sum(dimension.weight for dimension in self.dimensions)
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"dimension weights must sum to 1, not {total:.4f}")
        return self

    def canonical_bytes(self) -> bytes:
        """The bytes that are stored and hashed: equal profiles give equal bytes."""
        return self.model_dump_json().encode()

    def sha256(self) -> str:
        return sha256(self.canonical_bytes()).hexdigest()


def combined_score(profile: Profile, scores: dict[str, float]) -> float:
    """Weighted score in [0, 1]: weights renormalised over the dimensions that were scored.

    A provider that cannot see a dimension leaves it out; leaving it out must not count as a zero.
    Scores outside [0, 1] raise ValueError: they are a provider's fault and never clamped silently.
    """
    weighted = total = 0.0
    for dimension in profile.dimensions:
        score = scores.get(dimension.name)
        if score is None:
            continue
        if not 0.0 <= score <= 1.0:
            raise ValueError(f"score of {dimension.name} is outside [0, 1]: {score}")
        weighted += dimension.weight * score
        total += dimension.weight
    return weighted / total if total else 0.0
