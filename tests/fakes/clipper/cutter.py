"""A Cutter that writes small files instead of media, and can fail at any of its steps."""

from dataclasses import dataclass, field
from pathlib import Path

from clipper.domain.frames import FrameSpan
from clipper.workflow import CutClip, LocalRun
from shared.errors import PipelineError
from shared.profile import Quality


@dataclass
class FakeCutter:
    spans: tuple[FrameSpan, ...]
    failures: dict[str, PipelineError] = field(default_factory=dict)
    runs: list[tuple[LocalRun, ...]] = field(default_factory=list)
    qualities: list[Quality] = field(default_factory=list)
    thumbnails_us: list[int] = field(default_factory=list)

    async def cut(self, runs: tuple[LocalRun, ...], *, quality: Quality, work_dir: Path) -> CutClip:
        self._fail("cut")
        self.runs.append(runs)
        self.qualities.append(quality)
        path = work_dir / "clip.mp4"
        path.write_bytes(b"".join(file.read_bytes() for run in runs for file in run.files))
        return CutClip(path=path, width=640, height=360, spans=self.spans, has_sound=True)

    async def verify(self, clip: CutClip) -> None:
        self._fail("verify")

    async def thumbnail(self, clip: CutClip, *, at_us: int) -> Path:
        self._fail("thumbnail")
        self.thumbnails_us.append(at_us)
        path = clip.path.with_name("thumbnail.jpg")
        path.write_bytes(b"jpeg")
        return path

    def _fail(self, step: str) -> None:
        if step in self.failures:
            raise self.failures[step]
