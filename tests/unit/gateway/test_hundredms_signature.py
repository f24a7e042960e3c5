"""100ms' HMAC over the raw body."""

import hmac

import pytest

from gateway.domain.hundredms_signature import is_signed, signature_of

BODY = b'{"type": "hls.started.success"}'
SECRET, OLDER = "the-auth-secret", "the-one-before"


def test_it_is_the_hex_hmac_sha256_of_the_body_without_a_prefix() -> None:
    assert signature_of(BODY, secret=SECRET) == hmac.new(SECRET.encode(), BODY, "sha256").hexdigest()


@pytest.mark.parametrize("secret", [SECRET, OLDER])
@pytest.mark.parametrize("written", ["{}", "sha256={}", " {} "])
def test_either_live_secret_may_have_signed(secret: str, written: str) -> None:
    signature = written.format(signature_of(BODY, secret=secret))

    assert is_signed(BODY, signature=signature, secrets=(SECRET, OLDER))
    assert is_signed(BODY, signature=signature.upper(), secrets=(SECRET, OLDER))


@pytest.mark.parametrize("signature", ["", "sha256=", "0" * 64, "schlüssel", signature_of(BODY, secret="x")])
def test_other_signatures_are_not_taken(signature: str) -> None:
    assert not is_signed(BODY, signature=signature, secrets=(SECRET, OLDER))


def test_one_byte_more_makes_it_another_body() -> None:
    assert not is_signed(BODY + b" ", signature=signature_of(BODY, secret=SECRET), secrets=(SECRET,))


def test_without_secrets_nothing_is_signed() -> None:
    assert not is_signed(BODY, signature=signature_of(BODY, secret=""), secrets=())
