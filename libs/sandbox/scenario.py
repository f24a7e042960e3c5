"""A script for the fault origin: how the stream is served, and a list of faults; read from a small YAML file.

What is wrong with a file is told with its name, the line and the key. When faults strike is not decided here.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sandbox.faults import Discontinuity, Fault, PtsJump, PtsWrap, Renumber
from sandbox.segmenter import Container

MAX_BYTES = 1024 * 1024
Key = str | int
Lines = Mapping[tuple[Key, ...], int]


class ScriptError(ValueError):
    """A script that cannot be used; one line of the message for each fault in it."""


class Stream(BaseModel):
    """How the stream is served when nothing goes wrong."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    speed: float = Field(default=1.0, gt=0, le=100, description="1 is real time.")
    window: int = Field(default=5, ge=1, description="Segments in the playlist at real time.")
    segment_s: float = Field(default=2.0, gt=0, description="Length that the cutting aims at.")
    initial_segments: int = Field(default=0, ge=0, description="Complete at the moment of going live.")
    seconds: float | None = Field(default=None, gt=0, description="End after that much media.")
    container: Container = "mpegts"
    variants: int = Field(default=1, ge=1, le=16, description="So many names for the same media.")
    master: bool = True
    endlist: bool = True
    program_date_time: bool = True
    byte_ranges: bool = Field(default=False, description="All segments are parts of one file.")
    encrypt: bool = Field(default=False, description="AES-128.")
    key_every: int = Field(default=4, ge=1, description="Segments after which the key changes.")
    key_iv: bool = Field(default=False, description="Whether an IV is given; else the sequence number is it.")
    audio: bool = Field(default=False, description="The sound in a rendition of its own (EXT-X-MEDIA).")
    captions: tuple[str, ...] = Field(
        default=(), description="A WebVTT rendition; each segment shows the next of these texts."
    )

    @model_validator(mode="after")
    def _fits(self) -> "Stream":
        if self.byte_ranges and self.encrypt:
            raise ValueError("byte_ranges and encrypt do not go together here")
        if self.byte_ranges and self.container == "fmp4":
            raise ValueError("byte_ranges needs the container mpegts here")
        if (self.audio or self.captions) and not self.master:
            raise ValueError("audio and captions are named by the master playlist: master must be true")
        return self


class Script(BaseModel):
    """All that decides what the origin answers, together with the media and the clock."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=0, description="Same seed, same faults.")
    stream: Stream = Stream()
    faults: tuple[Fault, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> "Script":
        moves_clock = any(isinstance(fault, PtsJump | PtsWrap | Discontinuity) for fault in self.faults)
        if moves_clock and self.stream.container == "fmp4":
            raise ValueError("the media's clock can be moved in the container mpegts only")
        if (
            self.stream.encrypt
            and not self.stream.key_iv
            and any(isinstance(f, Renumber) for f in self.faults)
        ):
            raise ValueError("renumber needs key_iv: true, for the IV is else the number")
        return self


def read_script(path: Path) -> Script:
    """Read a YAML file. Raises ScriptError."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ScriptError(f"{path}: {error}") from error
    return parse_script(text, name=path.name)


def parse_script(text: str, *, name: str = "script") -> Script:
    """A mapping with `seed`, `stream` and `faults`, or the list of faults alone. Raises ScriptError."""
    if len(text) > MAX_BYTES:
        raise ScriptError(f"{name}: longer than {MAX_BYTES} characters")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ScriptError(f"{name}: {' '.join(str(error).split())}") from error
    lines = dict(_lines(node, ())) if node is not None else {}
    if isinstance(document, list):
        document = {"faults": document}
        lines = {("faults", *path): line for path, line in lines.items()}
    try:
        return Script.model_validate(document or {})
    except ValidationError as error:
        raise ScriptError("\n".join(_told(each, lines, name) for each in error.errors())) from error


def _lines(node: yaml.Node, path: tuple[Key, ...]) -> Iterator[tuple[tuple[Key, ...], int]]:
    """Where each key and each entry of a list stands, counted from 1."""
    yield path, node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            yield from _lines(child, (*path, index))
    elif isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            yield from _lines(child, (*path, str(key.value)))
            yield (*path, str(key.value)), key.start_mark.line + 1


def _told(error: Any, lines: Lines, name: str) -> str:
    """pydantic's place of the error also names the model that was chosen; that is no key of the file."""
    known: tuple[Key, ...] = ()
    shown: list[Key] = []
    for part in error["loc"]:
        if (*known, part) in lines:
            known = (*known, part)
            shown.append(part)
        elif part == error["loc"][-1] and part != (known[-1:] or (None,))[0]:
            shown.append(part)
    key = _dotted(_without_tag(shown, error["loc"], lines))
    return f"{name}:{lines.get(known, 1)}: {key + ': ' if key else ''}{error['msg']}"


def _without_tag(shown: list[Key], place: tuple[Key, ...], lines: Lines) -> list[Key]:
    """The last part is the model's name where the whole entry is at fault, and a key that is missing else."""
    is_tag = len(place) == 3 and place[0] == "faults" and tuple(shown) not in lines
    return shown[:-1] if is_tag else shown


def _dotted(parts: list[Key]) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
