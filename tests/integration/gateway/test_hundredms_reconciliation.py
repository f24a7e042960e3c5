"""100ms' API against a double: lost webhooks are made good, and both ways of learning make one stream."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import pytest

from gateway.adapters.hundredms_api import NothingThere
from gateway.app import hundredms_work, outbound_client
from gateway.workflow.hundredms_reconciliation import Reconciler
from gateway.workflow.hundredms_recordings import SIGN_ATTEMPTS, Recordings
from sandbox.hundredms import Beam, Payload, build_payload
from sandbox.hundredms_api import Asset, Fault, HundredmsApi
from shared.database import Database
from tests.integration.gateway.api_client import Customer, GatewayApp, running_api

KEY, SECRET = "access-key-of-a-workspace", "app-secret-of-a-workspace"
START, STOP = "hls.started.success", "hls.stopped.success"
PATH = "/v1/connections/100ms"


@dataclass
class World:
    """A gateway without its loops, beside 100ms' API; tests take the turns."""

    app: GatewayApp
    api: HundredmsApi
    reconciler: Reconciler
    recordings: Recordings
    customer: Customer
    connection: dict[str, Any]

    async def send(self, kind: str, beam: Beam, **changes: Any) -> Payload:
        payload = build_payload(kind, beam=beam, at=datetime.now(UTC), changes=changes)
        headers = {self.connection["secret_header"]: self.connection["secret"]}
        answer = await self.app.client.post(
            self.connection["webhook_path"], content=json.dumps(payload).encode(), headers=headers
        )
        assert answer.status_code == 200, answer.text
        return payload

    async def check(self, times: int = 1) -> None:
        for _ in range(times):
            await self._due("UPDATE hundredms_connections SET api_due_at = now()")
            await self.reconciler.turn()

    async def look(self) -> None:
        await self._due("UPDATE hundredms_recordings SET due_at = now() WHERE due_at IS NOT NULL")
        await self.recordings.turn()

    async def _due(self, statement: str) -> None:
        async with self.app.database.transaction(self.customer.organization_id) as session:  # type: ignore[arg-type]
            await (await session.connection()).exec_driver_sql(statement)

    async def rows(self, statement: str) -> list[dict[str, Any]]:
        return await self.app.rows(statement, self.customer)

    async def streams(self) -> list[dict[str, Any]]:
        return await self.rows("SELECT * FROM streams ORDER BY created_at")

    async def shown(self) -> dict[str, Any]:
        answer = await self.app.client.get(f"{PATH}/{self.connection['id']}", headers=self.customer.headers)
        found: dict[str, Any] = answer.json()
        return found

    async def give_credentials(self, secret: str = SECRET, *, key: str = KEY) -> Any:
        body = {"access_key": key, "app_secret": secret}
        path = f"{PATH}/{self.connection['id']}/api-credentials"
        return await self.app.client.put(path, json=body, headers=self.customer.headers)

    async def age(self, *, by_s: float) -> None:
        """Let our streams be older than a list that could lack them."""
        await self._due(
            f"UPDATE hundredms_streams SET created_at = created_at - make_interval(secs => {by_s})"
        )


@asynccontextmanager
async def world(database: Database, folder: Path) -> AsyncIterator[World]:
    async with HundredmsApi(access_key=KEY, app_secret=SECRET) as api:
        changes = {"outbound_allow": urlsplit(api.url).netloc, "hundredms_api_url": api.url}
        async with (
            running_api(database.url, folder, **changes) as app,
            outbound_client(app.settings) as http,
        ):
            reconciler, recordings = hundredms_work(app.base, app.settings, http)
            customer = await app.register()
            connection = await app.connect(customer, options={"sensitivity": "high"})
            made = World(app, api, reconciler, recordings, customer, connection)
            assert (await made.give_credentials()).status_code == 200
            yield made


@pytest.fixture
async def made(gateway_database: Database, tmp_path: Path) -> AsyncIterator[World]:
    async with world(gateway_database, tmp_path) as found:
        yield found


def beam(number: int = 1, *, room: str = "room", fixed: bool = False, started_s: float = -30) -> Beam:
    """A beam of a dated address, or of the one address that a room has for all its streams."""
    dated = "" if fixed else f"/20260101/{1767268800000 + number}"
    return Beam(
        stream_url=f"https://cdn.100ms.live/beam/customer/{room}{dated}/master.m3u8",
        started_at=datetime.now(UTC) + timedelta(seconds=started_s),
        room_id=room,
        session_id="session",
        beam_id=f"beam-{number}",
    )


# -- both directions ---------------------------------------------------------------------------------------


async def test_a_stream_whose_start_was_lost_is_started_with_the_connections_options(made: World) -> None:
    live = made.api.go_live(beam())

    await made.check()

    [stream] = await made.streams()
    [event] = await made.app.emitted("stream.online")
    assert ("100ms", "pending", f"live:{live.id}") == (
        stream["platform"],
        stream["status"],
        stream["external_id"],
    )
    assert {"room_id": "room", "session_id": "session"} == stream["metadata"]
    assert "high" == stream["options"]["sensitivity"]
    assert live.started_at == datetime.fromisoformat(event["started_at"])


async def test_a_stream_whose_stop_was_lost_is_stopped_at_the_second_absence(made: World) -> None:
    await made.send(START, beam())
    live = made.api.go_live(beam())
    await made.check()
    await made.age(by_s=60)
    made.api.end(live)

    await made.check()
    assert [] == await made.app.emitted("stream.offline")
    await made.check()

    [offline] = await made.app.emitted("stream.offline")
    assert "100ms: not running any more" == offline["reason"]
    [stream] = await made.streams()
    assert stream["stop_requested_at"] is not None


async def test_a_failure_that_only_the_api_tells_is_a_failure_of_the_stream(made: World) -> None:
    live = made.api.go_live(beam())
    await made.check()
    await made.age(by_s=60)
    made.api.end(live, status="failed")

    await made.check(times=2)

    [stream] = await made.streams()
    assert (True, "failure: told by the API") == (stream["source_failed"], stream["source_end"])


async def test_a_stream_that_is_only_missing_from_the_list_runs_on(made: World) -> None:
    live = made.api.go_live(beam())
    await made.check()
    await made.age(by_s=60)
    made.api.live[live.id] = live.__class__(**{**live.__dict__, "status": "starting"})

    await made.check(times=3)

    assert [] == await made.app.emitted("stream.offline")


async def test_a_stream_that_the_api_never_knew_is_left_alone(made: World) -> None:
    """The credentials may be those of another workspace."""
    await made.send(START, beam())
    await made.age(by_s=60)

    await made.check(times=3)

    assert [] == await made.app.emitted("stream.offline")


async def test_a_stream_of_which_the_api_knows_nothing_any_more_runs_on(made: World) -> None:
    """New credentials of another workspace, or an index that was lost, are no end of what is live."""
    live = made.api.go_live(beam())
    await made.check()
    await made.age(by_s=60)
    del made.api.live[live.id]

    await made.check(times=4)

    assert [] == await made.app.emitted("stream.offline")


async def test_a_question_that_fails_costs_the_other_streams_nothing(
    made: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made.send(START, beam(1))
    await made.age(by_s=60)
    await made.check()
    made.api.go_live(beam(2, room="another"))

    async def failed(*_: object, **__: object) -> NoReturn:
        raise NothingThere("100ms answered 404")

    monkeypatch.setattr(made.reconciler._api, "of_session", failed)
    await made.check()

    assert 2 == len(await made.streams())
    assert (await made.shown())["api_error"] is None


# -- several connections of one workspace ------------------------------------------------------------------


async def test_the_api_of_one_connection_doubles_no_stream_of_another(made: World) -> None:
    """Each kind of room may have a connection of its own; the API lists the whole workspace."""
    other = replace(made, connection=await made.app.connect(made.customer, name="other"))
    made.api.go_live(beam())
    await other.send(START, beam())

    await made.check(times=2)

    assert 1 == len(await made.streams())


async def test_webhooks_of_one_connection_join_the_stream_that_the_api_of_another_started(
    made: World,
) -> None:
    other = replace(made, connection=await made.app.connect(made.customer, name="other"))
    made.api.go_live(beam())
    await made.check()

    await other.send(START, beam())
    await other.send(STOP, beam())

    [stream] = await made.streams()
    assert stream["stop_requested_at"] is not None


# -- one stream, whoever tells of it -----------------------------------------------------------------------


async def test_a_late_start_joins_the_stream_that_the_api_started(made: World) -> None:
    made.api.go_live(beam())
    await made.check()

    await made.send(START, beam())
    await made.send(STOP, beam(), reason="room ended")

    assert 1 == len(await made.streams())
    [offline] = await made.app.emitted("stream.offline")
    assert "100ms: room ended" == offline["reason"]
    notes = await made.rows("SELECT note FROM hundredms_events ORDER BY received_at")
    assert ["joined", "stopped"] == [row["note"].partition(":")[0] for row in notes]


async def test_a_stop_whose_start_was_lost_stops_the_stream_that_the_api_started(made: World) -> None:
    made.api.go_live(beam())
    await made.check()

    await made.send(STOP, beam())
    await made.send(START, beam())

    [stream] = await made.streams()
    assert stream["stop_requested_at"] is not None
    assert "client request" == stream["source_end"]


async def test_a_stop_before_any_start_keeps_a_stale_list_from_starting_it(made: World) -> None:
    made.api.go_live(beam())
    await made.send(STOP, beam())

    await made.check(times=2)

    assert [] == await made.streams()


async def test_webhooks_and_lists_at_the_same_moment_make_one_stream_each(made: World) -> None:
    beams = [beam(number, room=f"room-{number}") for number in range(6)]
    for one in beams:
        made.api.go_live(one)

    await asyncio.gather(made.check(), *(made.send(START, one) for one in beams), made.check())
    await made.check()

    streams = await made.streams()
    assert 6 == len(streams) == len(await made.app.emitted("stream.online"))
    told = await made.rows("SELECT beam_id, live_id FROM hundredms_streams")
    assert all(row["beam_id"] and row["live_id"] for row in told)


@pytest.mark.parametrize("fixed", [False, True])
async def test_the_second_stream_of_a_session_is_one_of_its_own_while_the_first_drains(
    made: World, fixed: bool
) -> None:
    first, second = beam(1, fixed=fixed, started_s=-300), beam(2, fixed=fixed, started_s=0)
    live = made.api.go_live(first)
    await made.send(START, first)
    await made.check()
    await made.send(STOP, first, stopped_at=(second.started_at - timedelta(seconds=5)).isoformat())
    made.api.end(live)
    made.api.go_live(second)

    await made.check()
    await made.send(START, second)

    streams = await made.streams()
    assert 2 == len(streams)
    assert [True, False] == [row["stop_requested_at"] is not None for row in streams]


async def test_many_pages_are_read_to_the_end(gateway_database: Database, tmp_path: Path) -> None:
    async with world(gateway_database, tmp_path) as made:
        made.api._page = 3
        for number in range(10):
            made.api.go_live(beam(number, room=f"room-{number}"))

        await made.check()

        assert 10 == len(await made.streams())


# -- the API's faults --------------------------------------------------------------------------------------


async def test_a_refused_token_is_made_anew_once(made: World) -> None:
    made.api.go_live(beam())
    made.api.faults.append(Fault(status=401))

    await made.check()

    assert 1 == len(await made.streams())
    assert (await made.shown())["api_error"] is None


@pytest.mark.parametrize(
    ("faults", "words", "least_wait_s"),
    [
        ([Fault(status=401), Fault(status=401)], "check access key and app secret", 299),
        ([Fault(status=429)], "429", 44),
        ([Fault(status=500)], "500", 39),
        ([Fault(status=200, body=b"<html>")], "not JSON", 39),
        ([Fault(status=200, body=b'{"data": 1}')], "no `data`", 39),
    ],
)
async def test_a_fault_ends_nothing_is_shown_and_slows_the_pace(
    made: World, faults: list[Fault], words: str, least_wait_s: float
) -> None:
    live = made.api.go_live(beam())
    await made.check()
    await made.age(by_s=60)
    made.api.end(live)
    made.api.faults.extend(faults)

    await made.check()

    assert words in (await made.shown())["api_error"]
    [row] = await made.rows(
        "SELECT EXTRACT(EPOCH FROM api_due_at - now()) AS wait_s, api_failures FROM hundredms_connections"
    )
    assert (1, True) == (row["api_failures"], row["wait_s"] >= least_wait_s)
    [told] = await made.rows("SELECT absences FROM hundredms_streams")
    assert 0 == told["absences"]


async def test_the_first_answer_after_a_fault_clears_it(made: World) -> None:
    made.api.faults.append(Fault(status=500))
    await made.check(times=2)

    shown = await made.shown()
    assert shown["api_error"] is None
    assert shown["api_checked_at"] is not None


async def test_one_of_many_replicas_asks_for_a_connection(made: World) -> None:
    made.api.requests.clear()
    await made.check()
    await asyncio.gather(*(made.reconciler.turn() for _ in range(5)))
    assert 1 == len(made.api.requests)


# -- credentials -------------------------------------------------------------------------------------------


async def test_credentials_are_sealed_and_never_shown(made: World) -> None:
    answer = await made.give_credentials()
    [row] = await made.rows("SELECT * FROM hundredms_connections")
    assert answer.json()["has_api_credentials"] is True
    assert SECRET not in answer.text + str(row)
    assert KEY not in answer.text + str(row)


async def test_new_credentials_are_used_at_once_and_without_them_nobody_asks(made: World) -> None:
    made.api._app_secret = "another-secret-of-it"
    await made.check()
    assert "check access key" in (await made.shown())["api_error"]

    shown = (await made.give_credentials("another-secret-of-it")).json()
    assert shown["api_error"] is None
    await made.check()
    assert (await made.shown())["api_checked_at"] is not None

    path = f"{PATH}/{made.connection['id']}/api-credentials"
    answer = await made.app.client.delete(path, headers=made.customer.headers)
    made.api.requests.clear()
    await made.check()
    assert (200, False) == (answer.status_code, answer.json()["has_api_credentials"])
    assert [] == made.api.requests


async def test_credentials_belong_to_the_connections_owner_and_must_be_readable(made: World) -> None:
    other = await made.app.register("other")
    path = f"{PATH}/{made.connection['id']}/api-credentials"
    body = {"access_key": KEY, "app_secret": SECRET}
    assert 404 == (await made.app.client.put(path, json=body, headers=other.headers)).status_code
    assert 422 == (await made.give_credentials("with a space in it")).status_code


async def test_a_deleted_connection_is_not_asked_for(made: World) -> None:
    path = f"{PATH}/{made.connection['id']}"
    assert 200 == (await made.app.client.delete(path, headers=made.customer.headers)).status_code
    made.api.requests.clear()
    await made.check()
    assert [] == made.api.requests


# -- recordings --------------------------------------------------------------------------------------------

CHAT = (
    "SenderPeerID,SenderName,SenderUserID,Roles,SentAt,Type,Message\r\n"
    'p1,Ann,u1,guest,2026-01-01T12:00:01.5Z,chat,"what, a goal"\r\n'
    "p2,Bob,u2,guest,2026-01-01T12:00:02Z,chat,wow\r\n"
    "p1,Ann,u1,guest,not a time,chat,lost\r\n"
)


def recorded(made: World, one: Beam, **changes: Any) -> dict[str, Any]:
    """The keys of a recording webhook, over files that the double serves."""
    files = [made.api.record(one, body) for body in (b"small", b"large")]
    chat = made.api.record(one, CHAT.encode(), kind="chat")
    return {
        "recording_single_files": [_layer(made, "1", files[0]), _layer(made, "0", files[1])],
        "chat_recording_presigned_url": made.api.address(chat),
        **changes,
    }


def _layer(made: World, layer: str, asset: Asset) -> dict[str, Any]:
    return {"layer": layer, "asset_id": asset.id, "recording_presigned_url": made.api.address(asset)}


async def _finish(made: World) -> None:
    await made._due("UPDATE streams SET status = 'completed', completed_at = now()")


async def test_a_recording_is_offered_when_its_stream_has_ended_signed_anew(made: World) -> None:
    await made.send(START, beam())
    await made.send("hls.recording.success", beam(), **recorded(made, beam()))
    await made.look()
    assert [] == await made.app.emitted("recording.available")

    await _finish(made)
    await made.look()
    await made.look()

    [event] = await made.app.emitted("recording.available")
    url = made.app.keyring.decrypt(event["sealed_url"], context=f"stream:{event['stream_id']}")
    large = next(one for one in made.api.assets.values() if one.body == b"large")
    assert made.api.address(large) == url
    assert event["expires_at"] is not None
    assert 30 == pytest.approx(event["duration_us"] / 1e6, abs=5)
    assert beam().beam_id not in str(event)


async def test_without_credentials_the_address_of_the_webhook_is_offered(made: World) -> None:
    path = f"{PATH}/{made.connection['id']}/api-credentials"
    await made.app.client.delete(path, headers=made.customer.headers)
    await made.send(START, beam())
    await made.send("hls.recording.success", beam(), **recorded(made, beam()))
    await _finish(made)

    await made.look()

    [event] = await made.app.emitted("recording.available")
    assert event["expires_at"] is None
    assert not [one for one in made.api.requests if "presigned-url" in one]


async def test_the_address_of_the_webhook_is_offered_where_the_api_goes_on_failing(made: World) -> None:
    await made.send(START, beam())
    details = recorded(made, beam())
    await made.send("hls.recording.success", beam(), **details)
    await _finish(made)
    await made._due(f"UPDATE hundredms_recordings SET attempts = {SIGN_ATTEMPTS - 1}")
    made.api.faults.extend([Fault(status=500)] * 2)

    await made.look()
    assert [] == await made.app.emitted("recording.available")
    await made.look()

    [event] = await made.app.emitted("recording.available")
    assert event["expires_at"] is None


async def test_a_slow_recording_does_not_use_up_the_lease_of_the_next(
    made: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        await made.send(START, beam(number, room=f"room-{number}"))
        await made.send("hls.recording.success", beam(number), **recorded(made, beam(number)))
    both = asyncio.Barrier(2)

    async def fetch(_: str) -> bytes:
        async with asyncio.timeout(10):
            await both.wait()
        return CHAT.encode()

    monkeypatch.setattr(made.recordings._chats, "fetch", fetch)
    await made.look()

    assert 4 == len(await made.app.emitted("signal.received"))


async def test_a_recording_before_its_start_waits_and_a_repeated_one_changes_nothing(made: World) -> None:
    details = recorded(made, beam(), recording_id="recording-1")
    await made.send("hls.recording.success", beam(), **details)
    await made.look()
    await made.send(START, beam())
    await _finish(made)
    await made.send("hls.recording.success", beam(), **details)
    await made.look()

    assert 1 == len(await made.app.emitted("recording.available"))
    [row] = await made.rows("SELECT * FROM hundredms_recordings")
    assert (None, "offered") == (row["due_at"], row["note"])


async def test_a_recording_of_a_stream_that_only_the_api_told_of_finds_it(made: World) -> None:
    made.api.go_live(beam())
    await made.check()
    await _finish(made)
    await made.send("hls.recording.success", beam(), **recorded(made, beam()))

    await made.look()

    [stream] = await made.streams()
    [event] = await made.app.emitted("recording.available")
    assert stream["stream_id"] == event["stream_id"]


async def test_without_an_mp4_nothing_is_offered_and_that_is_noted(made: World) -> None:
    await made.send(START, beam())
    zipped = {"hls_vod_recording_presigned_url": "https://files.example.com/vod.zip?signature=1"}
    await made.send(
        "hls.recording.success", beam(), **recorded(made, beam(), recording_single_files=[], **zipped)
    )
    await _finish(made)

    await made.look()

    assert [] == await made.app.emitted("recording.available")
    [row] = await made.rows("SELECT * FROM hundredms_recordings")
    assert row["note"].startswith("nothing to repair from")
    assert row["due_at"] is None


async def test_the_chat_becomes_signals_with_pseudonyms_once(made: World) -> None:
    await made.send(START, beam())
    for number in (1, 2):
        details = recorded(made, beam(), recording_id=f"recording-{number}")
        await made.send("hls.recording.success", beam(), **details)
    await made.look()

    signals = await made.app.emitted("signal.received")
    assert ["what, a goal", "wow"] == [each["text"] for each in signals]
    assert {"chat"} == {each["kind"] for each in signals}
    assert "2026-01-01T12:00:01.500000Z" == signals[0]["wall_at"]
    assert signals[0]["author"] != signals[1]["author"]
    assert not [each for each in signals if "Ann" in str(each) or "p1" in each["author"]]


async def test_a_chat_that_nobody_wants_is_not_fetched(gateway_database: Database, tmp_path: Path) -> None:
    async with world(gateway_database, tmp_path) as made:
        body = {"options": {"include_chat": False}}
        path = f"{PATH}/{made.connection['id']}"
        await made.app.client.patch(path, json=body, headers=made.customer.headers)
        await made.send(START, beam())
        await made.send("hls.recording.success", beam(), **recorded(made, beam()))
        await made.look()
        assert [] == await made.app.emitted("signal.received")
        assert not [one for one in made.api.requests if "/files/" in one]


@pytest.mark.parametrize(
    "address",
    [
        lambda made: "http://127.0.0.1:1/chat.csv",
        lambda made: made.api.address(made.api.record(beam(), b"no,columns\r\n", kind="chat")),
    ],
)
async def test_a_chat_that_cannot_be_read_is_noted_and_the_file_is_offered_all_the_same(
    made: World, address: Callable[[World], str]
) -> None:
    await made.send(START, beam())
    details = recorded(made, beam(), chat_recording_presigned_url=address(made))
    await made.send("hls.recording.success", beam(), **details)
    await _finish(made)

    await made.look()

    assert 1 == len(await made.app.emitted("recording.available"))
    [row] = await made.rows("SELECT * FROM hundredms_recordings")
    assert row["due_at"] is None
