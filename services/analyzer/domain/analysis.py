"""What a provider answers about one window. Times are microseconds from the window's start, not the stream's."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Moment:
    """Something worth judging: span and peak from the window's start, scores and confidence in [0, 1].

    A dimension that the provider cannot see is left out of `scores`; leaving out is never a zero.
    """

    start_us: int
    end_us: int
    peak_us: int
    scores: dict[str, float]
    confidence: float
    title: str
    description: str = ""
    reason: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """What answers cost: tokens, calls, and millionths of a US dollar.

    `output_tokens` holds the thoughts too: they are billed as output. `input_by_modality` (VIDEO, AUDIO, TEXT) is a
    part of `input_tokens`, as far as the provider told. Without `cost_known` the cost is only what could be priced.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cost_microusd: int = 0
    cost_known: bool = True
    thoughts_tokens: int = 0
    calls: int = 0
    input_by_modality: tuple[tuple[str, int], ...] = ()

    def __add__(self, other: "Usage") -> "Usage":
        by_modality = Counter(dict(self.input_by_modality))
        by_modality.update(dict(other.input_by_modality))
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost_microusd=self.cost_microusd + other.cost_microusd,
            cost_known=self.cost_known and other.cost_known,
            thoughts_tokens=self.thoughts_tokens + other.thoughts_tokens,
            calls=self.calls + other.calls,
            input_by_modality=tuple(sorted(by_modality.items())),
        )


@dataclass(frozen=True, slots=True)
class Analysis:
    """The whole answer; no moments means that the window was judged and holds nothing.

    `snap_points_us` are instants (cuts, pauses) where a clip's edge does not hurt. `degraded` says that a lesser
    provider or a part of the media answered; `note` says in words what the reader of the verdict should know.
    `faults` names what the provider said and could not even be read as a moment.
    """

    moments: tuple[Moment, ...]
    provider: str
    snap_points_us: tuple[int, ...] = ()
    model: str = ""
    usage: Usage = field(default_factory=Usage)
    degraded: bool = False
    note: str = ""
    faults: tuple[str, ...] = ()
