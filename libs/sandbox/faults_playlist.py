"""The playlists of a scripted stream as text, right and wrong: pure functions of timeline, script and moment."""

import json
import math
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Final

from sandbox.faults import BadLines, EmptyPlaylist, Freeze, Huge, PlaylistFault, Skip, Stale, TimedMetadata
from sandbox.faults_timeline import Cast, Timeline
from sandbox.live_window import US_PER_S
from sandbox.scenario import Stream

AUDIO_GROUP: Final = "sound"
CAPTIONS_GROUP: Final = "captions"
AUDIO_FOLDER: Final = "audio"
CAPTIONS_FOLDER: Final = "captions"
_DATE: Final = "%Y-%m-%dT%H:%M:%S"
_NOISE: Final = (
    "#EXT-X-PROGRAM-DATE-TIME:yesterday at noon",
    '#EXT-X-NOBODY-KNOWS:A=1,B="two"',
    "#EXT-X-DISCONTINUITY-SEQUENCE:minus one",
)


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """What a media playlist is made from; `sizes` are the lengths in bytes for BYTERANGE, by ordinal."""

    timeline: Timeline
    stream: Stream
    went_live_at: datetime
    target_s: int
    durations_us: Sequence[int]
    init_uri: str = ""
    sizes: Sequence[int] = ()
    suffix: str = ""
    is_encrypted: bool = False


def master(lines: Sequence[str], *, stream: Stream, token: str) -> str:
    """The master playlist over `lines` (attributes of each variant, best first)."""
    text = ["#EXTM3U", "#EXT-X-VERSION:6", "#EXT-X-INDEPENDENT-SEGMENTS"]
    groups = ""
    if stream.audio:
        text.append(
            f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="{AUDIO_GROUP}",NAME="Sound",DEFAULT=YES,AUTOSELECT=YES,'
            f'URI="{AUDIO_FOLDER}/stream.m3u8{token}"'
        )
        groups += f',AUDIO="{AUDIO_GROUP}"'
    if stream.captions:
        text.append(
            f'#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="{CAPTIONS_GROUP}",NAME="Captions",DEFAULT=YES,LANGUAGE="en",'
            f'URI="{CAPTIONS_FOLDER}/captions.m3u8{token}"'
        )
        groups += f',SUBTITLES="{CAPTIONS_GROUP}"'
    for index, attributes in enumerate(lines):
        text += [f"#EXT-X-STREAM-INF:{attributes}{groups}", f"stream_{index}/stream.m3u8{token}"]
    return "\n".join(text) + "\n"


def media(rendering: Rendering, *, at_s: float, now_s: float, token: str = "", skipped: int = 0) -> str:
    """The media playlist of the moment `at_s`, which is older than `now_s` in a stale copy.

    `skipped` leaves out so many of the oldest segments behind an EXT-X-SKIP.
    """
    timeline = rendering.timeline
    listed = timeline.listed(at_s)
    lines = [
        "#EXTM3U",
        f"#EXT-X-VERSION:{9 if skipped else 6}",
        f"#EXT-X-TARGETDURATION:{rendering.target_s}",
    ]
    lines.append(f"#EXT-X-MEDIA-SEQUENCE:{timeline.sequence_of(listed[0], at_s) if listed else 0}")
    if listed and listed[0].discontinuities:
        lines.append(f"#EXT-X-DISCONTINUITY-SEQUENCE:{listed[0].discontinuities - listed[0].discontinuity}")
    if rendering.init_uri:
        lines.append(f'#EXT-X-MAP:URI="{rendering.init_uri}{token}"')
    if skipped:
        lines.insert(2, "#EXT-X-SERVER-CONTROL:CAN-SKIP-UNTIL=24.0")
        lines.append(f"#EXT-X-SKIP:SKIPPED-SEGMENTS={min(skipped, len(listed))}")
    key = ""
    for cast in listed[skipped:]:
        key, tag = _key(rendering, cast, key, token)
        lines += [*tag, *_entry(rendering, cast, token)]
    if rendering.stream.endlist and timeline.ended(at_s) and at_s >= now_s:
        lines.append("#EXT-X-ENDLIST")
    return "\n".join(lines) + "\n"


def _key(rendering: Rendering, cast: Cast, before: str, token: str) -> tuple[str, list[str]]:
    if not rendering.is_encrypted:
        return before, []
    number = cast.ordinal // rendering.stream.key_every
    iv = f",IV=0x{cast.ordinal:032x}" if rendering.stream.key_iv else ""
    tag = f'#EXT-X-KEY:METHOD=AES-128,URI="key-{number}.key{token}"{iv}'
    return tag, [] if tag == before else [tag]


def _entry(rendering: Rendering, cast: Cast, token: str) -> list[str]:
    lines = ["#EXT-X-DISCONTINUITY"] if cast.discontinuity else []
    date = rendering.went_live_at + timedelta(seconds=cast.captured_s)
    if cast.cue:
        lines.append("#EXT-X-CUE-IN" if cast.cue == "in" else "#EXT-X-CUE-OUT")
    lines += [_date_range(each, cast, date) for each in cast.date_ranges]
    if rendering.stream.program_date_time:
        lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{date.isoformat(timespec='milliseconds')}")
    if cast.presence == "gap":
        lines.append("#EXT-X-GAP")
    if rendering.sizes:
        offset = list(accumulate(rendering.sizes, initial=0))[cast.ordinal]
        lines.append(f"#EXT-X-BYTERANGE:{rendering.sizes[cast.ordinal]}@{offset}")
    uri = cast.uri.rpartition(".")[0] + rendering.suffix if rendering.suffix else cast.uri
    return [*lines, f"#EXTINF:{rendering.durations_us[cast.ordinal] / US_PER_S:.6f},", f"{uri}{token}"]


def _date_range(fault: TimedMetadata, cast: Cast, date: datetime) -> str:
    """As 100ms inserts it: the payload is base64 of JSON."""
    end = date + timedelta(seconds=fault.duration_s)
    payload = {
        "payload": fault.payload,
        "start_date": f"{date.strftime(_DATE)}+0000",
        "end_date": f"{end.strftime(_DATE)}+0000",
        "hms_version": "v1.1",
    }
    encoded = b64encode(json.dumps(payload).encode()).decode()
    return (
        f'#EXT-X-DATERANGE:ID="m-{cast.ordinal}",START-DATE="{date.isoformat(timespec="milliseconds")}",'
        f'DURATION={fault.duration_s:g},X-100MSLIVE-PAYLOAD="{encoded}"'
    )


def shown_at_s(timeline: Timeline, faults: Sequence[PlaylistFault], *, now_s: float) -> float:
    """The moment of which a copy is: now, or an earlier one where the playlist is frozen or stale."""
    at_s = now_s
    for fault in faults:
        if isinstance(fault, Freeze):
            at_s = min(at_s, timeline.span_s(fault)[0])
        elif isinstance(fault, Stale):
            older = max(0, timeline.newest(now_s) - fault.behind)
            at_s = min(at_s, timeline.casts[older].complete_s)
    return at_s


def damaged(text: str, faults: Sequence[PlaylistFault]) -> str:
    """The text with what these faults do to it."""
    for fault in faults:
        damage = _DAMAGES.get(type(fault))
        if damage is not None:
            text = damage(text, fault)
    return text


def skipped_count(faults: Sequence[PlaylistFault]) -> int:
    return max((fault.skipped for fault in faults if isinstance(fault, Skip)), default=0)


def _empty(text: str, _: PlaylistFault) -> str:
    head = [
        line for line in text.splitlines() if line.startswith(("#EXTM3U", "#EXT-X-TARGET", "#EXT-X-VERSION"))
    ]
    return "\n".join(head) + "\n"


def _bad_lines(text: str, _: PlaylistFault) -> str:
    """The last EXTINF loses its number, and lines are put in that no reader can use."""
    lines = text.splitlines()
    last = max((n for n, line in enumerate(lines) if line.startswith("#EXTINF")), default=0)
    if last:
        lines[last] = "#EXTINF:abc,"
        lines[last:last] = _NOISE
    return "\n".join(lines) + "\n"


def _huge(text: str, fault: PlaylistFault) -> str:
    assert isinstance(fault, Huge)
    line = "# " + "x" * 998 + "\n"
    return text + line * math.ceil(max(0, fault.size_bytes - len(text)) / len(line))


_DAMAGES: Final[dict[type[PlaylistFault], Callable[[str, PlaylistFault], str]]] = {
    EmptyPlaylist: _empty,
    BadLines: _bad_lines,
    Huge: _huge,
}
