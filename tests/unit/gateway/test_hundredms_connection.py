"""How a webhook's headers open a connection."""

from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.domain.hundredms_connection import (
    Checks,
    Connection,
    Fault,
    Webhook,
    check_checks,
    check_secret,
    check_secret_header,
    connection_of,
    fault_of,
    presented_hashes,
    secret_hash,
)
from gateway.domain.hundredms_signature import signature_of
from gateway.domain.refusals import Unacceptable
from shared.ids import ConnectionId, OrganizationId

SECRET, OLDER = "the-newer-secret-0001", "the-older-secret-0001"


def _connection(**changes: Any) -> Connection:
    fields: dict[str, Any] = {
        "connection_id": ConnectionId("con_1"),
        "organization_id": OrganizationId("org_1"),
        "secret_header": "X-TLDR-Secret",
        "secret_hashes": (secret_hash(SECRET), secret_hash(OLDER)),
        "options": {},
        "live": True,
    }
    return Connection(**fields | changes)


def test_both_live_secrets_open_it_under_any_spelling_of_the_header() -> None:
    connection = _connection()

    for name, secret in (("x-tldr-secret", SECRET), ("X-TLDR-SECRET", OLDER)):
        assert connection_of([connection], headers={name: secret}) is connection


def test_wrong_secret_wrong_header_and_a_disabled_connection_do_not() -> None:
    assert connection_of([_connection()], headers={"X-TLDR-Secret": "wrong"}) is None
    assert connection_of([_connection()], headers={"X-Other": SECRET}) is None
    assert connection_of([_connection()], headers={}) is None
    assert connection_of([_connection(live=False)], headers={"X-TLDR-Secret": SECRET}) is None


def test_a_secret_that_two_connections_share_opens_neither() -> None:
    twins = [_connection(), _connection(connection_id=ConnectionId("con_2"))]

    assert connection_of(twins, headers={"X-TLDR-Secret": SECRET}) is None


def test_only_values_that_could_be_secrets_are_looked_up() -> None:
    headers = {"host": "test", "x-tldr-secret": SECRET, "accept": "*/*", "x-again": SECRET}

    assert presented_hashes(headers) == (secret_hash(SECRET),)


@pytest.mark.parametrize("name", ["User-Agent", "ACCEPT", "x-forwarded-server", "Cf-Ray", "X-Amzn-Trace-Id"])
def test_what_every_sender_or_proxy_says_finds_no_connection(name: str) -> None:
    """Whoever took `Go-http-client/1.1` of the header User-Agent as a secret would have all tenants' webhooks."""
    headers = {name: "Go-http-client/1.1", "X-TLDR-Secret": SECRET}

    assert presented_hashes(headers) == (secret_hash(SECRET),)


@pytest.mark.parametrize("secret", ["with a space in it", "schlüssel-mit-umlaut", " leading-and-trailing "])
def test_a_secret_that_a_header_would_change_is_refused(secret: str) -> None:
    with pytest.raises(Unacceptable):
        check_secret(secret)


@pytest.mark.parametrize(
    "name",
    [
        *("Host", "content-length", "Content-Type", "TE", "X-Forwarded-For", "X-100ms-Signature"),
        *("User-Agent", "accept", "Accept-Encoding", "x-forwarded-server", "X-Amzn-Trace-Id", "traceparent"),
    ],
)
def test_a_header_that_http_itself_uses_carries_no_secret(name: str) -> None:
    with pytest.raises(Unacceptable) as refusal:
        check_secret_header(name)
    assert refusal.value.field == "secret_header"


@pytest.mark.parametrize("name", ["X-TLDR-Secret", "X-100ms-Secret", "Authorization"])
def test_a_header_that_arrives_as_it_was_sent_may_carry_the_secret(name: str) -> None:
    check_secret_header(name)


BODY, KEY = b"{}", "hmac-key"
RIGHT = {"X-TLDR-Secret": SECRET, "X-100ms-Signature": signature_of(BODY, secret=KEY)}


def _webhook(headers: dict[str, str], peer: str = "10.0.0.1") -> Webhook:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Webhook(connection_id=ConnectionId("con_1"), headers=headers, body=BODY, peer=peer, received_at=at)


@pytest.mark.parametrize(
    ("checks", "missing", "peer", "fault"),
    [
        (Checks(), "", "8.8.8.8", None),
        (Checks(), "X-100ms-Signature", "8.8.8.8", None),
        (Checks(), "X-TLDR-Secret", "8.8.8.8", Fault.SECRET),
        (Checks(secret=False, signature=True), "X-TLDR-Secret", "8.8.8.8", None),
        (Checks(secret=False, signature=True), "X-100ms-Signature", "8.8.8.8", Fault.SIGNATURE),
        (Checks(signature=True), "X-100ms-Signature", "8.8.8.8", Fault.SIGNATURE),
        (Checks(signature=True), "X-TLDR-Secret", "8.8.8.8", Fault.SECRET),
        (Checks(network=True), "", "8.8.8.8", Fault.NETWORK),
        (Checks(network=True), "", "10.0.0.1", None),
        (Checks(network=True), "X-TLDR-Secret", "8.8.8.8", Fault.SECRET),
        (Checks(secret=False, network=True), "", "10.0.0.1", Fault.UNKNOWN),
    ],
)
def test_each_check_counts_where_it_is_on_and_the_address_comes_last(
    checks: Checks, missing: str, peer: str, fault: Fault | None
) -> None:
    connection = _connection(checks=checks, networks=("10.0.0.0/8",))
    headers = {name: value for name, value in RIGHT.items() if name != missing}

    assert fault_of(connection, _webhook(headers, peer), hmac_secrets=(KEY,)) is fault


def test_a_connection_that_is_not_alive_is_not_there() -> None:
    assert fault_of(_connection(live=False), _webhook(RIGHT), hmac_secrets=()) is Fault.UNKNOWN


@pytest.mark.parametrize(
    ("checks", "networks", "field"),
    [
        (Checks(secret=False), (), "checks"),
        (Checks(secret=False, network=True), ("10.0.0.0/8",), "checks"),
        (Checks(network=True), (), "networks"),
    ],
)
def test_checks_that_let_everybody_in_or_nobody_are_refused(
    checks: Checks, networks: tuple[str, ...], field: str
) -> None:
    with pytest.raises(Unacceptable) as refusal:
        check_checks(checks, networks=networks)
    assert refusal.value.field == field
