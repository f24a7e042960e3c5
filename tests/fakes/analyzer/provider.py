"""A Provider that answers what it is told and remembers which windows it saw."""

from dataclasses import dataclass, field

from analyzer.domain.analysis import Analysis
from analyzer.workflow import MediaWindow
from shared.errors import PipelineError
from shared.profile import Profile


@dataclass
class FakeProvider:
    answer: Analysis | PipelineError
    name: str = "fake"
    windows: list[MediaWindow] = field(default_factory=list)
    contents: list[tuple[bytes, ...]] = field(default_factory=list)

    async def score(self, window: MediaWindow, profile: Profile) -> Analysis:
        self.windows.append(window)
        self.contents.append(tuple(path.read_bytes() for path in window.files))
        if isinstance(self.answer, PipelineError):
            raise self.answer
        return self.answer
