"""A customer's webhook receiver: verifies what comes in, keeps it, and answers as a script says.

The cryptography is in `sandbox.signatures`.
"""

import argparse
import asyncio
import inspect
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiohttp import web

from sandbox.http_server import Clock, HttpServer, utc_now
from sandbox.signatures import ID_HEADER, verify_standard, verify_tldr


@dataclass(frozen=True)
class Received:
    """One webhook as it arrived; `body` is the raw bytes, `fault` says in words what does not verify."""

    id: str
    type: str
    body: bytes
    received_at: datetime
    signature_ok: bool
    standard_ok: bool
    fault: str
    headers: tuple[tuple[str, str], ...]

    @property
    def verified(self) -> bool:
        """Whether both signatures hold."""
        return self.signature_ok and self.standard_ok

    @property
    def payload(self) -> Any:
        """Body parsed as JSON; raises ValueError if it is none."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Delayed:
    """Answer `status`, but only after `delay_s`."""

    delay_s: float
    status: int = 200


ScriptedResponse = web.StreamResponse | Awaitable[web.StreamResponse]
Answer = int | Delayed | Callable[[Received], ScriptedResponse]


class WebhookReceiver(HttpServer):
    """Takes webhooks on any path; `received` has each delivery in order, also the repeated ones.

    `secrets` may be changed at any time; without any, everything is taken and counts as unverified. With
    secrets, what does not verify is refused with 401. `answers` are used up first, one per delivery: a
    status, a `Delayed`, or a callable that makes the response.
    """

    def __init__(
        self,
        *,
        secrets: Iterable[str] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        path: str = "/webhooks",
        clock: Clock = utc_now,
    ) -> None:
        super().__init__(host=host, port=port)
        self.secrets: list[str] = list(secrets)
        self.answers: deque[Answer] = deque()
        self.received: list[Received] = []
        self._path = path
        self._clock = clock
        self._arrived = asyncio.Condition()

    @property
    def url(self) -> str:
        """URL to register as webhook endpoint."""
        return self.base_url + self._path

    def distinct(self) -> tuple[Received, ...]:
        """Return the first delivery of each webhook id, in order of arrival."""
        first: dict[str, Received] = {}
        for received in self.received:
            first.setdefault(received.id, received)
        return tuple(first.values())

    async def wait_for(self, predicate: Callable[[Received], bool], *, timeout_s: float) -> Received:
        """Return the first delivery, past or to come, that satisfies `predicate`.

        Raises TimeoutError, naming what has arrived, after `timeout_s`.
        """
        await self.wait_until(lambda all_: any(map(predicate, all_)), timeout_s=timeout_s)
        return next(received for received in self.received if predicate(received))

    async def wait_until(
        self, condition: Callable[[tuple[Received, ...]], bool], *, timeout_s: float
    ) -> tuple[Received, ...]:
        """Return all deliveries once `condition` holds over them; raises TimeoutError like `wait_for`."""
        try:
            async with asyncio.timeout(timeout_s), self._arrived:
                await self._arrived.wait_for(lambda: condition(tuple(self.received)))
        except TimeoutError as error:
            arrived = ", ".join(received.type for received in self.received) or "nothing"
            raise TimeoutError(f"not within {timeout_s:g} s; arrived: {arrived}") from error
        return tuple(self.received)

    async def deliveries(self) -> AsyncIterator[Received]:
        """Yield every delivery, past and to come, without end."""
        seen = 0
        while True:
            async with self._arrived:
                while len(self.received) <= seen:
                    await self._arrived.wait()
            seen += 1
            yield self.received[seen - 1]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Record one delivery and answer it."""
        if request.method != "POST":
            raise web.HTTPMethodNotAllowed(request.method, ["POST"])
        received = self._examine(request, body=await request.read())
        async with self._arrived:
            self.received.append(received)
            self._arrived.notify_all()
        if self.answers:
            return await _scripted(self.answers.popleft(), received=received)
        if self.secrets and not received.verified:
            return web.Response(status=401, text=received.fault)
        return web.Response(status=200)

    def _examine(self, request: web.Request, *, body: bytes) -> Received:
        now = self._clock()
        tldr = verify_tldr(request.headers, body=body, secrets=self.secrets)
        standard = verify_standard(request.headers, body=body, secrets=self.secrets, now=now)
        return Received(
            id=request.headers.get(ID_HEADER, ""),
            type=_event_type(body),
            body=body,
            received_at=now,
            signature_ok=tldr.ok,
            standard_ok=standard.ok,
            fault="; ".join(verdict.fault for verdict in (tldr, standard) if not verdict.ok),
            headers=tuple(request.headers.items()),
        )


async def _scripted(answer: Answer, *, received: Received) -> web.StreamResponse:
    if isinstance(answer, int):
        return web.Response(status=answer)
    if isinstance(answer, Delayed):
        await asyncio.sleep(answer.delay_s)
        return web.Response(status=answer.status)
    response = answer(received)
    return await response if inspect.isawaitable(response) else response


def _event_type(body: bytes) -> str:
    """Return the `type` of a JSON object; what is none has no type."""
    try:
        payload = json.loads(body)
    except ValueError:
        return ""
    return str(payload.get("type", "")) if isinstance(payload, dict) else ""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox.receiver", description="Receive our webhooks.")
    parser.add_argument("--secret", action="append", default=[], help="may be given twice during a rotation")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    return parser.parse_args()


async def _receive(options: argparse.Namespace) -> None:
    async with WebhookReceiver(secrets=options.secret, host=options.host, port=options.port) as receiver:
        print(receiver.url, flush=True)
        async for received in receiver.deliveries():
            print(f"{received.received_at:%H:%M:%S} {_line(received)}", flush=True)


def _line(received: Received) -> str:
    verdict = "verified" if received.verified else f"NOT verified ({received.fault})"
    return f"{received.type or '?'} {received.id or '?'} {verdict}"


def main() -> None:
    """Receive until Ctrl-C; the first line printed is the URL, then one line per webhook."""
    with suppress(KeyboardInterrupt):
        asyncio.run(_receive(_arguments()))


if __name__ == "__main__":
    main()
