"""The queue of kept webhooks, in memory."""

from dataclasses import dataclass, field

from shared.broker import BrokerUnavailable


@dataclass
class FakeWebhookQueue:
    away: bool = False
    refused: int = 0
    sealed: list[str] = field(default_factory=list)

    async def keep(self, sealed: str) -> None:
        if self.away:
            self.refused += 1
            raise BrokerUnavailable("RabbitMQ is away")
        self.sealed.append(sealed)

    async def oldest(self) -> str | None:
        return self.sealed[0] if self.sealed else None

    async def done(self) -> None:
        del self.sealed[0]
