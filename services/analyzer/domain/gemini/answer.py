"""From Gemini's text to moments: what can be read becomes a moment, what cannot is named, and nothing is guessed.

Whether a moment that could be read is also credible (times, scores, dimensions) is decided in `domain/verdict.py`.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from analyzer.domain.analysis import Moment
from analyzer.domain.gemini.prompt import TAGS_MAX, ClipSpan

ANSWER_CHARS_MAX = 200_000
TAG_CHARS_MAX = 50
NAME_CHARS_MAX = 64
FAULTS_MAX = 10
_FENCED = re.compile(r"\s*```[a-zA-Z]*\s*\n(.*?)(?:\n\s*```\s*)?", re.DOTALL)
_MOMENTS = re.compile(r'\{\s*"moments"\s*:\s*\[')
_JOINER = "\u200d"

Seconds = Annotated[float, Field(ge=-86_400, le=86_400, allow_inf_nan=False)]


class AnswerUnreadable(ValueError):
    """The text is not the JSON object that was asked for; the message says what it is instead."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The moments in the answer's order, on the window's clock, and one fault in words for each other item."""

    moments: tuple[Moment, ...]
    faults: tuple[str, ...] = ()


class _Item(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    start_s: Seconds
    end_s: Seconds
    peak_s: Seconds
    scores: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = Field(max_length=64)
    confidence: Annotated[float, Field(allow_inf_nan=False)]
    title: str
    description: str = ""
    reason: str = ""
    tags: list[str] = []


def read_answer(text: str, *, span: ClipSpan, moments_max: int, cut: bool = False) -> Reading:
    """`cut` says that the model was stopped: whole items before the cut are then kept. Raises AnswerUnreadable."""
    if len(text) > ANSWER_CHARS_MAX:
        raise AnswerUnreadable(f"it has {len(text)} characters")
    items = _items(_unfenced(text), cut=cut)
    moments, faults = [], ["it was cut at the limit of tokens"] if cut else []
    for at, item in enumerate(items[:moments_max]):
        try:
            moments.append(_moment(_Item.model_validate(item), span))
        except ValidationError as error:
            faults.append(f"item {at}: {_first_fault(error)}")
    if len(items) > moments_max:
        faults.append(f"{len(items) - moments_max} items beyond the limit of {moments_max}")
    return Reading(tuple(moments), tuple(faults[:FAULTS_MAX]))


def _unfenced(text: str) -> str:
    match = _FENCED.fullmatch(text)
    return match[1] if match else text


def _items(text: str, *, cut: bool) -> list[Any]:
    try:
        found = json.loads(text, object_pairs_hook=_without_repetition, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        kept = list(_whole_items(text)) if cut else []
        if kept:
            return kept
        raise AnswerUnreadable(f"it is no JSON ({type(error).__name__})") from error
    if not isinstance(found, dict) or not isinstance(found.get("moments"), list):
        raise AnswerUnreadable("it is JSON, but no object with a list of moments")
    return list(found["moments"])


def _whole_items(text: str) -> Iterator[Any]:
    """The items of a list that was cut, as long as they are whole."""
    start = _MOMENTS.match(text.lstrip())
    decoder = json.JSONDecoder(object_pairs_hook=_without_repetition, parse_constant=_no_constant)
    rest = text.lstrip()[start.end() :] if start else ""
    while rest := rest.lstrip(" \t\r\n,"):
        try:
            item, end = decoder.raw_decode(rest)
        except (ValueError, RecursionError):
            return
        yield item
        rest = rest[end:]


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Which of two equal keys was meant cannot be known."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _moment(item: _Item, span: ClipSpan) -> Moment:
    return Moment(
        start_us=_on_window(item.start_s, span),
        end_us=_on_window(item.end_s, span),
        peak_us=_on_window(item.peak_s, span),
        scores={_plain(name)[:NAME_CHARS_MAX]: score for name, score in item.scores.items()},
        confidence=item.confidence,
        title=_plain(item.title),
        description=_plain(item.description),
        reason=_plain(item.reason),
        tags=tuple(filter(None, (_plain(tag)[:TAG_CHARS_MAX] for tag in item.tags[:TAGS_MAX]))),
    )


def _on_window(at_s: float, span: ClipSpan) -> int:
    return round(at_s * 1e6) - span.from_us


def _plain(text: str) -> str:
    """One line of printable characters: no controls, no direction marks, no lone surrogates."""
    return " ".join("".join(c if c.isprintable() or c == _JOINER else " " for c in text).split())


def _first_fault(error: ValidationError) -> str:
    """Where and what; the place's own keys come from the model, so only ours are named."""
    fault = error.errors(include_url=False, include_input=False)[0]
    place = str(fault["loc"][0]) if fault["loc"] else "the item"
    return f"{place}: {fault['msg']}"
