"""Words for what was measured: titles and descriptions without times, reasons with the numbers."""

from dataclasses import dataclass

LOUD_DBFS = -16.0
AUDIBLE_DBFS = -24.0
OUTBURST_DB = 6.0
BUSY_ONSETS = 0.42
FAST_CHANGED = 0.40
MOVING_CHANGED = 0.15
CUTS_MANY = 3
SHIFT_CLEAR = 0.06


@dataclass(frozen=True, slots=True)
class Features:
    """A peak in numbers; None where sound or picture was not there.

    `rise_db` and the ratios compare with the window's own median, `contrast` and `shift` are differences of
    activity in [-1, 1], `changed` is a share of the picture, `cuts` counts within `cuts_span_s`.
    """

    loudness_dbfs: float | None
    rise_db: float
    onsets: float | None
    onset_ratio: float
    changed: float | None
    motion_ratio: float
    cuts: int
    cuts_span_s: float
    contrast: float
    shift: float
    duration_s: float


def name_title(features: Features) -> str:
    """A title that depends on the features only: moments that sound and look alike are named alike."""
    if features.loudness_dbfs is None:
        return _capital(f"{_pace(features)} without sound")
    if features.changed is None:
        return _capital(f"{_sound(features)} on the sound track")
    return _capital(f"{_sound(features)}, {_pace(features)}{_turn(features)}")


def describe(features: Features) -> str:
    """One sentence on how the moment develops."""
    sentences = (_sound_sentence(features), _picture_sentence(features), _course_sentence(features))
    return " ".join(sentence for sentence in sentences if sentence)


def give_reason(features: Features) -> str:
    """Why it was chosen, in numbers that a reader can check against the media."""
    facts = (_loudness_fact(features), _onset_fact(features), _motion_fact(features), _cut_fact(features))
    contrast = f"activity {features.contrast:+.2f} against the window's median"
    course = f"{contrast}, {features.shift:+.2f} from before to after"
    return "; ".join((*(fact for fact in facts if fact), course))


def name_tags(features: Features) -> tuple[str, ...]:
    tags = {
        "loud": features.loudness_dbfs is not None and features.loudness_dbfs >= LOUD_DBFS,
        "outburst": features.rise_db >= OUTBURST_DB,
        "fast-motion": features.changed is not None and features.changed >= FAST_CHANGED,
        "fast-cuts": features.cuts >= CUTS_MANY,
        "silent": features.loudness_dbfs is None,
        "sound-only": features.changed is None,
    }
    return tuple(name for name, holds in tags.items() if holds)


def _sound(features: Features) -> str:
    loudness = features.loudness_dbfs if features.loudness_dbfs is not None else LOUD_DBFS
    if features.rise_db >= OUTBURST_DB:
        return "sudden outburst"
    busy = features.onsets is not None and features.onsets >= BUSY_ONSETS
    if loudness >= LOUD_DBFS:
        return "loud impacts" if busy else "loud scene"
    if loudness >= AUDIBLE_DBFS:
        return "rapid hits" if busy else "lively scene"
    return "low voices"


def _pace(features: Features) -> str:
    if features.cuts >= CUTS_MANY:
        return "quick cuts"
    changed = features.changed or 0.0
    if changed >= FAST_CHANGED:
        return "fast action"
    return "steady movement" if changed >= MOVING_CHANGED else "little movement"


def _turn(features: Features) -> str:
    if features.shift >= SHIFT_CLEAR:
        return ", building up"
    return ", dying down" if features.shift <= -SHIFT_CLEAR else ""


def _sound_sentence(features: Features) -> str:
    if features.loudness_dbfs is None:
        return "There is no sound."
    return f"{_capital(_sound(features))} in the sound."


def _picture_sentence(features: Features) -> str:
    if features.changed is None:
        return "There is no picture."
    return f"{_capital(_pace(features))} in the picture."


def _course_sentence(features: Features) -> str:
    if features.shift >= SHIFT_CLEAR:
        return "More happens after it than before."
    if features.shift <= -SHIFT_CLEAR:
        return "It calms down afterwards."
    return ""


def _loudness_fact(features: Features) -> str:
    if features.loudness_dbfs is None:
        return "no sound track"
    if features.rise_db >= 1.0:
        return f"loudness {features.rise_db:.0f} dB above the window's median at {features.loudness_dbfs:.0f} dBFS"
    return f"loudness {features.loudness_dbfs:.0f} dBFS"


def _onset_fact(features: Features) -> str:
    if features.onsets is None:
        return ""
    return f"sound onsets {features.onset_ratio:.1f}x the window's median"


def _motion_fact(features: Features) -> str:
    if features.changed is None:
        return "no picture"
    return f"motion {features.motion_ratio:.1f}x the window's median ({features.changed:.0%} of the picture changes)"


def _cut_fact(features: Features) -> str:
    if not features.cuts:
        return ""
    noun = "cut" if features.cuts == 1 else "cuts"
    return f"{features.cuts} {noun} in {features.cuts_span_s:.0f} s"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
