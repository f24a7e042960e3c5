"""Addresses and passwords of a registration."""

import pytest

from gateway.domain.account import check_password, normalised_email
from gateway.domain.refusals import Unacceptable

EMAIL = "someone@example.com"


@pytest.mark.parametrize("text", ["A@Example.com", " a@example.com ", "a.b+c@mail.example.co.uk"])
def test_addresses_are_folded_to_lower_case(text: str) -> None:
    assert normalised_email(text) == text.strip().lower()


@pytest.mark.parametrize(
    "text", ["", "a", "a@", "@b.c", "a@b", "a b@example.com", "a@exa mple.com", "a..b@example.com", "a@-"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(Unacceptable) as refusal:
        normalised_email(text)
    assert refusal.value.field == "email"


@pytest.mark.parametrize("password", ["Correct-horse-42", "Abcdef1234", "correct horse battery staple"])
def test_long_and_varied_passwords_are_accepted(password: str) -> None:
    check_password(password, email=EMAIL)


@pytest.mark.parametrize(
    "password", ["", "Ab1!", "aaaaaaaaaaaaaaaaaaaa", "abcdefghij", "1234567890ab", "Someone-1234", "x" * 201]
)
def test_weak_passwords_are_refused(password: str) -> None:
    with pytest.raises(Unacceptable) as refusal:
        check_password(password, email=EMAIL)
    assert refusal.value.field == "password"
