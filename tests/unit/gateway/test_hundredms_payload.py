"""100ms payloads, read loosely."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.hundredms_payload import Action, read_event, storable
from gateway.domain.refusals import Malformed

SAMPLES = Path(__file__).resolve().parents[3] / ".." / "shared" / "samples" / "100ms" / "payloads"


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
def test_what_is_no_event_is_malformed(payload: object) -> None:
    with pytest.raises(Malformed):
        read_event(payload, raw=b"")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.dictionaries(st.sampled_from(["id", "account_id", "data", "timestamp", "extra"]), _JSON, max_size=5),
    st.dictionaries(
        st.sampled_from(["beam_id", "room_id", "session_id", "url", "reason", "error_type"]), _JSON
    ),
)
def test_nothing_in_a_payload_makes_reading_fail(envelope: dict[str, Any], data: dict[str, Any]) -> None:
    event = read_event({**envelope, "type": "hls.started.success", "data": data}, raw=b"raw")

    texts = (event.event_id, event.account_id, event.beam_id or "", event.url or "", event.reason)
    for text in texts:
        text.encode()
        assert "\x00" not in text


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
