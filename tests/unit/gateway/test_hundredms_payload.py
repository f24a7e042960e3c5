"""100ms payloads, read loosely."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.hundredms_payload import UNTYPED, Action, parse_body, read_event, storable
from gateway.domain.refusals import Malformed

SAMPLES = Path(__file__).resolve().parents[3] / ".." / "shared" / "samples" / "100ms" / "payloads"


# Shapes after 100ms' documentation; the corpus beside the repository has all of them.
DOCUMENTED: list[dict[str, Any]] = [
    {
        "version": "2.0",
        "id": "f3a8e4d6-0001-4000-8000-000000000001",
        "account_id": "627cdddff2e4e30487862ad1",
        "app_id": "627cdddff2e4e30487862ad2",
        "timestamp": "2021-11-30T12:58:46Z",
        "type": kind,
        "data": {
            "beam_id": "627ce6b1f2e4e30487862ad6",
            "room_id": "627ce6b1f2e4e30487862ad4",
            "session_id": "627ce6b1f2e4e30487862ad5",
            "started_at": "2021-11-30T12:58:46.400759043Z",
            "duration": 56,
            **more,
        },
    }
    for kind, more in (
        ("hls.started.success", {"url": "https://cdn.100ms.live/beam/x/master.m3u8", "start_delay": 12}),
        ("hls.stopped.success", {"reason": "client request", "stopped_at": "2021-11-30T13:00:00Z"}),
        ("hls.failure", {"error_type": "INTERNAL_ERROR", "error_message": "it broke", "error_code": 1}),
        ("hls.recording.success", {"recording_single_files": [{"layer": "0"}], "size": "12"}),
        ("recording.failed", {"error": "it broke"}),
    )
]


def _event(kind: str, **data: Any) -> Any:
    return read_event({"id": "e", "account_id": "a", "type": kind, "data": data}, raw=b"{}")


@pytest.mark.parametrize(
    ("kind", "action"),
    [
        ("hls.started.success", Action.START),
        ("hls.started", Action.START),
        ("hls.stopped.success", Action.STOP),
        ("hls.stopped", Action.STOP),
        ("hls.failure", Action.FAIL),
        ("hls.recording.success", Action.RECORD),
        ("beam.started.success", Action.RECORD),
        ("peer.join.success", Action.RECORD),
        ("transcription.failed", Action.RECORD),
        ("something.new", Action.RECORD),
    ],
)
def test_types_have_actions_under_long_and_short_names(kind: str, action: Action) -> None:
    assert _event(kind).action is action


def test_a_failed_upload_is_only_recorded() -> None:
    assert _event("hls.failure", error_type="UPLOAD_ERROR").action is Action.RECORD
    assert _event("hls.failure", error_type="BEAM_STOPPED").action is Action.FAIL


def test_the_reason_joins_what_is_told() -> None:
    failure = _event("hls.failure", error_type="INTERNAL_ERROR", error_message="it broke")

    assert failure.reason == "INTERNAL_ERROR: it broke"
    assert _event("hls.stopped.success").reason == "hls.stopped.success"


def test_without_a_beam_other_ids_stand_for_the_stream() -> None:
    start, stop = (_event(kind, room_id="r", session_id="s", started_at="t") for kind in ("x", "y"))

    assert start.beam_id == stop.beam_id == "r+s+t"
    assert _event("x", beam_id="b", room_id="r").beam_id == "b"
    assert _event("x").beam_id is None


def test_an_event_without_id_is_known_by_its_bytes() -> None:
    first, second = (read_event({"type": "x"}, raw=raw) for raw in (b"1", b"2"))

    assert first.event_id.startswith("sha256:")
    assert first.event_id != second.event_id


@pytest.mark.parametrize("payload", [None, [], "text", 1, {}, {"type": None}, {"type": ""}, {"type": {}}])
def test_json_that_says_nothing_we_know_is_an_event_to_record(payload: object) -> None:
    event = read_event(payload, raw=b"raw")

    assert (event.type, event.action, event.beam_id) == (UNTYPED, Action.RECORD, None)
    assert event.event_id.startswith("sha256:")


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"<html>", b"[" * 5000])
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        parse_body(body)


def test_a_number_too_long_to_count_with_is_kept_as_text() -> None:
    assert parse_body(b'{"id": ' + b"7" * 5000 + b"}") == {"id": "7" * 5000}


@pytest.mark.parametrize(
    "envelope",
    [
        {"type": "HLS.Started.Success ", "data": {"room_id": 7, "beam_id": 12, "url": " https://a/b "}},
        {"event": "hls.started", "data": '{"room_id": 7, "beam_id": "12", "url": "https://a/b"}'},
        {"event_type": "hls.started", "room_id": "7", "beam_id": 12, "url": "https://a/b"},
    ],
)
def test_old_and_odd_envelopes_say_the_same(envelope: dict[str, Any]) -> None:
    event = read_event(envelope, raw=b"")

    assert (event.action, event.room_id, event.beam_id) == (Action.START, "7", "12")
    assert event.url == "https://a/b"


def test_an_address_that_is_too_long_is_none_rather_than_another_one() -> None:
    assert _event("hls.started", url="https://a/" + "b" * 4096).url is None


@pytest.mark.parametrize(
    "written",
    [
        "2022-01-05T10:00:00Z",
        "2022-01-05T10:00:00.000000000Z",
        "2022-01-05T12:00:00+02:00",
        "2022-01-05 10:00:00",
        1641376800,
        "1641376800000",
        1641376800.0,
        1641376800000000000,
    ],
)
def test_one_moment_in_any_spelling_stands_for_the_same_stream(written: object) -> None:
    beam_id = _event("x", room_id="r", session_id="s", started_at=written).beam_id

    assert beam_id == "r+s+2022-01-05T10:00:00+00:00"


@pytest.mark.parametrize("written", ["0001-01-01T00:00:00+05:00", "soon", "", None, "nan", "1e400", {}])
def test_what_is_no_moment_stands_for_itself(written: object) -> None:
    assert str(_event("x", room_id="r", started_at=written).beam_id).startswith("r++")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.dictionaries(st.sampled_from(["id", "account_id", "data", "timestamp", "extra"]), _JSON, max_size=5),
    st.dictionaries(
        st.sampled_from(["beam_id", "room_id", "session_id", "started_at", "url", "reason", "error_type"]),
        _JSON,
    ),
)
def test_nothing_in_a_payload_makes_reading_fail(envelope: dict[str, Any], data: dict[str, Any]) -> None:
    event = read_event({**envelope, "type": "hls.started.success", "data": data}, raw=b"raw")

    texts = (event.event_id, event.account_id, event.beam_id or "", event.url or "", event.reason)
    for text in texts:
        text.encode()
        assert "\x00" not in text


def _edited(value: object, edit: str) -> object:
    made = {"number": 7, "text": str(value), "null": None, "list": [value], "nest": {"v": value}}
    return made[edit]


@given(st.data())
def test_no_documented_payload_can_be_changed_into_one_that_cannot_be_read(data: st.DataObject) -> None:
    payload = json.loads(json.dumps(data.draw(st.sampled_from(DOCUMENTED))))
    for part in (payload["data"], payload):
        keys = data.draw(st.lists(st.sampled_from(sorted(part)), max_size=4, unique=True))
        for key in keys:
            edit = data.draw(st.sampled_from(("drop", "number", "text", "null", "list", "nest")))
            value = part.pop(key)
            part.update({} if edit == "drop" else {key: _edited(value, edit)})
    body = json.dumps(payload).encode()

    event = read_event(parse_body(body), raw=body)

    assert 0 < len(event.event_id) <= 200
    assert event.type


@given(_JSON)
def test_stored_payloads_are_what_postgresql_takes(payload: Any) -> None:
    text = json.dumps(storable(payload), allow_nan=False)

    assert "\\u0000" not in text.replace("\\\\", "")


def test_every_documented_payload_can_be_read() -> None:
    if not SAMPLES.is_dir():
        pytest.skip("the 100ms samples (../shared/samples/100ms) are not on this machine")
    files = sorted(SAMPLES.rglob("*.json"))

    events = [read_event(json.loads(path.read_bytes()), raw=b"") for path in files]

    assert len(events) > 150
    starts = [event for event in events if event.action is Action.START]
    assert all(event.url and event.beam_id for event in starts)
