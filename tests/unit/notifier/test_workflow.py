"""One attempt from claim to result, without a network and without a database."""

from datetime import UTC, datetime

import pytest

from notifier.domain.delivery import Answer, NoAnswer, State
from notifier.workflow import Deliveries
from shared import trace
from tests.fakes.notifier.claims import KEYRING, SECRET, URL, claim, endpoint, sealed
from tests.fakes.notifier.ledger import FakeLedger
from tests.fakes.notifier.webhook_client import FakeWebhookClient

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def deliveries(sender: FakeWebhookClient) -> Deliveries:
    return Deliveries(
        ledger=FakeLedger(), sender=sender, secrets=KEYRING, clock=lambda: NOW, spread=lambda: 0.5
    )


async def test_the_stored_characters_are_the_bytes_that_are_sent() -> None:
    sender = FakeWebhookClient([Answer(200, text="thanks")])
    result = await deliveries(sender).attempt(claim())
    assert [(one.url, one.body) for one in sender.sent] == [(URL, claim().body.encode())]
    assert result.verdict.state is State.DELIVERED
    assert result.attempt is not None
    assert (result.attempt.at, result.attempt.status, result.attempt.text) == (NOW, 200, "thanks")


async def test_the_trace_goes_on_into_the_webhook() -> None:
    trace.configure()
    sender = FakeWebhookClient()
    await deliveries(sender).attempt(claim(traceparent=TRACEPARENT))
    assert sender.sent[0].headers["traceparent"].split("-")[1] == TRACEPARENT.split("-")[1]


async def test_an_endpoint_that_is_off_is_not_called() -> None:
    sender = FakeWebhookClient()
    result = await deliveries(sender).attempt(claim(endpoint=endpoint(refusal="switched off")))
    assert sender.sent == []
    assert (result.verdict.state, result.attempt) == (State.DISABLED, None)


@pytest.mark.parametrize(
    "broken",
    [
        endpoint(sealed_secrets=("not a token",)),
        endpoint(sealed_url=sealed(URL, endpoint_id="whk_another")),
        endpoint(sealed_secrets=()),
        endpoint(sealed_secrets=(sealed(SECRET), sealed("whsec_!"))),
    ],
)
async def test_what_cannot_be_read_fails_with_its_reason_and_is_not_sent(broken: object) -> None:
    sender = FakeWebhookClient()
    result = await deliveries(sender).attempt(claim(endpoint=broken))
    assert sender.sent == []
    assert result.verdict.state is State.FAILED
    assert result.verdict.code in {"secret_unreadable", "secret_malformed"}


async def test_silence_of_the_wire_becomes_a_retry() -> None:
    sender = FakeWebhookClient([NoAnswer("connect_failed", "refused", permanent=False)])
    result = await deliveries(sender).attempt(claim())
    assert (result.verdict.state, result.verdict.delay_s, result.attempts) == (State.PENDING, 5.0, 1)


async def test_a_bug_counts_as_an_attempt_that_failed() -> None:
    result = deliveries(FakeWebhookClient()).broken(claim(), ValueError("a bug"))
    assert (result.verdict.state, result.verdict.code) == (State.PENDING, "unexpected_error")
    assert result.attempts == 1
