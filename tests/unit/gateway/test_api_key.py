"""The text form of API keys, and how long they may live."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.api_key import ENTROPY_BYTES, MAX_LIFE, checked_expiry, matches, mint, parse
from gateway.domain.refusals import Unacceptable
from shared.logs import SECRET_TEXT

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
ENTROPY = bytes(range(ENTROPY_BYTES))


@given(st.binary(min_size=ENTROPY_BYTES, max_size=ENTROPY_BYTES))
def test_a_minted_key_is_read_back_in_its_two_parts(entropy: bytes) -> None:
    key = mint(entropy)

    assert parse(str(key)) == key
    assert matches(key, key.secret_hash())


def test_the_form_is_the_documented_one() -> None:
    text = str(mint(ENTROPY))

    prefix, env, key_id, secret = text.split("_")
    assert (prefix, env, key_id) == ("tldr", "live", "000102030405")
    assert len(secret) == 43 + 6


def test_a_changed_character_is_found_without_a_look_up() -> None:
    text = str(mint(ENTROPY))

    for at in range(len("tldr_live_"), len(text)):
        changed = text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :]
        assert parse(changed) is None


def test_other_texts_are_no_keys() -> None:
    for text in ("", "x", "tldr_live_", "tldr_test_000102030405_a", "Bearer abc", "tldr_live_é"):
        assert parse(text) is None


def test_another_secret_does_not_match() -> None:
    key, other = mint(ENTROPY), mint(bytes(ENTROPY_BYTES))

    assert not matches(other, key.secret_hash())


def test_the_secret_stands_neither_in_the_hash_nor_in_logs() -> None:
    key = mint(ENTROPY)

    assert key.secret not in key.secret_hash()
    assert key.secret not in SECRET_TEXT.sub("***", f"request with {key} failed")


def test_an_expiry_ahead_is_kept_in_utc() -> None:
    given_at = (NOW + timedelta(hours=1)).astimezone(timezone(timedelta(hours=5)))

    kept = checked_expiry(given_at, now=NOW)

    assert (kept, kept.tzinfo) == (NOW + timedelta(hours=1), UTC)


@pytest.mark.parametrize("expires_at", [NOW - timedelta(days=1), NOW, NOW + MAX_LIFE + timedelta(seconds=1)])
def test_an_expiry_that_is_over_or_out_of_reach_is_refused(expires_at: datetime) -> None:
    with pytest.raises(Unacceptable) as refusal:
        checked_expiry(expires_at, now=NOW)
    assert refusal.value.field == "expires_at"
