"""What a generateContent request asks, whichever way its keys are written: camelCase and snake_case are mixed."""

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_FILE_NAME = re.compile(r".*/files/([\w-]+)")


@dataclass(frozen=True)
class Asked:
    """One question to the model. `texts` are the user's parts in order, `earlier` what the model said before.

    `video` is the media that came inline or was uploaded before, `file_name` its name in the second case.
    """

    model: str
    system: str
    texts: tuple[str, ...]
    earlier: tuple[str, ...]
    video: bytes | None
    mime_type: str
    file_name: str | None
    fps: float | None
    schema: Mapping[str, Any]
    config: Mapping[str, Any]


def pick(found: Mapping[str, Any], name: str) -> Any:
    """The value under `someName` or `some_name`; None if neither is there."""
    snake = re.sub(r"([A-Z])", lambda match: "_" + match[1].lower(), name)
    return found.get(name, found.get(snake))


def read_request(body: Mapping[str, Any], *, model: str, files: Mapping[str, bytes]) -> Asked:
    """`files` are the stored ones by name."""
    config = pick(body, "generationConfig") or {}
    media: Mapping[str, Any] = next(filter(None, map(_media, _parts(body, None))), {})
    part = next((part for part in _parts(body, None) if _media(part)), {})
    name = _file_name(media)
    data = media.get("data")
    return Asked(
        model=model,
        system=" ".join(_texts([pick(body, "systemInstruction") or {}])),
        texts=tuple(part["text"] for part in _parts(body, "user") if "text" in part),
        earlier=tuple(part["text"] for part in _parts(body, "model") if "text" in part),
        video=base64.b64decode(data + "===", altchars=b"-_") if data else files.get(name or ""),
        mime_type=str(pick(media, "mimeType") or ""),
        file_name=name,
        fps=pick(pick(part, "videoMetadata") or {}, "fps"),
        schema=pick(config, "responseJsonSchema") or {},
        config=config,
    )


def _parts(body: Mapping[str, Any], role: str | None) -> Iterator[Mapping[str, Any]]:
    for content in body.get("contents", ()):
        if role is None or content.get("role", "user") == role:
            yield from content.get("parts", ())


def _texts(contents: list[Mapping[str, Any]]) -> Iterator[str]:
    for content in contents:
        yield from (part["text"] for part in content.get("parts", ()) if "text" in part)


def _media(part: Mapping[str, Any]) -> Mapping[str, Any] | None:
    found = pick(part, "inlineData") or pick(part, "fileData")
    return found if isinstance(found, Mapping) else None


def _file_name(media: Mapping[str, Any]) -> str | None:
    match = _FILE_NAME.fullmatch(str(pick(media, "fileUri") or ""))
    return match[1] if match else None
