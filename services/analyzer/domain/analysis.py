"""What a provider answers about one window. Times are microseconds from the window's start, not the stream's."""

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
    """What the answer cost: tokens, and millionths of a US dollar."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_microusd: int = 0


@dataclass(frozen=True, slots=True)
class Analysis:
    """The whole answer; no moments means that the window was judged and holds nothing.

    `snap_points_us` are instants (cuts, pauses) where a clip's edge does not hurt. `degraded` says that a lesser
    provider or a part of the media answered; `note` says in words what the reader of the verdict should know.
    """

    moments: tuple[Moment, ...]
    provider: str
    snap_points_us: tuple[int, ...] = ()
    model: str = ""
    usage: Usage = field(default_factory=Usage)
    degraded: bool = False
    note: str = ""
