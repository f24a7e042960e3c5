"""Webhook endpoints: addresses and event types."""

import pytest

from gateway.domain.endpoint import check_endpoint_url, subscribed_types
from gateway.domain.events_feed import PublicEventType
from gateway.domain.refusals import Unacceptable
from gateway.domain.webhook_secret import webhook_secret
from shared.addresses import parse_allowed


def test_nothing_named_means_all_but_the_opt_in_types() -> None:
    types = subscribed_types(None)

    assert PublicEventType.HIGHLIGHT_DETECTED not in types
    assert PublicEventType.HIGHLIGHT_CREATED in types


def test_named_types_stand_once_in_the_order_of_declaration() -> None:
    completed, started = PublicEventType.STREAM_COMPLETED, PublicEventType.STREAM_STARTED

    assert subscribed_types([completed, started, completed]) == (started, completed)


def test_plain_http_needs_the_allow_list() -> None:
    allowed = parse_allowed("127.0.0.1:9000")

    check_endpoint_url("http://127.0.0.1:9000/hook", allowed=allowed)
    for url in ("http://example.com/hook", "https://127.0.0.1/hook", "hook"):
        with pytest.raises(Unacceptable):
            check_endpoint_url(url, allowed=allowed)


def test_a_secret_is_of_the_standard_form_and_of_enough_entropy() -> None:
    assert webhook_secret(bytes(32)) == "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    with pytest.raises(ValueError, match="entropy"):
        webhook_secret(bytes(16))
