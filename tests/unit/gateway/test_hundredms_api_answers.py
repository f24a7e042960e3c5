"""The management token, the API's answers, recordings and chats, read as 100ms documents them, and worse."""

import base64
import hmac
import json
import tracemalloc
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import hundredms_chat
from gateway.domain.hundredms_answers import AnswerUnreadable, read_page, read_presigned
from gateway.domain.hundredms_chat import MAX_TEXT, ChatUnreadable, chat_signal, read_chat
from gateway.domain.hundredms_payload import read_event
from gateway.domain.hundredms_recording import read_recording
from gateway.domain.hundredms_token import ApiCredentials, management_token
from gateway.domain.hundredms_values import moment_of
from sandbox.hundredms_token import token_fault
from shared.events import Lane
from shared.ids import OrganizationId, StreamId

SAMPLES = Path(__file__).resolve().parents[3] / ".." / "shared" / "samples" / "100ms"
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
CREDENTIALS = ApiCredentials("the-access-key", "the-app-secret")


def sample(path: str) -> bytes:
    if not SAMPLES.is_dir():
        pytest.skip("the samples of 100ms' documentation are not beside the repository")
    return (SAMPLES / path).read_bytes()


# -- the token ---------------------------------------------------------------------------------------------


def test_a_token_has_the_documented_claims_and_signature() -> None:
    head, claims, signature = management_token(CREDENTIALS, token_id="t-1", now=NOW).split(".")
    expected = hmac.new(b"the-app-secret", f"{head}.{claims}".encode(), sha256).digest()
    issued_at = int(NOW.timestamp()) - 10
    assert base64.urlsafe_b64encode(expected).decode().rstrip("=") == signature
    assert {"alg": "HS256", "typ": "JWT"} == json.loads(base64.urlsafe_b64decode(head + "=="))
    assert {
        "access_key": "the-access-key",
        "type": "management",
        "version": 2,
        "jti": "t-1",
        "iat": issued_at,
        "nbf": issued_at,
        "exp": issued_at + 610,
    } == json.loads(base64.urlsafe_b64decode(claims + "=="))


@pytest.mark.parametrize(
    ("credentials", "after_s", "fault"),
    [
        (CREDENTIALS, 0, ""),
        (CREDENTIALS, -5, ""),
        (CREDENTIALS, -60, "used before issued"),
        (CREDENTIALS, 3600, "expired"),
        (ApiCredentials("the-access-key", "another"), 0, "signature"),
        (ApiCredentials("another", "the-app-secret"), 0, "access key"),
    ],
)
def test_the_double_takes_our_tokens_and_no_others(
    credentials: ApiCredentials, after_s: float, fault: str
) -> None:
    token = management_token(credentials, token_id="t", now=NOW)
    found = token_fault(
        f"Bearer {token}",
        access_key="the-access-key",
        app_secret="the-app-secret",
        now=NOW + timedelta(seconds=after_s),
    )
    assert bool(fault) == bool(found)
    assert fault in found


# -- answers -----------------------------------------------------------------------------------------------


def test_the_documented_list_is_read() -> None:
    page = read_page(sample("api/live-stream.list.response.json"))
    [live] = page.streams
    assert ("<stream_id>", "<room_id>>", "<session_id>") == (
        live.sighting.live_id,
        live.sighting.room_id,
        live.sighting.session_id,
    )
    assert datetime(2023, 3, 2, 7, 44, 27, 10516, tzinfo=UTC) == live.sighting.started_at
    assert "" == page.following


def test_the_documented_presigned_address_is_read_where_it_is_one() -> None:
    answer = json.loads(sample("api/recording-asset.presigned-url.response.json"))
    with pytest.raises(AnswerUnreadable):
        read_presigned(json.dumps(answer).encode())
    found = read_presigned(json.dumps(answer | {"url": "https://files.example.com/1.mp4?x=1"}).encode())
    assert ("https://files.example.com/1.mp4?x=1", 3600) == (found.url, found.expires_in_s)


def test_a_full_page_names_the_next_one() -> None:
    entries = [{"id": f"live-{number}", "room_id": "r"} for number in range(10)]
    full = read_page(json.dumps({"limit": 10, "data": entries, "last": "live-9"}).encode())
    short = read_page(json.dumps({"limit": 100, "data": entries, "last": "live-9"}).encode())
    untold = read_page(json.dumps({"data": entries, "last": "live-9"}).encode())
    assert ("live-9", "", "live-9") == (full.following, short.following, untold.following)


def test_an_entry_that_is_none_does_not_make_a_full_page_the_last() -> None:
    page = read_page(json.dumps({"limit": 2, "data": [None, {"id": "live-1"}], "last": "live-1"}).encode())
    assert ((), "live-1") == (page.streams, page.following)


@pytest.mark.parametrize("body", [b"{}", b'{"code": 500, "message": "x", "details": []}', b"[]", b"null"])
def test_an_answer_without_a_list_is_no_empty_list(body: bytes) -> None:
    with pytest.raises(AnswerUnreadable):
        read_page(body)


def test_a_stream_that_runs_has_not_stopped_whatever_its_moments_say() -> None:
    entry = {"id": "live-1", "room_id": "r", "status": "running", "stopped_at": "2026-01-01T12:00:00Z"}
    running, over = read_page(json.dumps({"data": [entry, entry | {"status": "completed"}]}).encode()).streams
    assert (None, NOW) == (running.sighting.stopped_at, over.sighting.stopped_at)


@pytest.mark.parametrize("expiry", [1e300, -1, 0, "soon", 1767268800, None])
def test_an_expiry_that_cannot_be_one_is_none(expiry: object) -> None:
    body = json.dumps({"url": "https://files.example.com/1.mp4", "expiry": expiry}).encode()
    assert read_presigned(body).expires_in_s is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(
                st.sampled_from(
                    ["data", "id", "room_id", "playback", "url", "limit", "last", "status", "started_at"]
                ),
                x,
            )
        ),
    )
)
def test_whatever_json_comes_is_read_or_called_unreadable(answer: Any) -> None:
    body = json.dumps(answer).encode()
    for read in (read_page, read_presigned):
        try:
            read(body)
        except AnswerUnreadable:
            continue


# -- recordings --------------------------------------------------------------------------------------------


def test_the_documented_recording_offers_its_largest_layer_and_its_chat() -> None:
    body = sample("payloads/hls.recording.success.json")
    event = read_event(json.loads(body), raw=body)
    recording = event.recording
    assert recording is not None
    assert recording.file is not None
    assert "646acb659348ac0ada47d9ef" == recording.file.asset_id
    assert recording.file.url.startswith("https://<file-0-access-url>")
    assert recording.chat_url is not None
    assert 56_000_000 == recording.duration_us


@pytest.mark.parametrize(
    ("told", "length_s"),
    [({}, 300), ({"duration": 297}, 300), ({"duration": 240}, 0), ({"duration": 0}, 300)],
)
def test_a_recording_that_was_paused_has_no_times_to_go_by(told: dict[str, Any], length_s: int) -> None:
    moments = {"started_at": "2026-11-20T10:00:00Z", "stopped_at": "2026-11-20T10:05:00Z"}

    assert length_s * 1_000_000 == read_recording(moments | told).duration_us


@pytest.mark.parametrize(
    ("data", "url"),
    [
        (
            {"hls_vod_recording_presigned_url": "https://f.example/v/master.m3u8?s=1"},
            "https://f.example/v/master.m3u8?s=1",
        ),
        ({"hls_vod_recording_presigned_url": "https://f.example/v/all.zip?s=1"}, None),
        ({"recording_single_files": "none"}, None),
        ({"recording_single_files": [None, 1, {"layer": "x"}]}, None),
        ({"recording_single_files": [{"layer": "0", "recording_presigned_url": "ftp://f/1"}]}, None),
        (
            {"recording_single_files": [{"layer": 0, "recording_presigned_url": "https://f/1.mp4"}]},
            "https://f/1.mp4",
        ),
    ],
)
def test_only_an_mp4_or_a_playlist_is_of_use(data: dict[str, Any], url: str | None) -> None:
    file = read_recording(data).file
    assert url == (file.url if file else None)


@pytest.mark.parametrize(
    ("kind", "data", "end", "failed"),
    [
        ("hls.stopped.success", {"reason": "max duration reached"}, "max duration reached", False),
        ("hls.stopped.success", {"reason": "failure: INTERNAL_ERROR"}, "failure: INTERNAL_ERROR", True),
        ("hls.stopped.success", {}, "", False),
        ("hls.failure", {"error_type": "BEAM_STOPPED"}, "failure: BEAM_STOPPED", True),
    ],
)
def test_why_a_stream_ended_is_told_in_100ms_words(
    kind: str, data: dict[str, Any], end: str, failed: bool
) -> None:
    event = read_event({"type": kind, "data": {"beam_id": "b", "room_id": "r", **data}}, raw=b"")
    assert (end, failed) == (event.end, event.failed)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-01T12:00:00.123456789Z", NOW.replace(microsecond=123456)),
        ("2026-01-01 12:00:00 +0000 UTC", NOW),
        (1767268800, NOW),
        ("1767268800000", NOW),
        ("0001-01-01T00:00:00Z", None),
        ("soon", None),
        (None, None),
    ],
)
def test_moments_are_read_in_every_spelling(text: object, expected: datetime | None) -> None:
    assert expected == moment_of(text)


# -- the chat ----------------------------------------------------------------------------------------------

HEAD = "SenderPeerID,SenderName,SenderUserID,Roles,SentAt,Type,Message\n"


def test_a_chat_keeps_commas_lines_and_equal_messages() -> None:
    chat = read_chat(
        (
            HEAD
            + 'p,Ann,u,guest,2026-01-01T12:00:00Z,chat,"one, two\nthree"\n'
            + "p,Ann,u,guest,2026-01-01T12:00:01Z,chat,wow\n" * 2
            + "p,Ann,u,guest,never,chat,lost\n\n"
            + "p,Ann,u\n"
        ).encode("utf-8-sig")
    )
    assert [("one, two\nthree", 0), ("wow", 0), ("wow", 1)] == [
        (each.text, each.ordinal) for each in chat.messages
    ]
    assert 2 == chat.left_out


def test_the_same_message_is_the_same_signal_and_authors_differ_between_streams() -> None:
    body = (HEAD + f"p,Ann,u,guest,2026-01-01T12:00:00Z,chat,{'x' * 3000}\n").encode()
    [message] = read_chat(body).messages
    first, again, elsewhere = (
        chat_signal(
            message,
            stream_id=StreamId(name),
            organization_id=OrganizationId("org_1"),
            run=0,
            lane=Lane.LIVE,
            at=NOW,
        )
        for name in ("str_1", "str_1", "str_2")
    )
    assert first == again
    assert MAX_TEXT == len(first.text)
    assert first.author != elsewhere.author
    assert ("recording", NOW) == (first.origin, first.wall_at)


@pytest.mark.parametrize("body", [b"", b"<html>no</html>", b"a,b\n1,2\n", b"\x00\xff\xfe"])
def test_what_is_no_chat_is_called_unreadable(body: bytes) -> None:
    with pytest.raises(ChatUnreadable):
        read_chat(body)


def test_a_chat_of_very_many_lines_costs_no_more_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hundredms_chat, "MAX_MESSAGES", 1_000)
    line = "p,Ann,u,guest,2026-01-01T12:00:00Z,chat,wow\n"
    body = (HEAD + line + "x\n" * 100_000).encode()
    tracemalloc.start()
    try:
        chat = read_chat(body)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (1, 100_000) == (len(chat.messages), chat.left_out)
    assert most_bytes < 30 * len(body)


@given(st.binary(max_size=500))
def test_no_bytes_break_the_reading(body: bytes) -> None:
    assert read_chat(HEAD.encode() + body).left_out >= 0
