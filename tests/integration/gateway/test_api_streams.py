"""Submission, reading and stopping of streams over HTTP, and what is written beside the answer."""

import asyncio
import json
from typing import Any

from shared.profile import Profile
from tests.integration.gateway.api_client import ALLOWED, SOURCE, GatewayApp


async def test_a_submitted_stream_is_pending_and_echoes_its_effective_options(
    gateway_app: GatewayApp,
) -> None:
    customer = await gateway_app.register()

    body = await gateway_app.submit(customer, title="Final", metadata={"tournament_id": 7})

    assert (body["status"], body["job_id"], body["title"]) == ("pending", body["id"], "Final")
    assert body["id"].startswith("str_") and len(body["id"]) == 16
    assert body["source_url"] == "https://cdn.example.com/live/master.m3u8"
    assert body["metadata"] == {"tournament_id": 7}
    options = body["options"]
    assert (options["analysis_quality"], options["sensitivity"], options["clip_duration"]) == (
        "high",
        "medium",
        30,
    )
    assert (options["include_chat"], options["include_audio"], options["frame_interval"]) == (True, True, 1.0)
    assert body["progress"]["highlights_found"] == 0
    assert body["platform"] == "custom"


async def test_what_is_read_later_is_what_was_answered(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    body = await gateway_app.submit(customer, options={"custom_tags": ["final"]})

    read = await gateway_app.client.get(f"/v1/streams/{body['id']}", headers=customer.headers)

    assert read.json() == body


async def test_stream_and_event_are_written_together_and_the_address_is_sealed(
    gateway_app: GatewayApp,
) -> None:
    customer = await gateway_app.register()

    body = await gateway_app.submit(customer)

    [row] = await gateway_app.rows("SELECT * FROM streams", customer)
    [event] = await gateway_app.emitted("stream.online")
    assert event["stream_id"] == row["stream_id"] == body["id"]
    assert event["organization_id"] == customer.organization_id
    assert event["profile_key"] == row["profile_key"]
    assert "hidden" not in json.dumps(event)
    sealed = event["source"]["sealed_url"]
    assert gateway_app.keyring.decrypt(sealed, context=f"stream:{body['id']}") == SOURCE


async def test_the_profile_is_stored_under_its_hash_with_the_options_applied(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    options = {"sensitivity": "high", "clip_duration": 60, "max_highlights": 5, "custom_tags": ["final"]}

    await gateway_app.submit(customer, options=options)

    [row] = await gateway_app.rows("SELECT profile_key FROM streams", customer)
    profile = Profile.model_validate_json(await gateway_app.base.store.get(row["profile_key"]))
    assert row["profile_key"] == f"profiles/{profile.sha256()}.json"
    assert (profile.thresholds.standard, profile.clip.target_us) == (0.6, 60_000_000)
    assert (profile.selection.max_highlights, profile.tags) == (5, ("final",))


async def test_processing_options_and_metadata_inside_options_are_accepted(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()

    body = await gateway_app.submit(
        customer,
        processing_options={"metadata": {"a": 1, "b": 1}, "sensitivity": "low"},
        metadata={"b": 2},
    )

    assert (body["metadata"], body["options"]["sensitivity"]) == ({"a": 1, "b": 2}, "low")


UNACCEPTABLE: tuple[tuple[dict[str, Any], str], ...] = (
    ({"source_url": "not a url"}, "source_url"),
    ({"source_url": "http://127.0.0.1/a.m3u8"}, "source_url"),
    ({"source_url": "http://169.254.169.254/latest/meta-data"}, "source_url"),
    ({"source_url": "http://localhost:9000/a.m3u8"}, "source_url"),
    ({"source_url": "https://user:pw@example.com/a.m3u8"}, "source_url"),
    ({"source_url": "udp://example.com:5000"}, "source_url"),
    ({"source_url": "rtmp://127.0.0.1/live"}, "source_url"),
    ({"source_url": "https://www.twitch.tv/directory"}, "source_url"),
    ({"source_url": "https://youtu.be/abc"}, "source_url"),
    ({"source_url": "upload:upl_0123456789ab"}, "source_url"),
    (
        {"source_url": "srt://example.com:9000", "options": {"custom_headers": {"A": "x"}}},
        "options.custom_headers",
    ),
    ({"external_id": ""}, "external_id"),
    ({"external_id": "x" * 201}, "external_id"),
    ({"options": {"clip_duration": 9}}, "options.clip_duration"),
    ({"options": {"max_highlights": 101}}, "options.max_highlights"),
    ({"options": {"frame_interval": 0.01}}, "options.frame_interval"),
    ({"options": {"unknown": 1}}, "options.unknown"),
    ({"options": {"webhook_url": "http://example.com/hook"}}, "options.webhook_url"),
    ({"options": {"custom_headers": {"Host": "x"}}}, "options.custom_headers"),
    ({"organization_id": "org_000000000000"}, "organization_id"),
    ({"platform": "vimeo"}, "platform"),
    ({"title": "x" * 501}, "title"),
    ({"title": "a\x00b"}, "body"),
    ({"metadata": {"a": "\ud800"}}, "body"),
    ({"metadata": {"a": float("nan")}}, "body"),
    ({"metadata": {str(n): n for n in range(51)}}, "metadata"),
    ({"metadata": {"a": "x" * 16_384}}, "metadata"),
    ({"options": {"metadata": {"a": "x" * 16_384}}}, "options"),
    ({"options": {"custom_headers": {"A": "x" * 8_000}}}, "options.custom_headers"),
)


async def test_what_cannot_be_accepted_is_refused_by_field_and_leaves_nothing(
    gateway_app: GatewayApp,
) -> None:
    customer = await gateway_app.register()
    headers = customer.headers | {"Content-Type": "application/json"}

    for changes, field in UNACCEPTABLE:
        body = json.dumps({"source_url": SOURCE} | changes)
        answer = await gateway_app.client.post("/v1/streams", content=body, headers=headers)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field), changes

    assert await gateway_app.rows("SELECT 1 FROM streams", customer) == []
    assert await gateway_app.emitted("stream.online") == []


async def test_an_allow_listed_address_may_be_plain_and_private(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()

    body = await gateway_app.submit(customer, source_url=f"http://{ALLOWED}/master.m3u8")

    assert body["source_url"] == f"http://{ALLOWED}/master.m3u8"


async def test_a_stream_that_is_not_live_takes_the_other_lane(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()

    await gateway_app.submit(customer, live=False)

    [event] = await gateway_app.emitted("stream.online")
    assert event["lane"] == "vod"


async def test_headers_for_the_source_are_sealed_and_never_given_back(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()

    body = await gateway_app.submit(customer, options={"custom_headers": {"Authorization": "Bearer t0ken"}})

    [event] = await gateway_app.emitted("stream.online")
    opened = gateway_app.keyring.decrypt(event["source"]["sealed_headers"], context=f"stream:{body['id']}")
    assert json.loads(opened) == {"Authorization": "Bearer t0ken"}
    assert "t0ken" not in json.dumps([body, event])


async def test_a_webhook_url_makes_an_endpoint_of_the_stream(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    url = "https://customer.example.com/hook?key=hidden"

    body = await gateway_app.submit(customer, options={"webhook_url": url})

    [row] = await gateway_app.rows("SELECT * FROM endpoints", customer)
    [event] = await gateway_app.emitted("endpoint.changed")
    context = f"endpoint:{row['endpoint_id']}"
    assert (row["stream_id"], row["display_url"]) == (body["id"], "https://customer.example.com/hook")
    assert gateway_app.keyring.decrypt(event["sealed_url"], context=context) == url
    assert gateway_app.keyring.decrypt(event["sealed_secrets"][0], context=context).startswith("whsec_")
    assert "hidden" not in json.dumps(body)


async def test_the_same_idempotency_key_gives_the_same_stream(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    headers = customer.headers | {"Idempotency-Key": "order-1"}
    request = {"source_url": SOURCE}

    answers = await asyncio.gather(
        *(gateway_app.client.post("/v1/streams", json=request, headers=headers) for _ in range(4))
    )

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(await gateway_app.rows("SELECT 1 FROM streams", customer)) == 1
    other = await gateway_app.client.post("/v1/streams", json=request | {"title": "x"}, headers=headers)
    assert (other.status_code, other.json()["errors"][0]["field"]) == (422, "Idempotency-Key")


async def test_idempotency_keys_of_two_organizations_do_not_meet(gateway_app: GatewayApp) -> None:
    first, second = await gateway_app.register("first"), await gateway_app.register("second")

    bodies = [
        (
            await gateway_app.client.post(
                "/v1/streams",
                json={"source_url": SOURCE},
                headers=customer.headers | {"Idempotency-Key": "order-1"},
            )
        ).json()
        for customer in (first, second)
    ]

    assert bodies[0]["id"] != bodies[1]["id"]


async def test_streams_are_listed_newest_first_in_pages(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    made = [(await gateway_app.submit(customer, title=str(n)))["id"] for n in range(3)]

    first = await gateway_app.client.get("/v1/streams?per_page=2", headers=customer.headers)
    second = await gateway_app.client.get("/v1/streams?per_page=2&page=2", headers=customer.headers)

    assert [item["id"] for item in first.json()["items"]] == [made[2], made[1]]
    assert [item["id"] for item in second.json()["items"]] == [made[0]]
    assert second.json()["total"] == 3


async def test_stopping_asks_ingest_once_however_often_it_is_said(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    stream = await gateway_app.submit(customer)

    answers = [
        await gateway_app.client.post(f"/v1/streams/{stream['id']}/stop", headers=customer.headers)
        for _ in range(2)
    ]

    assert [answer.json() for answer in answers] == [{"message": "Stream processing stopped"}] * 2
    [event] = await gateway_app.emitted("stream.offline")
    assert (event["stream_id"], event["reason"]) == (stream["id"], "stop requested")


async def test_a_stream_that_has_ended_stays_as_it_is(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    stream = await gateway_app.submit(customer)
    await gateway_app.rows("UPDATE streams SET status = 'completed' RETURNING 1", customer)

    answer = await gateway_app.client.post(f"/v1/streams/{stream['id']}/stop", headers=customer.headers)

    assert answer.status_code == 200
    assert await gateway_app.emitted("stream.offline") == []


async def test_another_organizations_stream_looks_like_one_that_does_not_exist(
    gateway_app: GatewayApp,
) -> None:
    owner, stranger = await gateway_app.register("owner"), await gateway_app.register("stranger")
    stream = await gateway_app.submit(owner)

    for method, path in (("GET", ""), ("POST", "/stop"), ("GET", "/highlights")):
        bodies = []
        for stream_id in (stream["id"], "str_ffffffffffff", "no id"):
            answer = await gateway_app.client.request(
                method, f"/v1/streams/{stream_id}{path}", headers=stranger.headers
            )
            assert answer.status_code == 404
            bodies.append({name: value for name, value in answer.json().items() if name != "trace_id"})
        assert bodies[0] == bodies[1] == bodies[2]
        assert bodies[0]["detail"] == "Stream not found"
    assert (await gateway_app.client.get("/v1/streams", headers=stranger.headers)).json()["total"] == 0


HIGHLIGHT = """
INSERT INTO highlights (highlight_id, organization_id, stream_id, run, revision, start_us, end_us, peak_us,
                        score, confidence, type, title, tags, retracted)
VALUES (:id, :organization, :stream, 0, 0, CAST(:start AS bigint), CAST(:start AS bigint) + 20000000,
        CAST(:start AS bigint) + 5000000, 0.9, 0.8, 'clutch',
        'A clutch', '["ace"]', :retracted) RETURNING 1
"""
CLIP = """
INSERT INTO clips (highlight_id, revision, organization_id, stream_id, status, video_key, thumbnail_key,
                   start_us, duration_us, finished_at)
VALUES (:id, 0, :organization, :stream, 'ready', 'clips/a/clip.mp4', 'clips/a/thumbnail.jpg', 0, 21000000,
        now()) RETURNING 1
"""


async def test_highlights_are_readable_while_the_stream_runs(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    stream = await gateway_app.submit(customer, options={"custom_tags": ["final"]}, metadata={"m": 1})
    own = {"organization": customer.organization_id, "stream": stream["id"]}
    for name, start, retracted in (
        ("hl_b", 90_000_000, False),
        ("hl_a", 30_000_000, False),
        ("hl_x", 0, True),
    ):
        await gateway_app.rows(HIGHLIGHT, customer, id=name, start=start, retracted=retracted, **own)
    await gateway_app.rows(CLIP, customer, id="hl_a", **own)

    listed = await gateway_app.client.get(
        f"/v1/streams/{stream['id']}/highlights?page=1&per_page=10", headers=customer.headers
    )
    single = await gateway_app.client.get("/v1/highlights/hl_a", headers=customer.headers)
    gone = await gateway_app.client.get("/v1/highlights/hl_x", headers=customer.headers)

    body = listed.json()
    assert ([item["id"] for item in body["items"]], body["total"]) == (["hl_a", "hl_b"], 2)
    first = body["items"][0]
    assert (first["clip_status"], first["duration"], first["timestamp"]) == ("ready", 21.0, 30.0)
    assert (first["tags"], first["metadata"]) == (["ace", "final"], {"m": 1})
    assert first["video_url"].startswith("http://test/objects/clips/a/clip.mp4?expires=")
    assert body["items"][1]["video_url"] is None
    assert single.json()["id"] == "hl_a"
    assert (gone.status_code, gone.json()["detail"]) == (404, "Highlight not found")


async def test_another_organizations_highlight_is_not_found(gateway_app: GatewayApp) -> None:
    owner, stranger = await gateway_app.register("owner"), await gateway_app.register("stranger")
    stream = await gateway_app.submit(owner)
    await gateway_app.rows(
        HIGHLIGHT,
        owner,
        id="hl_a",
        start=0,
        retracted=False,
        organization=owner.organization_id,
        stream=stream["id"],
    )

    answer = await gateway_app.client.get("/v1/highlights/hl_a", headers=stranger.headers)

    assert answer.status_code == 404


async def test_the_other_names_of_the_routes_do_the_same(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    paths = ("/v1/streams", "/api/v1/streams", "/v1/streams/analyze", "/api/v1/streams/analyze")

    answers = [
        await gateway_app.client.post(path, json={"source_url": SOURCE}, headers=customer.headers)
        for path in paths
    ]
    unguarded = [await gateway_app.client.post(path, json={"source_url": SOURCE}) for path in paths]

    assert [answer.status_code for answer in answers] == [200] * 4
    assert [answer.status_code for answer in unguarded] == [401] * 4
