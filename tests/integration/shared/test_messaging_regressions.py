"""Faults of messaging that were found once and must not come back: lost, doubled, stuck or miscounted messages."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from urllib.parse import parse_qs, urlsplit, urlunsplit
from uuid import uuid4

import aio_pika
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from shared import inbox, outbox, runtime, topology
from shared.broker import BrokerUnavailable, consume_broker, publish_broker
from shared.contract import queue_name
from shared.database import Database, DatabaseUnavailable
from shared.errors import PipelineError
from shared.events import Event, HighlightConfirmed, Lane
from shared.foundation import foundation
from shared.inbox import Delivery
from shared.loops import Loop, Sweeper
from shared.middleware import Middleware, Subscription, UnitOfWork, delivery_of
from shared.outbox import Outbox
from shared.runtime import Application, LoopHealth, Running, Supervisor, running
from tests.builders import highlight_confirmed
from tests.conftest import PASSWORD, Installation
from tests.integration.shared.test_messaging import (
    OUT,
    STATES,
    Clipper,
    clip_failed,
    clipper_service,
    rows,
    send,
    until,
)
from tests.integration.shared.test_runtime import selector, settings, until_ready

StateHandler = Callable[[Event, UnitOfWork], Awaitable[None]]


def delivery(**changes: object) -> Delivery:
    body = highlight_confirmed(**changes).model_dump_json().encode()
    return delivery_of(HighlightConfirmed, body, lane=Lane.LIVE, traceparent=None)


@asynccontextmanager
async def clippers_database(installation: Installation) -> AsyncIterator[Database]:
    database = Database(installation.database_url("clipper"), schema="clipper")
    try:
        yield database
    finally:
        await database.close()


def middleware(database: Database, *, box: Outbox | None = None) -> Middleware:
    return Middleware(
        service="clipper", database=database, outbox=box or Outbox("clipper"), work_concurrency=2
    )


async def fails(_event: Event, _unit: UnitOfWork) -> None:
    raise ValueError("a bug")


# -- counting ----------------------------------------------------------------------------------------


async def test_copies_of_a_message_that_fail_together_count_as_one_attempt(
    installation: Installation,
) -> None:
    async with clippers_database(installation) as database:
        subject, subscription = middleware(database), Subscription(HighlightConfirmed, state=fails)
        await asyncio.gather(*(subject.handle(subscription, delivery()) for _ in range(5)))
    assert [("retry", 1)] == [tuple(row) for row in await rows(installation, STATES)]


async def test_two_sweepers_that_run_the_same_retry_count_it_once(installation: Installation) -> None:
    async with clippers_database(installation) as database:
        subject, subscription = middleware(database), Subscription(HighlightConfirmed, state=fails)
        await subject.handle(subscription, delivery())
        for expected in (2, 3):
            await rows(installation, "UPDATE clipper.inbox SET due_at = now() RETURNING 1")
            await asyncio.gather(*(subject.handle(subscription, delivery()) for _ in range(2)))
            assert [("retry", expected)] == [tuple(row) for row in await rows(installation, STATES)]


# -- what is not an outage -----------------------------------------------------------------------------


async def test_a_broken_constraint_of_a_table_called_connections_is_no_outage(
    installation: Installation,
) -> None:
    await rows(installation, "CREATE TABLE IF NOT EXISTS clipper.connections (id int PRIMARY KEY)")
    await rows(installation, "GRANT ALL ON clipper.connections TO PUBLIC")
    async with clippers_database(installation) as database:
        with pytest.raises(IntegrityError):
            async with database.transaction() as session:
                await (await session.connection()).execute(text("INSERT INTO connections VALUES (1), (1)"))


@pytest.mark.parametrize("error", [TimeoutError("the store is slow"), ConnectionResetError("the store")])
async def test_a_handlers_own_network_error_is_counted_and_not_taken_for_the_database(
    installation: Installation, error: Exception
) -> None:
    async def reads_a_store(_event: Event, _unit: UnitOfWork) -> None:
        raise error

    async with clippers_database(installation) as database:
        subscription = Subscription(HighlightConfirmed, state=reads_a_store)
        await asyncio.wait_for(middleware(database).handle(subscription, delivery()), 10)
    assert [("retry", 1)] == [tuple(row) for row in await rows(installation, STATES)]


async def test_a_statement_that_always_times_out_is_postponed_in_the_end(installation: Installation) -> None:
    async def slow(_event: Event, unit: UnitOfWork) -> None:
        await (await unit.session.connection()).execute(text("SET LOCAL statement_timeout = 20"))
        await (await unit.session.connection()).execute(text("SELECT pg_sleep(5)"))

    async with clippers_database(installation) as database:
        subscription = Subscription(HighlightConfirmed, state=slow)
        await asyncio.wait_for(middleware(database).handle(subscription, delivery()), 10)
    assert [("retry", 0)] == [tuple(row) for row in await rows(installation, STATES)]


async def test_work_that_the_database_refused_is_never_parked(installation: Installation) -> None:
    async def refused(_event: Event) -> list[Event]:
        raise DatabaseUnavailable("no connection became free")

    async with clippers_database(installation) as database:
        subscription = Subscription(HighlightConfirmed, work=refused, give_up=lambda *_: ())
        for _ in range(8):
            await middleware(database).handle(subscription, delivery())
            await rows(installation, "UPDATE clipper.inbox SET due_at = now() RETURNING 1")
    assert [("retry", 0)] == [tuple(row) for row in await rows(installation, STATES)]


async def test_what_an_error_tells_holds_no_values_of_the_statement(installation: Installation) -> None:
    async def breaks(_event: Event, unit: UnitOfWork) -> None:
        await (await unit.session.connection()).execute(
            text("SELECT CAST(:secret AS integer)"), {"secret": "hunter2"}
        )

    async with clippers_database(installation) as database:
        await middleware(database).handle(Subscription(HighlightConfirmed, state=breaks), delivery())
    [row] = await rows(installation, "SELECT reason FROM clipper.inbox")
    assert "[parameters: " not in row["reason"]


async def test_the_owner_learns_of_a_bug_its_kind_and_not_its_words(installation: Installation) -> None:
    async def buggy(_event: Event) -> list[Event]:
        error = ValueError("/srv/secret")
        error.add_note("stage: cut")
        raise error

    def give_up(event: HighlightConfirmed, error: PipelineError) -> list[Event]:
        return [clip_failed(event, f"{error} ({', '.join(error.__notes__)})")]

    async with clippers_database(installation) as database:
        subscription = Subscription(HighlightConfirmed, work=buggy, give_up=give_up)
        for _ in range(5):
            await middleware(database).handle(subscription, delivery())
            await rows(installation, "UPDATE clipper.inbox SET due_at = now() RETURNING 1")
    [told] = await rows(installation, "SELECT body::jsonb ->> 'reason' AS reason FROM clipper.outbox")
    [noted] = await rows(installation, "SELECT reason FROM clipper.inbox")
    assert "ValueError (stage: cut)" == told["reason"]
    assert "ValueError: /srv/secret" == noted["reason"]


async def test_a_refused_login_is_an_outage(installation: Installation) -> None:
    url = installation.database_url("clipper").replace(PASSWORD, "wrong")
    database = Database(url, schema="clipper")
    with pytest.raises(DatabaseUnavailable):
        await database.ping()
    await database.close()


async def test_an_address_may_say_how_much_tls_it_wants(installation: Installation) -> None:
    database = Database(f"{installation.database_url('clipper')}?sslmode=prefer", schema="clipper")
    await database.ping()
    await database.close()


def test_what_an_address_says_on_its_own_stays_beside_our_heartbeat() -> None:
    for broker in (
        consume_broker("amqps://u:p@h/v?cafile=/ca.pem&heartbeat=60", graceful_timeout_s=1),
        publish_broker("amqps://u:p@h/v?cafile=/ca.pem&heartbeat=60"),
    ):
        told = urlsplit(str(broker._connection_kwargs["url"]))
        assert "amqps" == told.scheme
        assert {"cafile": ["/ca.pem"], "heartbeat": ["5"]}.items() <= parse_qs(told.query).items()


# -- stuck rows and lost slots ---------------------------------------------------------------------------


async def test_a_give_up_that_fails_itself_parks_the_row_and_tells(installation: Installation) -> None:
    async def bad(_event: Event) -> list[Event]:
        raise PipelineError("cannot")

    def give_up(_event: Event, _error: PipelineError) -> list[Event]:
        raise KeyError("a bug")

    async with clippers_database(installation) as database:
        subscription = Subscription(HighlightConfirmed, work=bad, give_up=give_up)
        await middleware(database).handle(subscription, delivery())
    assert [("parked", 1)] == [tuple(row) for row in await rows(installation, STATES)]
    assert [("message.parked",)] == [tuple(row) for row in await rows(installation, OUT)]


async def test_names_that_postgresql_refuses_are_parked(installation: Installation) -> None:
    workflow = Clipper()
    workflow.gate.set()
    event = highlight_confirmed(stream_id="str_\x00")
    async with clipper_service(installation, workflow):
        await send(installation, event.model_dump_json().encode())
        await until(installation, "SELECT state FROM clipper.inbox", [("parked",)])


async def test_a_reason_that_postgresql_refuses_is_still_noted(installation: Installation) -> None:
    async def odd(_event: Event, _unit: UnitOfWork) -> None:
        raise ValueError("nul \x00 and \ud800")

    async with clippers_database(installation) as database:
        await middleware(database).handle(Subscription(HighlightConfirmed, state=odd), delivery())
    assert [("retry", 1)] == [tuple(row) for row in await rows(installation, STATES)]


async def test_work_that_never_ends_is_counted_before_the_broker_gives_it_to_another(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hangs(_event: Event) -> list[Event]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr("shared.middleware.WORK_DEADLINE_S", 0.05)
    async with clippers_database(installation) as database:
        subscription = Subscription(HighlightConfirmed, work=hangs, give_up=lambda *_: ())
        await asyncio.wait_for(middleware(database).handle(subscription, delivery()), 5)
    assert [("retry", 1)] == [tuple(row) for row in await rows(installation, STATES)]


async def test_a_cancellation_from_within_the_work_is_an_error_like_any_other(
    installation: Installation,
) -> None:
    async def leaks(_event: Event) -> list[Event]:
        raise asyncio.CancelledError

    async with clippers_database(installation) as database:
        subscription = Subscription(HighlightConfirmed, work=leaks, give_up=lambda *_: ())
        await middleware(database).handle(subscription, delivery())
    assert [("retry", 1)] == [tuple(row) for row in await rows(installation, STATES)]


@dataclass
class Hangs:
    """Stands for the middleware: handles nothing, remembers all."""

    seen: list[Delivery] = field(default_factory=list)

    async def handle(self, _subscription: Subscription, given: Delivery) -> None:
        self.seen.append(given)
        await asyncio.Event().wait()


async def put_due(database: Database, *given: Delivery) -> None:
    failure = inbox.Failure(attempt=1, code="c", reason="r")
    async with database.transaction() as session:
        for each in given:
            await inbox.postpone(await session.connection(), each, failure, delay_s=0)


async def test_the_sweeper_starts_what_is_due_behind_what_runs_and_what_nobody_handles(
    installation: Installation,
) -> None:
    strangers = [replace(delivery(event_id=uuid4()), event_name="clip.from_yesterday") for _ in range(40)]
    hangs = Hangs()
    async with clippers_database(installation) as database:
        sweeper = Sweeper(
            database=database,
            middleware=hangs,  # type: ignore[arg-type]
            subscriptions={HighlightConfirmed.name: Subscription(HighlightConfirmed, state=fails)},
        )
        await put_due(database, *strangers, *(delivery(event_id=uuid4()) for _ in range(20)))
        await sweeper.turn()
        await put_due(database, delivery())
        await sweeper.turn()
        await asyncio.sleep(0)
        await sweeper.stop(grace_s=0)
    assert delivery().event_id == hangs.seen[-1].event_id
    assert 21 == len(hangs.seen)


async def test_a_row_of_a_handler_that_changed_its_shape_is_taken_over(installation: Installation) -> None:
    async def handles(_event: Event, _unit: UnitOfWork) -> None:
        """All is well."""

    async with clippers_database(installation) as database:
        async with database.transaction() as session:
            assert await inbox.claim(await session.connection(), delivery(), lease_s=-1)
        await middleware(database).handle(Subscription(HighlightConfirmed, state=handles), delivery())
    await until(installation, "SELECT state FROM clipper.inbox", [("done",)])


# -- partitions --------------------------------------------------------------------------------------------


async def test_finished_rows_leave_the_default_partition_and_unfinished_stay(
    installation: Installation,
) -> None:
    old = datetime.now(UTC) - timedelta(days=30)
    done, parked = delivery(occurred_at=old, event_id=uuid4()), delivery(occurred_at=old, event_id=uuid4())
    async with clippers_database(installation) as database:
        async with database.transaction() as session:
            connection = await session.connection()
            await inbox.record_done(connection, done)
            await inbox.park(connection, parked, inbox.Failure(1, "c", "r"))
        query = "SELECT state FROM clipper.inbox_rest ORDER BY state"
        await rows(installation, "SELECT clipper.maintain_partitions()")
        await until(installation, query, [("done",), ("parked",)])
        await rows(
            installation, "UPDATE clipper.inbox SET finished_at = now() - interval '9 days' RETURNING 1"
        )
        await rows(installation, "SELECT clipper.maintain_partitions()")
        await until(installation, query, [("parked",)])


async def test_an_old_partition_goes_when_it_is_finished_and_stays_while_something_is_parked(
    installation: Installation,
) -> None:
    for day, state in (("20200101", "done"), ("20200102", "parked"), ("20200103", "retry")):
        await rows(
            installation,
            f"CREATE TABLE clipper.inbox_{day} PARTITION OF clipper.inbox "
            f"FOR VALUES FROM ('{day}') TO (date '{day}' + 1)",
        )
        await rows(installation, f'ALTER TABLE clipper.inbox_{day} OWNER TO "{installation.roles.owner}"')
        await rows(
            installation,
            "INSERT INTO clipper.inbox (event_id, event_name, day, lane, state) "
            f"VALUES (gen_random_uuid(), 'clip.failed', '{day}', 'live', '{state}') RETURNING 1",
        )
    await rows(installation, "SELECT clipper.maintain_partitions()")
    left = "SELECT relname FROM pg_class WHERE relname ~ '^inbox_2020....$' AND relkind = 'r' ORDER BY 1"
    assert ["inbox_20200102", "inbox_20200103"] == [row["relname"] for row in await rows(installation, left)]


# -- relay, epoch, replay ------------------------------------------------------------------------------------


async def test_a_row_that_this_version_does_not_know_holds_up_no_other(installation: Installation) -> None:
    workflow = Clipper()
    workflow.gate.set()
    async with clipper_service(installation, workflow) as service:
        await rows(
            installation,
            "INSERT INTO clipper.outbox (event_id, day, event_name, lane, body) "
            "VALUES (gen_random_uuid(), current_date, 'clip.from_tomorrow', 'live', '{}') RETURNING 1",
        )
        await send(installation, highlight_confirmed().model_dump_json().encode())
        await until(installation, "SELECT count(*) FROM clipper.outbox", [(2,)])
        with pytest.raises(BrokerUnavailable):
            await service.relay.turn()
        await until(
            installation,
            "SELECT event_name FROM clipper.outbox WHERE published_at IS NOT NULL",
            [("clip.failed",)],
        )


async def test_more_refused_rows_than_a_batch_hold_up_no_other(installation: Installation) -> None:
    workflow = Clipper()
    workflow.gate.set()
    async with clipper_service(installation, workflow) as service:
        await rows(
            installation,
            "INSERT INTO clipper.outbox (event_id, day, event_name, lane, body) "
            "SELECT gen_random_uuid(), current_date, 'clip.from_tomorrow', 'live', '{}' "
            "FROM generate_series(1, 120) RETURNING 1",
        )
        await send(installation, highlight_confirmed().model_dump_json().encode())
        await until(installation, "SELECT count(*) FROM clipper.outbox", [(121,)])
        assert await service.relay.turn()
        assert await service.relay.turn()
        with pytest.raises(BrokerUnavailable):
            await service.relay.turn()
        await until(
            installation,
            "SELECT event_name FROM clipper.outbox WHERE published_at IS NOT NULL",
            [("clip.failed",)],
        )


async def test_a_replay_may_take_longer_than_a_statement(installation: Installation) -> None:
    async with clippers_database(installation) as database, database.transaction() as session:
        connection = await session.connection()
        await rows(
            installation,
            "INSERT INTO clipper.outbox (event_id, day, event_name, lane, body, published_at) "
            "SELECT gen_random_uuid(), current_date, 'clip.failed', 'live', '{}', now() "
            "FROM generate_series(1, 20000) RETURNING 1",
        )
        await connection.execute(text("SET LOCAL statement_timeout = 20"))
        assert 20_000 == await outbox.schedule_replay(connection)


@pytest.mark.faults
async def test_a_broken_connection_makes_the_relay_look_for_the_marker_again(
    installation: Installation,
) -> None:
    async with selector(installation) as started:
        await until_ready(started)
        base = started.application.foundation
        await rows(installation, "UPDATE selector.broker_epoch SET epoch = 'lost' RETURNING 1")
        assert base.epoch.known
        cut = await base.publishing.connect()
        assert isinstance(cut, aio_pika.RobustConnection)
        assert cut.transport is not None
        await cut.transport.connection.close(ConnectionResetError("cut"))
        await until(installation, "SELECT epoch <> 'lost' FROM selector.broker_epoch", [(True,)])


# -- loops -----------------------------------------------------------------------------------------------------


async def test_a_cancellation_that_nobody_asked_for_does_not_end_a_loop() -> None:
    turns: list[int] = []

    async def turn() -> bool:
        turns.append(1)
        if len(turns) == 1:
            raise asyncio.CancelledError
        await asyncio.Event().wait()
        return False

    task = asyncio.create_task(Supervisor("selector").run(Loop("odd", turn, pause_s=0.0)))
    await asyncio.wait([task], timeout=2)
    assert 2 == len(turns)
    task.cancel()
    await asyncio.wait([task], timeout=2)
    assert task.cancelled()


# -- begin and end of a service --------------------------------------------------------------------------------------


@dataclass
class Road:
    """The way to a server, which may be blocked (nothing passes, nothing ends) or cut."""

    port: int
    url: str
    open: asyncio.Event = field(default_factory=asyncio.Event)
    server: asyncio.Server | None = None
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parts = urlsplit(self.url)
        far_reader, far_writer = await asyncio.open_connection(parts.hostname, parts.port)
        self.writers += [writer, far_writer]
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(65536):
                await self.open.wait()
                writer.write(chunk)
        writer.close()

    def cut(self) -> None:
        assert self.server is not None
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()


@asynccontextmanager
async def road_to(url: str) -> AsyncIterator[Road]:
    road = Road(0, url)
    road.server = await asyncio.start_server(road.carry, "127.0.0.1", 0)
    road.port = road.server.sockets[0].getsockname()[1]
    road.open.set()
    try:
        yield road
    finally:
        road.open.set()
        road.cut()


def over(road: Road) -> str:
    parts = urlsplit(road.url)
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{road.port}"))


@asynccontextmanager
async def clipper(installation: Installation, workflow: Clipper, **changes: str) -> AsyncIterator[Running]:
    """A whole clipper, but for its workflow."""
    told = {"graceful_timeout_s": "0.5", "database_url": installation.database_url("clipper")} | changes
    async with foundation("clipper", settings(installation, **told)) as base:
        base.consumer.work(HighlightConfirmed, workflow.cut, give_up=workflow.give_up)
        application = Application(foundation=base, ops_host="127.0.0.1", ops_port=0)
        async with running(application) as started:
            await until_ready(started)
            yield started


RELEASED = "SELECT state, attempt, lease_until <= now() FROM clipper.inbox"


async def test_a_job_that_is_cut_short_by_the_end_is_given_back_and_not_begun_again(
    installation: Installation,
) -> None:
    workflow = Clipper()
    async with clipper(installation, workflow):
        await send(installation, highlight_confirmed().model_dump_json().encode())
        await until(installation, STATES, [("received", 1)])
    assert [("received", 0, True)] == [tuple(row) for row in await rows(installation, RELEASED)]
    assert 1 == len(workflow.seen)


async def test_jobs_of_sweeper_and_consumer_share_one_grace_and_none_is_begun_again(
    installation: Installation,
) -> None:
    workflow = Clipper()
    async with clippers_database(installation) as database:
        await put_due(database, delivery(event_id=uuid4()))
    async with clipper(installation, workflow, graceful_timeout_s="2"):
        await send(installation, highlight_confirmed().model_dump_json().encode())
        await until(installation, f"{STATES} ORDER BY attempt", [("received", 1), ("received", 2)])
        began = monotonic()
    took_s = monotonic() - began
    expected = [("received", 0, True), ("received", 1, True)]
    assert expected == [tuple(row) for row in await rows(installation, f"{RELEASED} ORDER BY attempt")]
    assert 2 == len(workflow.seen)
    assert took_s < 3.5


@pytest.mark.faults
@pytest.mark.parametrize("fault", ["cut", "blocked"])
async def test_a_service_ends_in_time_and_gives_its_jobs_back_while_the_broker_is_away(
    installation: Installation, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "LEAVE_S", 1.0)
    workflow = Clipper()
    async with road_to(installation.rabbitmq_url) as road:
        async with clipper(installation, workflow, rabbitmq_url=over(road)) as _:
            await send(installation, highlight_confirmed().model_dump_json().encode())
            await until(installation, STATES, [("received", 1)])
            if fault == "cut":
                road.cut()
            else:
                road.open.clear()
            began = monotonic()
        took_s = monotonic() - began
    assert [("received", 0, True)] == [tuple(row) for row in await rows(installation, RELEASED)]
    assert took_s < 10


async def test_a_start_that_fails_half_way_does_not_add_consumers_at_each_try(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = (queue_name("clipper", HighlightConfirmed.name, lane) for lane in (Lane.LIVE, Lane.VOD))
    told = settings(installation, database_url=installation.database_url("clipper"))
    tries: list[int] = []
    async with await aio_pika.connect(installation.rabbitmq_url) as connection:
        channel = await connection.channel()
        await channel.queue_delete(bad)
        await channel.declare_queue(bad, durable=True)
        async with foundation("clipper", told) as base:
            workflow, start = Clipper(), base.consuming.start

            async def counted() -> None:
                tries.append(1)
                await start()

            monkeypatch.setattr(base.consuming, "start", counted)
            base.consumer.work(HighlightConfirmed, workflow.cut, give_up=workflow.give_up)
            async with running(Application(foundation=base, ops_host="127.0.0.1", ops_port=0)):
                async with asyncio.timeout(20):
                    while len(tries) < 4:
                        await asyncio.sleep(0.05)
                consumers = (
                    await channel.declare_queue(good, passive=True)
                ).declaration_result.consumer_count
        await channel.queue_delete(bad)
        await topology.declare(channel)
    assert consumers in (0, 1)


def test_a_loop_that_pauses_for_a_minute_is_not_silent_while_it_turns() -> None:
    assert LoopHealth(succeeded_at=100.0, pause_s=60.0).fault(161.0) is None
    assert LoopHealth(succeeded_at=100.0, pause_s=60.0).fault(221.0) is not None
