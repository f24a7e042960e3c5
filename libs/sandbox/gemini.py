"""A double of the Gemini API over HTTP: the real SDK talks to it, and it answers, fails or stalls as a script says.

What it answers when nothing is scripted is in `sandbox.gemini_answers`; nothing here understands a video.
"""

import argparse
import asyncio
import inspect
import json
import re
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from aiohttp import web

from sandbox.gemini_answers import answer_from_signals, duration_s, has_sound
from sandbox.gemini_request import Asked, pick, read_request
from sandbox.http_server import HttpServer

Operation = Literal["start", "upload", "get", "delete", "generate"]

TOKENS_PER_PICTURE = 70
TOKENS_PER_SOUND_S = 32
CHARS_PER_TOKEN = 4
CALLS_KEPT = 10_000
VIDEOS_KEPT = 50
_ROUTES: tuple[tuple[str, str, Operation], ...] = (
    ("POST", r"/upload/(?P<version>v\w+)/files", "start"),
    ("POST", r"/upload/(?P<version>v\w+)/parts/(?P<name>[\w-]+)", "upload"),
    ("GET", r"/(?P<version>v\w+)/files/(?P<name>[\w-]+)", "get"),
    ("DELETE", r"/(?P<version>v\w+)/files/(?P<name>[\w-]+)", "delete"),
    ("POST", r"/(?P<version>v\w+)/models/(?P<model>[\w.-]+):generateContent", "generate"),
)


@dataclass(frozen=True)
class Refuse:
    """An error as Google writes it. Hints: the header in seconds or as a date, `retry_delay` as in `7s`."""

    status: int
    name: str = "UNAVAILABLE"
    message: str = "scripted"
    retry_after: str | None = None
    retry_delay: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Say:
    """An answer of one candidate with this text; None as reason leaves it out."""

    text: str = ""
    finish_reason: str | None = "STOP"


@dataclass(frozen=True)
class Block:
    """A prompt that was blocked: no candidate."""

    reason: str = "SAFETY"


@dataclass(frozen=True)
class Raw:
    """These bytes as body."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"


@dataclass(frozen=True)
class HangUp:
    """The connection breaks without an answer."""


@dataclass(frozen=True)
class Slow:
    """Wait, then do the other thing, or what would be done without a script."""

    delay_s: float
    then: "Refuse | Say | Block | Raw | HangUp | None" = None


Action = Refuse | Say | Block | Raw | HangUp | Slow
Answer = Callable[[Asked], str | Awaitable[str]]


@dataclass(frozen=True)
class Call:
    """One request as it arrived; `key` is the API key that it brought, `asked` what was asked of the model."""

    operation: Operation
    version: str
    path: str
    key: str
    asked: Asked | None = None


@dataclass
class StoredFile:
    """An uploaded file; it is PROCESSING for the next `polls` looks."""

    name: str
    mime_type: str
    expected_bytes: int
    polls: int
    state: str = "PROCESSING"
    body: bytearray = field(default_factory=bytearray)
    whole: bool = False


class GeminiDouble(HttpServer):
    """Serves generateContent and the Files API under v1 and v1beta; takes camelCase and snake_case.

    `script[operation]` is used up first, one action per request; `always[operation]` then holds for good; else
    the request is served, and `answer` makes the model's text. `keys`, where given, are the keys that it accepts.
    `calls` has each request in order, `files` what is stored now, `deleted` the names that were deleted. Of very many
    calls the oldest go, and before that their videos.
    """

    def __init__(
        self,
        *,
        answer: Answer = answer_from_signals,
        keys: Collection[str] | None = None,
        processing_polls: int = 1,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        super().__init__(host=host, port=port)
        self.answer_of = answer
        self.keys = keys
        self.processing_polls = processing_polls
        self.fails_processing = False
        self.script: dict[Operation, deque[Action]] = {each: deque() for _, _, each in _ROUTES}
        self.always: dict[Operation, Action] = {}
        self.calls: list[Call] = []
        self.files: dict[str, StoredFile] = {}
        self.deleted: list[str] = []
        self.model_version: str | None = None

    def called(self, operation: Operation) -> list[Call]:
        """The calls of one operation, in order."""
        return [call for call in self.calls if call.operation == operation]

    @property
    def asked(self) -> list[Asked]:
        """What the model was asked, in order, failed requests too."""
        return [call.asked for call in self.calls if call.asked is not None]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Serve one request of the API."""
        body = await request.content.read()
        for method, pattern, operation in _ROUTES:
            match = re.fullmatch(pattern, request.path)
            if match is not None and request.method == method:
                return await self._serve(request, body, operation, match.groupdict())
        return _error(404, "NOT_FOUND", f"no such method: {request.method} {request.path}")

    async def _serve(
        self, request: web.Request, body: bytes, operation: Operation, names: Mapping[str, str]
    ) -> web.StreamResponse:
        asked = self._asked(body, names["model"]) if operation == "generate" else None
        key = request.headers.get("x-goog-api-key", "")
        self._remember(Call(operation, names["version"], request.path, key, asked))
        # Parts of an upload go to an address that is itself the permission.
        if operation != "upload" and self.keys is not None and key not in self.keys:
            return _refusal(
                Refuse(400, "INVALID_ARGUMENT", f"API key not valid: {key}", reason="API_KEY_INVALID")
            )
        script = self.script[operation]
        action = script.popleft() if script else self.always.get(operation)
        if isinstance(action, Slow):
            await asyncio.sleep(action.delay_s)
            action = action.then
        if action is not None:
            return self._played(action, asked, request)
        serve = {"start": self._start, "upload": self._upload, "get": self._get, "delete": self._delete}
        if asked is not None:
            return await self._generate(asked)
        return serve[operation](request, body, names)

    def _remember(self, call: Call) -> None:
        self.calls.append(call)
        del self.calls[:-CALLS_KEPT]
        old = self.calls[-VIDEOS_KEPT - 1] if len(self.calls) > VIDEOS_KEPT else None
        if old is not None and old.asked is not None:
            self.calls[-VIDEOS_KEPT - 1] = replace(old, asked=replace(old.asked, video=None))

    def _asked(self, body: bytes, model: str) -> Asked:
        stored = {name: bytes(file.body) for name, file in self.files.items()}
        return read_request(json.loads(body), model=model, files=stored)

    def _played(self, action: Action, asked: Asked | None, request: web.Request) -> web.StreamResponse:
        if isinstance(action, Refuse):
            return _refusal(action)
        if isinstance(action, Raw):
            headers = {"Content-Type": action.content_type}
            return web.Response(status=action.status, body=action.body, headers=headers)
        if isinstance(action, HangUp):
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        if asked is None:
            raise ValueError(f"{action} can only be played to a question")
        if isinstance(action, Say):
            return web.json_response(self._said(asked, action.text, action.finish_reason))
        feedback = {"blockReason": action.reason} if isinstance(action, Block) else {}
        return web.json_response({"promptFeedback": feedback, "usageMetadata": usage(asked, "")})

    # -- files ---------------------------------------------------------------------------------------

    def _start(self, request: web.Request, body: bytes, names: Mapping[str, str]) -> web.Response:
        wanted = json.loads(body or b"{}").get("file", {})
        name = str(wanted.get("name") or f"files/{secrets.token_hex(6)}").removeprefix("files/")
        if name in self.files:
            return _error(409, "ALREADY_EXISTS", f"files/{name}")
        self.files[name] = StoredFile(
            name,
            mime_type=str(pick(wanted, "mimeType") or ""),
            expected_bytes=int(request.headers.get("X-Goog-Upload-Header-Content-Length", "0")),
            polls=self.processing_polls,
        )
        url = f"{self.base_url}/upload/{names['version']}/parts/{name}"
        headers = {"X-Goog-Upload-URL": url, "X-Goog-Upload-Status": "active"}
        return web.json_response({}, headers=headers)

    def _upload(self, request: web.Request, body: bytes, names: Mapping[str, str]) -> web.Response:
        file = self.files.get(names["name"])
        if file is None:
            return _error(404, "NOT_FOUND", "no such upload", headers={"X-Goog-Upload-Status": "final"})
        if int(request.headers.get("X-Goog-Upload-Offset", "-1")) != len(file.body):
            return _error(400, "INVALID_ARGUMENT", "wrong offset", headers={"X-Goog-Upload-Status": "final"})
        file.body += body
        if "finalize" not in request.headers.get("X-Goog-Upload-Command", ""):
            return web.json_response({}, headers={"X-Goog-Upload-Status": "active"})
        file.whole = len(file.body) == file.expected_bytes
        status = {"X-Goog-Upload-Status": "final"}
        if not file.whole:
            return _error(400, "INVALID_ARGUMENT", "the size differs", headers=status)
        return web.json_response({"file": self._described(file)}, headers=status)

    def _get(self, _request: web.Request, _body: bytes, names: Mapping[str, str]) -> web.Response:
        file = self.files.get(names["name"])
        if file is None:
            return _error(403, "PERMISSION_DENIED", "no such file, or not yours")
        if file.polls > 0:
            file.polls -= 1
        else:
            file.state = "FAILED" if self.fails_processing else "ACTIVE"
        return web.json_response(self._described(file))

    def _delete(self, _request: web.Request, _body: bytes, names: Mapping[str, str]) -> web.Response:
        if self.files.pop(names["name"], None) is None:
            return _error(403, "PERMISSION_DENIED", "no such file, or not yours")
        self.deleted.append(names["name"])
        return web.json_response({})

    def _described(self, file: StoredFile) -> dict[str, str]:
        return {
            "name": f"files/{file.name}",
            "uri": f"{self.base_url}/v1/files/{file.name}",
            "mimeType": file.mime_type,
            "sizeBytes": str(len(file.body)),
            "state": file.state,
        }

    # -- the model -----------------------------------------------------------------------------------

    async def _generate(self, asked: Asked) -> web.StreamResponse:
        if asked.file_name is not None and not self._usable(asked.file_name):
            return _error(400, "FAILED_PRECONDITION", f"files/{asked.file_name} is not in an ACTIVE state")
        found = self.answer_of(asked)
        text = await found if inspect.isawaitable(found) else found
        return web.json_response(self._said(asked, text, "STOP"))

    def _usable(self, name: str) -> bool:
        return name in self.files and self.files[name].state == "ACTIVE"

    def _said(self, asked: Asked, text: str, finish_reason: str | None) -> dict[str, Any]:
        candidate: dict[str, Any] = {"index": 0}
        if text:
            candidate["content"] = {"role": "model", "parts": [{"text": text}]}
        if finish_reason is not None:
            candidate["finishReason"] = finish_reason
        return {
            "candidates": [candidate],
            "usageMetadata": usage(asked, text),
            "modelVersion": self.model_version or asked.model,
        }


def usage(asked: Asked, text: str) -> dict[str, Any]:
    """Token counts near the documented ones: by picture, second of sound, and four characters."""
    length_s = duration_s(asked.video)
    counts = {
        "TEXT": (len(asked.system) + sum(map(len, asked.texts))) // CHARS_PER_TOKEN,
        "VIDEO": round(length_s * (asked.fps or 1.0)) * TOKENS_PER_PICTURE,
        "AUDIO": round(length_s * TOKENS_PER_SOUND_S) if has_sound(asked.video) else 0,
    }
    thoughts = 64
    said = len(text) // CHARS_PER_TOKEN
    return {
        "promptTokenCount": sum(counts.values()),
        "candidatesTokenCount": said,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": sum(counts.values()) + said + thoughts,
        "promptTokensDetails": [
            {"modality": name, "tokenCount": count} for name, count in counts.items() if count
        ],
    }


def _refusal(action: Refuse) -> web.Response:
    details: list[dict[str, str]] = []
    if action.retry_delay is not None:
        details.append(
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": action.retry_delay}
        )
    if action.reason is not None:
        details.append({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": action.reason})
    headers = {} if action.retry_after is None else {"Retry-After": action.retry_after}
    return _error(action.status, action.name, action.message, details=details, headers=headers)


def _error(
    status: int,
    name: str,
    message: str,
    *,
    details: list[dict[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    error = {"code": status, "message": message, "status": name, "details": details or []}
    return web.json_response({"error": error}, status=status, headers=headers)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.gemini",
        description="Play the Gemini API; give its address as GEMINI_BASE_URL.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--processing-polls", type=int, default=1, help="looks until an upload is ACTIVE")
    parser.add_argument("--key", action="append", help="accept this key only; any without")
    return parser.parse_args()


async def _play(options: argparse.Namespace) -> None:
    double = GeminiDouble(
        host=options.host, port=options.port, keys=options.key, processing_polls=options.processing_polls
    )
    async with double:
        print(double.base_url, flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Serve until Ctrl-C; the first line printed is the URL."""
    with suppress(KeyboardInterrupt):
        asyncio.run(_play(_arguments()))


if __name__ == "__main__":
    main()
