"""From profile file and options to the profile that judges a stream.

Order: request > organization's set > game file > `default.yaml`; today's sources are the first and the last.
Reading files is not done here.
"""

from collections.abc import Mapping
from typing import Any

from gateway.domain.stream_options import StreamOptions
from shared.profile import ClipRules, Profile, SelectionRules, Sensitivity, Thresholds

MICROSECONDS = 1_000_000
# How `sensitivity` moves the standard threshold. No source gives these numbers: they are ours, and documented.
SENSITIVITY_SHIFT = {Sensitivity.LOW: 0.10, Sensitivity.MEDIUM: 0.0, Sensitivity.HIGH: -0.10}


class ProfileFileInvalid(ValueError):
    """A profile file does not hold a profile; the service must not start with it."""


def read_profile(content: Mapping[str, Any]) -> Profile:
    """The profile of a parsed YAML file. Raises ProfileFileInvalid."""
    try:
        return Profile.model_validate(dict(content))
    except ValueError as error:
        raise ProfileFileInvalid(str(error)) from error


def resolve(basis: Profile, *, options: StreamOptions) -> Profile:
    """The profile of one stream. Equal arguments give equal profiles, so their objects are shared."""
    return Profile.model_validate(
        {
            **basis.model_dump(),
            "quality": options.analysis_quality,
            "sensitivity": options.sensitivity,
            "thresholds": _shifted(basis.thresholds, options.sensitivity).model_dump(),
            "selection": _capped(basis.selection, options.max_highlights).model_dump(),
            "clip": _aimed(basis.clip, options.clip_duration).model_dump(),
            "tags": tuple(dict.fromkeys((*basis.tags, *options.custom_tags))),
            "include_audio": options.include_audio,
            "include_chat": options.include_chat,
            "frame_interval_s": options.frame_interval,
        }
    )


def _shifted(thresholds: Thresholds, sensitivity: Sensitivity) -> Thresholds:
    moved = round(thresholds.standard + SENSITIVITY_SHIFT[sensitivity], 6)
    standard = min(max(moved, 0.0), thresholds.high_quality)
    return thresholds.model_copy(update={"standard": standard})


def _capped(selection: SelectionRules, max_highlights: int | None) -> SelectionRules:
    return selection.model_copy(update={"max_highlights": max_highlights or selection.max_highlights})


def _aimed(clip: ClipRules, duration_s: int) -> ClipRules:
    target_us = duration_s * MICROSECONDS
    return clip.model_copy(
        update={
            "target_us": target_us,
            "minimum_us": min(clip.minimum_us, target_us),
            "maximum_us": max(clip.maximum_us, target_us),
        }
    )
