"""A sender that keeps what is sent and answers as told; with `gate` it waits for it first."""

import asyncio
from dataclasses import dataclass, field

from notifier.domain.delivery import Answer, NoAnswer, Outgoing


@dataclass
class FakeWebhookClient:
    outcomes: list[Answer | NoAnswer | Exception] = field(default_factory=list)
    sent: list[Outgoing] = field(default_factory=list)
    gate: asyncio.Event | None = None

    async def send(self, outgoing: Outgoing) -> Answer | NoAnswer:
        self.sent.append(outgoing)
        if self.gate is not None:
            await self.gate.wait()
        outcome = self.outcomes.pop(0) if self.outcomes else Answer(200)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome
