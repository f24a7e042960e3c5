"""The 100ms payloads: the documented keys, and ids that belong together."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sandbox.hundredms import Beam, Shape, build_payload, disordered, reshaped

SAMPLES = Path(__file__).resolve().parents[3] / "../shared/samples/100ms/payloads"
STARTED_AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
BEAM = Beam(stream_url="https://cdn.example/master.m3u8", started_at=STARTED_AT)


@pytest.mark.parametrize(
    "event_type",
    [
        "hls.started.success",
        "hls.stopped.success",
        "hls.failure",
        "session.open.success",
        "session.close.success",
    ],
)
def test_a_payload_has_every_key_of_the_documented_sample(event_type: str) -> None:
    sample = SAMPLES / f"{event_type}.json"
    if not sample.is_file():
        pytest.skip("the documented 100ms samples are not beside this repository")
    documented = json.loads(sample.read_text())

    payload = build_payload(event_type, beam=BEAM, at=STARTED_AT)

    assert set(documented) - {"app_id"} <= set(payload)
    assert set(documented["data"]) <= set(payload["data"])
    assert payload["type"] == documented["type"]


def test_start_and_stop_share_their_ids_and_differ_in_the_event_id() -> None:
    started = build_payload("hls.started.success", beam=BEAM, at=STARTED_AT)
    stopped = build_payload("hls.stopped.success", beam=BEAM, at=STARTED_AT + timedelta(seconds=56))

    shared = ("beam_id", "job_id", "room_id", "session_id", "template_id", "peer_id", "url", "started_at")
    assert [started["data"][key] for key in shared] == [stopped["data"][key] for key in shared]
    assert started["account_id"] == stopped["account_id"]
    assert started["id"] != stopped["id"]
    assert stopped["data"]["duration"] == 56


def test_times_are_written_as_100ms_writes_them() -> None:
    payload = build_payload("hls.started.success", beam=BEAM, at=STARTED_AT, event_id="e-1")

    assert payload["id"] == "e-1"
    assert payload["timestamp"] == "2026-01-02T03:04:05Z"
    assert payload["data"]["started_at"] == "2026-01-02T03:04:05.678901000Z"


def test_keys_of_the_details_can_be_replaced() -> None:
    payload = build_payload("hls.failure", beam=BEAM, at=STARTED_AT, changes={"error_type": "UPLOAD_ERROR"})

    assert payload["data"]["error_type"] == "UPLOAD_ERROR"


def test_an_event_without_a_template_names_the_room_and_the_session() -> None:
    payload = build_payload("peer.join.success", beam=BEAM, at=STARTED_AT)

    assert sorted(payload["data"]) == ["room_id", "session_id", "session_started_at", "template_id"]


def test_short_and_old_shapes_tell_the_same_in_older_words() -> None:
    started = build_payload("hls.started.success", beam=BEAM, at=STARTED_AT)

    short, old = reshaped(started, Shape.SHORT), reshaped(started, Shape.OLD)

    assert short == started | {"type": "hls.started"}
    assert (old["version"], old["type"], old["timestamp"]) == ("1.0", "hls.started", 1767323045)
    assert "beam_id" not in old["data"]
    assert (old["data"]["url"], old["data"]["max_width"]) == (BEAM.stream_url, "1280")
    assert reshaped(started, Shape.CURRENT) == started


def test_disorder_is_the_same_for_the_same_seed_and_loses_nothing() -> None:
    kinds = ("hls.started.success", "hls.stopped.success", "hls.failure")
    payloads = [build_payload(kind, beam=BEAM, at=STARTED_AT, event_id=kind) for kind in kinds]

    first, again = (disordered(payloads, copies=3, seed=4) for _ in range(2))

    assert first == again != tuple(payloads * 3)
    assert sorted(each["id"] for each in first) == sorted(kinds * 3)
