"""What kind of highlight a moment is, and why it was chosen, in words. Types come from the profile."""

import re

from selector.domain.moment import Moment
from shared.profile import HighlightType, Profile, Thresholds

FALLBACK_TYPE = "highlight"
LED_BY = 2


def type_of(moment: Moment, *, profile: Profile) -> str:
    """The type with the most keywords in title, description and tags; else the one that its leading dimension names.

    Words are more specific than numbers. Ties go to the type that the profile lists first.
    """
    text = " ".join((moment.title, moment.description, *moment.tags)).casefold()
    hits = [(_hits(each, text), each) for each in profile.types]
    most = max((count for count, _ in hits), default=0)
    if most:
        return next(each.name for count, each in hits if count == most)
    for leading in leading_dimensions(moment, profile=profile)[:1]:
        for each in profile.types:
            if leading in each.dimensions:
                return each.name
    return FALLBACK_TYPE


def leading_dimensions(moment: Moment, *, profile: Profile) -> tuple[str, ...]:
    """The profile's scored dimensions, highest score first; ties by weight, then by the profile's order."""
    scored = [each for each in profile.dimensions if moment.scores.get(each.name, 0.0) > 0]
    ordered = sorted(scored, key=lambda each: (-moment.scores[each.name], -each.weight))
    return tuple(each.name for each in ordered)


def reason_of(moment: Moment, *, profile: Profile) -> str:
    """The provider's reason, then the score in words and numbers."""
    leading = leading_dimensions(moment, profile=profile)[:LED_BY]
    led_by = " and ".join(f"{name} {moment.scores[name]:.2f}" for name in leading)
    score = f"Score {moment.score:.2f}, {_grade(moment.score, profile.thresholds)}"
    sentences = (_sentence(moment.reason), f"{score}{f', led by {led_by}' if led_by else ''}.")
    return " ".join(each for each in sentences if each)


def _sentence(text: str) -> str:
    text = text.strip()
    return text if not text or text[-1] in ".!?" else f"{text[0].upper()}{text[1:]}."


def _grade(score: float, thresholds: Thresholds) -> str:
    if score >= thresholds.exceptional:
        return f"exceptional (from {thresholds.exceptional:.2f})"
    if score >= thresholds.high_quality:
        return f"high quality (from {thresholds.high_quality:.2f})"
    return f"above the threshold of {thresholds.standard:.2f}"


def _hits(kind: HighlightType, text: str) -> int:
    return sum(
        re.search(rf"(?<!\w){re.escape(keyword.casefold())}(?!\w)", text) is not None
        for keyword in kind.keywords
        if keyword.strip()
    )
