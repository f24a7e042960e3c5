"""The courier: how much is in flight, what a failing database loses (nothing), how it ends."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from notifier.domain.delivery import Claim, State
from notifier.loops import Courier
from notifier.workflow import Deliveries
from shared.database import DatabaseUnavailable
from tests.fakes.notifier.claims import KEYRING, claim
from tests.fakes.notifier.ledger import FakeLedger
from tests.fakes.notifier.webhook_client import FakeWebhookClient


@dataclass
class Stand:
    ledger: FakeLedger = field(default_factory=FakeLedger)
    sender: FakeWebhookClient = field(default_factory=FakeWebhookClient)
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def courier(self, *, concurrency: int = 8) -> Courier:
        deliveries = Deliveries(
            ledger=self.ledger,
            sender=self.sender,
            secrets=KEYRING,
            clock=lambda: datetime.now(UTC),
            spread=lambda: 0.5,
        )
        return Courier(deliveries, wake=self.wake, concurrency=concurrency)


def claims(number: int) -> list[Claim]:
    return [claim(delivery_id=f"whd_{n}") for n in range(number)]


async def test_an_attempt_that_ended_is_recorded_in_the_next_turn() -> None:
    stand = Stand(FakeLedger(claims(1)))
    courier = stand.courier()
    await courier.turn()
    await asyncio.wait_for(stand.wake.wait(), 5)
    await courier.turn()
    assert [result.verdict.state for result in stand.ledger.recorded] == [State.DELIVERED]
    assert courier.in_flight == 0


async def test_no_more_are_claimed_than_may_be_in_flight() -> None:
    stand = Stand(FakeLedger(claims(5)), FakeWebhookClient(gate=asyncio.Event()))
    courier = stand.courier(concurrency=3)
    await courier.turn()
    await courier.turn()
    assert (courier.in_flight, len(stand.ledger.due)) == (3, 2)
    await courier.stop(grace_s=0)


async def test_what_ended_while_the_database_was_away_is_recorded_later() -> None:
    stand = Stand(FakeLedger(claims(1)))
    courier = stand.courier()
    await courier.turn()
    await asyncio.wait_for(stand.wake.wait(), 5)
    stand.ledger.away = True
    with pytest.raises(DatabaseUnavailable):
        await courier.turn()
    stand.ledger.away = False
    await courier.turn()
    assert len(stand.ledger.recorded) == 1


async def test_a_bug_in_one_attempt_leaves_the_others_alone() -> None:
    stand = Stand(FakeLedger(claims(2)), FakeWebhookClient([ValueError("a bug")]))
    courier = stand.courier()
    await courier.turn()
    await asyncio.wait_for(stand.wake.wait(), 5)
    await courier.stop(grace_s=5)
    states = sorted(result.verdict.state for result in stand.ledger.recorded)
    assert states == [State.DELIVERED, State.PENDING]


async def test_at_the_end_running_attempts_finish_and_late_ones_are_given_back() -> None:
    stand = Stand(FakeLedger(claims(1)), FakeWebhookClient(gate=asyncio.Event()))
    courier = stand.courier()
    await courier.turn()
    await courier.stop(grace_s=0)
    assert [one.delivery_id for one in stand.ledger.released] == ["whd_0"]
    assert (stand.ledger.recorded, courier.in_flight) == ([], 0)


class SlowLedger(FakeLedger):
    """Hands out claims only after `gate`."""

    gate: asyncio.Event
    asked: asyncio.Event

    async def claim(self, *, at_most: int) -> tuple[Claim, ...]:
        self.asked.set()
        await self.gate.wait()
        return await super().claim(at_most=at_most)


async def test_a_turn_that_is_cancelled_while_it_claims_strands_no_lease() -> None:
    ledger = SlowLedger(claims(1))
    ledger.gate, ledger.asked = asyncio.Event(), asyncio.Event()
    courier = Stand(ledger).courier()
    turn = asyncio.create_task(courier.turn())
    await asyncio.wait_for(ledger.asked.wait(), 5)
    turn.cancel()
    ledger.gate.set()
    await courier.stop(grace_s=5)
    assert [result.verdict.state for result in ledger.recorded] == [State.DELIVERED]
