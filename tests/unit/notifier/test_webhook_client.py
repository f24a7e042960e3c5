"""What of an answer goes into the log."""

from hypothesis import given
from hypothesis import strategies as st

from notifier.adapters.webhook_client import LOGGED_BYTES, logged_text
from shared.http_client import Response


def response(body: bytes) -> Response:
    return Response(status=200, url="https://customer.example", headers={}, body=body)


@given(body=st.binary(max_size=200))
def test_any_bytes_become_text_that_postgresql_takes(body: bytes) -> None:
    text = logged_text(response(body * 60))
    assert "\x00" not in text
    assert len(text.encode()) <= LOGGED_BYTES


def test_readable_text_stays_as_it_is() -> None:
    assert logged_text(response("Köln ⚽".encode())) == "Köln ⚽"
