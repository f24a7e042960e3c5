"""Scripts for the storm: faults at random every few seconds, drawn from one seed. Nothing is run here."""

import random
from collections.abc import Callable
from typing import Any, Final

from sandbox.scenario import Script

Entry = dict[str, Any]
Draw = Callable[[random.Random], Entry]
LEAST_PAUSE_S, MOST_PAUSE_S = 3.0, 9.0
LONGEST_FAULT_S: Final = 4.0
SPEEDS: Final = (1.0, 1.0, 1.5, 2.0)
RESTART_SILENCE_S: Final = 9.0  # an encoder that crashed needs its time; until then its last list stands
ONE_TRY: Final = (
    {"fault": "status", "code": 404},
    {"fault": "status", "code": 500},
    {"fault": "reset", "after_bytes": 3000},
    {"fault": "truncate"},
    {"fault": "truncate", "announce": False},
    {"fault": "corrupt"},
    {"fault": "garbage"},
    {"fault": "html"},
    {"fault": "empty_body"},
)
FOR_A_WHILE: Final = (
    {"target": "segment", "fault": "status", "code": 503},
    {"target": "segment", "fault": "status", "code": 429, "retry_after_s": 1},
    {"target": "segment", "fault": "delay", "delay_s": 1.5},
    {"target": "segment", "fault": "redirect"},
    {"target": "playlist", "fault": "status", "code": 404},
    {"target": "playlist", "fault": "status", "code": 503},
    {"target": "playlist", "fault": "status", "code": 403},
    {"target": "playlist", "fault": "html"},
    {"target": "playlist", "fault": "reset"},
    {"target": "playlist", "fault": "drip", "bytes_per_s": 50},
    {"target": "playlist", "fault": "empty_body"},
    {"fault": "freeze"},
    {"fault": "stale", "behind": 2, "chance": 0.5},
    {"fault": "empty_playlist"},
    {"fault": "bad_lines", "chance": 0.5},
)
OF_THE_SOURCE: Final = (
    {"fault": "stall", "for_s": 4.0},
    {"fault": "discontinuity"},
    {"fault": "pts_jump", "by_s": 3600.0},
    {"fault": "token_expiry"},
)


def storm_script(seed: int, number: int, *, segments: int, length_s: float) -> Script:
    """Of stream `number`: mostly what costs a good follower nothing, and for some a segment that nobody can have."""
    draw = random.Random(f"storm {seed} {number}")
    faults: list[Entry] = []
    at_s = draw.uniform(4.0, 8.0)
    while at_s < length_s:
        faults.append(_drawn(draw, at_s, segments=segments, length_s=length_s))
        at_s += draw.uniform(LEAST_PAUSE_S, MOST_PAUSE_S)
    faults += _rare(draw, number, segments)
    stream = {"window": 5, "initial_segments": 2, "speed": draw.choice(SPEEDS), "variants": 1 + number % 2}
    return Script.model_validate({"seed": seed + number, "stream": stream, "faults": faults})


def _drawn(draw: random.Random, at_s: float, *, segments: int, length_s: float) -> Entry:
    kind = draw.random()
    if kind < 0.4:
        ordinal = round(at_s / length_s * segments)
        return {"target": "segment", "from_segment": ordinal, "count": 2, "tries": 1} | draw.choice(ONE_TRY)
    if kind < 0.88:
        return {"at_s": at_s, "for_s": draw.uniform(1.0, LONGEST_FAULT_S)} | draw.choice(FOR_A_WHILE)
    return {"at_s": at_s} | draw.choice(OF_THE_SOURCE)


def _rare(draw: random.Random, number: int, segments: int) -> list[Entry]:
    """Every fourth stream restarts once; every fourth lacks a segment, with a tag or without."""
    middle = draw.randrange(segments // 3, 2 * segments // 3)
    if number % 4 == 0:
        names = draw.choice(("new", "same"))
        return [
            {"fault": "stall", "from_segment": middle, "for_s": RESTART_SILENCE_S},
            {"fault": "sequence_reset", "from_segment": middle, "names": names},
        ]
    if number % 4 == 1:
        return [{"target": "segment", "from_segment": middle, "count": 1, "fault": "status", "code": 404}]
    if number % 8 == 2:
        return [{"fault": "gap", "from_segment": middle, "count": 1}]
    return []
