"""The command line for parked messages against a real database."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from shared import inbox, parked
from shared.database import Database
from shared.inbox import Delivery, Failure
from tests.conftest import Installation


@pytest.fixture
async def database(installation: Installation) -> AsyncIterator[Database]:
    database = Database(installation.database_url("analyzer"), schema="analyzer")
    yield database
    await database.close()


async def park(database: Database, event_name: str) -> UUID:
    delivery = Delivery(
        event_id=uuid4(),
        event_name=event_name,
        day=datetime.now(UTC).date(),
        lane="live",
        organization_id="org_1",
        stream_id="str_0123456789ab",
        payload="{}",
        traceparent=None,
    )
    failure = Failure(attempt=5, code="provider_unavailable", reason="quota is used up")
    async with database.transaction() as session:
        await inbox.park(await session.connection(), delivery, failure)
    return delivery.event_id


async def due(database: Database) -> list[UUID]:
    async with database.transaction() as session:
        return [found.event_id for found in await inbox.take_due(await session.connection(), limit=10)]


async def test_what_is_parked_is_listed_with_its_reason(database: Database) -> None:
    event_id = await park(database, "segment.ready")

    (line,) = await parked.run("list", database=database)

    what = f"segment.ready {event_id} str_0123456789ab after 5: provider_unavailable: quota is used up"
    assert what == line.partition(" ")[2]


async def test_redriving_one_event_makes_only_its_messages_due(database: Database) -> None:
    wanted = await park(database, "segment.ready")
    await park(database, "stream.closed")

    lines = await parked.run("redrive", database=database, event_name="segment.ready")

    assert ("1 message(s) are due again",) == lines
    assert [wanted] == await due(database)
    assert ["stream.closed"] == [line.split()[1] for line in await parked.run("list", database=database)]


def test_an_unknown_service_is_refused_with_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parked.main(["list", "nobody"])

    assert 2 == caught.value.code
    assert "invalid choice: 'nobody'" in capsys.readouterr().err
