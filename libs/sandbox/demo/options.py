"""What the demo is asked to do, read from DEMO_* variables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

TARGETS = ("local", "compose")
EXCERPT = Path(__file__).resolve().parents[1] / "media" / "arena_excerpt.mp4"


class OptionInvalid(ValueError):
    """A DEMO_* variable cannot be understood; the message names it and says what it may be."""


@dataclass(frozen=True)
class Options:
    """`seconds` is None for the whole file; `speed` 1 is real time; `exit_at_end` ends with the stream.

    `gemini` are the variables of that name for the analyzer, key and all; `gemini_double` plays the model ourselves.
    `telemetry` are those that say where traces and error reports go, for all six services.

    `target` is where the product runs: servers and processes private to the demo, or Docker Compose.
    """

    target: str = "local"
    media: Path = EXCERPT
    speed: float = 1.0
    seconds: float | None = None
    report: Path | None = None
    exit_at_end: bool = False
    output: Path = Path("demo-output")
    gemini_double: bool = False
    gemini: Mapping[str, str] = field(default_factory=dict, repr=False)
    telemetry: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Options":
        """Raises OptionInvalid."""
        media = Path(environment.get("DEMO_MEDIA") or EXCERPT)
        if not media.is_file():
            raise OptionInvalid(f"DEMO_MEDIA: there is no file {media}")
        report = environment.get("DEMO_REPORT")
        return cls(
            target=_target(environment),
            media=media,
            speed=_positive(environment, "DEMO_SPEED") or 1.0,
            seconds=_positive(environment, "DEMO_SECONDS"),
            report=Path(report) if report else None,
            exit_at_end=environment.get("DEMO_EXIT", "") not in ("", "0", "false", "no"),
            output=Path(environment.get("DEMO_OUTPUT") or "demo-output"),
            gemini_double=_gemini_double(environment),
            gemini=_named(environment, "GEMINI_", "ANALYSIS_"),
            telemetry=_named(environment, "OTEL_", "LOGFIRE_", "SENTRY_", "TRACE_SAMPLE_RATIO"),
        )


def _named(environment: Mapping[str, str], *beginnings: str) -> dict[str, str]:
    return {name: value for name, value in environment.items() if value and name.startswith(beginnings)}


def _gemini_double(environment: Mapping[str, str]) -> bool:
    asked = environment.get("GEMINI", "")
    if asked not in ("", "double"):
        raise OptionInvalid(f"GEMINI: may be double, not {asked}; a real key goes into GEMINI_API_KEY")
    if asked and environment.get("DEMO_TARGET") == "compose":
        raise OptionInvalid(
            "GEMINI: the double plays for processes on this machine, not for DEMO_TARGET=compose"
        )
    return bool(asked)


def _target(environment: Mapping[str, str]) -> str:
    target = environment.get("DEMO_TARGET") or "local"
    if target not in TARGETS:
        raise OptionInvalid(f"DEMO_TARGET: {target!r} is none of {', '.join(TARGETS)}")
    return target


def _positive(environment: Mapping[str, str], name: str) -> float | None:
    text = environment.get(name, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise OptionInvalid(f"{name}: {text!r} is not a number") from error
    if not 0 < value < 1e6:
        raise OptionInvalid(f"{name}: must be above 0, not {text}")
    return value
