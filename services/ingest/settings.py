"""Settings of ingest."""

from typing import Literal

from pydantic import Field, model_validator

from shared.settings import ServiceSettings


class IngestSettings(ServiceSettings):
    capacity: int = Field(
        default=200, ge=1, le=5000, description="Live streams that this process follows at most."
    )
    vod_capacity: int = Field(
        default=16, ge=0, le=5000, description="Recordings that this process follows at most."
    )
    vod_fetches: int = Field(
        default=8, ge=1, le=256, description="Segments of recordings fetched at once in this process."
    )
    lease_s: float = Field(
        default=4.5, gt=0, le=60, description="How long streams stay with a process that is not heard of."
    )
    renew_s: float = Field(default=1.0, gt=0, description="How often a process says that it is alive.")
    pages: Literal["off", "streamlink"] = Field(
        default="off",
        description="What finds the HLS of Twitch and YouTube pages: `streamlink`, which must be installed, or none.",
    )
    target_height: int = Field(default=720, ge=1, description="Best variant that is taken, in lines.")
    parallel_fetches: int = Field(
        default=3, ge=1, le=16, description="Segments fetched at once for a stream."
    )
    windows_ahead: int = Field(
        default=8, ge=1, description="Windows by which a recording is fetched ahead of its analysis."
    )
    window_s: float = Field(default=20.0, ge=10, le=30, description="Length of an analysis window.")
    window_overlap_s: float = Field(default=4.0, ge=0, lt=10, description="Overlap of two windows.")
    spool_folder: str = Field(
        default="/tmp/tldr-ingest",  # noqa: S108
        description="Where bodies wait for the object store; processes may share it.",
    )
    spool_bytes: int = Field(default=2 * 1024**3, ge=0, description="Bound of what one process keeps there.")
    spool_entries: int = Field(
        default=300, ge=16, description="Segments of a stream that may wait for the database."
    )
    start_patience_s: float = Field(
        default=60.0,
        gt=0,
        description="How long a playlist may be missing at first; that of a live stream which a customer submits may "
        "be until 30 s before the gateway's STREAM_START_DEADLINE_S is over.",
    )
    stall_s: float = Field(default=10.0, gt=0, description="Silence after which a stream counts as stalled.")
    dead_after_s: float = Field(default=600.0, gt=0, description="Silence after which a stream is over.")
    drain_s: float = Field(default=15.0, gt=0, description="How long is drained after a stop.")
    segment_budget_s: float = Field(
        default=60.0, gt=0, description="How long a segment is tried, as long as it is listed."
    )
    remux_bytes: int = Field(
        default=8 * 1024**3,
        ge=128 * 1024**2,
        description="Bound of finished segments of files and pushed streams that one process keeps on its disk.",
    )

    recording_bytes: int = Field(
        default=2 * 1024**3,
        ge=1,
        description="Most that is fetched of a recording for neighbouring gaps; all of it, where no ranges are served.",
    )
    repair_folder: str = Field(
        default="/tmp/tldr-repairs",  # noqa: S108
        description="Where recordings are cut; processes may share it.",
    )

    @model_validator(mode="after")
    def _renewed_in_time(self) -> "IngestSettings":
        if self.renew_s * 2 > self.lease_s:
            raise ValueError("RENEW_S must be at most half of LEASE_S")
        return self
