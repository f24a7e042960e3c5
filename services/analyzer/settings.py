"""Settings of the analyzer."""

from pydantic import Field

from shared.settings import ServiceSettings


class AnalyzerSettings(ServiceSettings):
    work_concurrency: int = Field(default=2, ge=1, le=64, description="Windows analysed at once.")
    scratch_folder: str = Field(default="/tmp/tldr-analyzer", description="Where windows are unpacked.")  # noqa: S108
    ffmpeg: str = Field(default="ffmpeg", description="FFmpeg binary, a name on PATH or a path.")
    ffprobe: str = Field(default="ffprobe", description="ffprobe binary, a name on PATH or a path.")
    media_timeout_s: float = Field(default=50, gt=0, le=60, description="Longest run of one media process.")
