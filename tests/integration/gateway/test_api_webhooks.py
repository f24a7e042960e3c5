"""Webhook endpoints over HTTP."""

import json

from tests.integration.gateway.api_client import ALLOWED, GatewayApp

URL = "https://customer.example.com/hook?key=hidden"


async def test_an_endpoint_is_announced_with_sealed_address_and_secret(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()

    answer = await gateway_app.client.post("/v1/webhooks", json={"url": URL}, headers=customer.headers)

    body = answer.json()
    [event] = await gateway_app.emitted("endpoint.changed")
    context = f"endpoint:{body['id']}"
    assert (answer.status_code, body["url"], body["active"]) == (
        200,
        "https://customer.example.com/hook",
        True,
    )
    assert (event["endpoint_id"], event["version"], event["active"]) == (body["id"], 1, True)
    assert gateway_app.keyring.decrypt(event["sealed_url"], context=context) == URL
    assert gateway_app.keyring.decrypt(event["sealed_secrets"][0], context=context) == body["secret"]
    assert body["secret"] not in json.dumps(event)


async def test_the_secret_is_shown_once_and_detected_highlights_are_opt_in(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    made = (await gateway_app.client.post("/v1/webhooks", json={"url": URL}, headers=customer.headers)).json()

    one = await gateway_app.client.get(f"/v1/webhooks/{made['id']}", headers=customer.headers)
    listed = await gateway_app.client.get("/v1/webhooks", headers=customer.headers)

    assert listed.json() == {"items": [one.json()]}
    assert made["secret"] not in one.text
    assert "highlight.detected" not in one.json()["events"]
    assert "highlight.created" in one.json()["events"]


async def test_event_types_may_be_chosen_under_either_name(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    chosen = ["highlight.detected", "stream.completed"]

    answers = [
        await gateway_app.client.post(path, json={"url": URL, name: chosen}, headers=customer.headers)
        for path, name in (("/v1/webhooks", "events"), ("/v1/webhooks/subscribe", "event_types"))
    ]

    assert [answer.json()["events"] for answer in answers] == [chosen, chosen]


async def test_an_empty_list_of_event_types_is_refused(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()

    answers = [
        await gateway_app.client.post("/v1/webhooks", json={"url": URL, name: []}, headers=customer.headers)
        for name in ("events", "event_types")
    ]

    assert [answer.status_code for answer in answers] == [422, 422]
    assert answers[0].json()["errors"] == [{"field": "events", "message": "must have 1 or more entries"}]


async def test_a_deleted_endpoint_is_announced_as_inactive(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    made = (await gateway_app.client.post("/v1/webhooks", json={"url": URL}, headers=customer.headers)).json()

    deleted = await gateway_app.client.delete(f"/v1/webhooks/{made['id']}", headers=customer.headers)
    again = await gateway_app.client.delete(f"/v1/webhooks/{made['id']}", headers=customer.headers)

    events = await gateway_app.emitted("endpoint.changed")
    assert (deleted.status_code, again.status_code) == (200, 404)
    assert [(event["version"], event["active"]) for event in events] == [(1, True), (2, False)]


async def test_only_public_https_addresses_are_taken_unless_allow_listed(gateway_app: GatewayApp) -> None:
    customer = await gateway_app.register()
    urls = ("http://example.com/", "https://10.0.0.1/", "https://localhost/", f"http://{ALLOWED}/hook")

    answers = [
        await gateway_app.client.post("/v1/webhooks", json={"url": url}, headers=customer.headers)
        for url in urls
    ]

    assert [answer.status_code for answer in answers] == [422, 422, 422, 200]
    assert answers[0].json()["errors"][0]["field"] == "url"


async def test_another_organizations_endpoint_is_not_found(gateway_app: GatewayApp) -> None:
    owner, stranger = await gateway_app.register("owner"), await gateway_app.register("stranger")
    made = (await gateway_app.client.post("/v1/webhooks", json={"url": URL}, headers=owner.headers)).json()

    for method in ("GET", "DELETE"):
        answer = await gateway_app.client.request(
            method, f"/v1/webhooks/{made['id']}", headers=stranger.headers
        )
        assert (answer.status_code, answer.json()["detail"]) == (404, "Webhook not found")
