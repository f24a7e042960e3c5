import pytest

from shared.keyring import Keyring, SecretUnreadable, generate_key

OLD, NEW = generate_key(), generate_key()


def test_a_secret_comes_back_for_the_place_it_was_made_for() -> None:
    ring = Keyring.from_text(OLD)
    token = ring.encrypt("whsec_ü", context="org1/webhook.secret")
    assert ring.decrypt(token, context="org1/webhook.secret") == "whsec_ü"
    assert "whsec" not in token


def test_a_token_that_was_moved_to_another_place_is_unreadable() -> None:
    ring = Keyring.from_text(OLD)
    token = ring.encrypt("secret", context="org1/webhook.secret")
    with pytest.raises(SecretUnreadable, match="another place"):
        ring.decrypt(token, context="org2/webhook.secret")


def test_the_first_key_encrypts_and_every_key_decrypts() -> None:
    token = Keyring.from_text(OLD).encrypt("secret", context="c")
    both = Keyring.from_text(f"{NEW},{OLD}")
    assert both.decrypt(token, context="c") == "secret"
    fresh = both.encrypt("secret", context="c")
    assert Keyring.from_text(NEW).decrypt(fresh, context="c") == "secret"


def test_rotation_moves_a_token_to_the_newest_key_and_keeps_its_place() -> None:
    token = Keyring.from_text(OLD).encrypt("secret", context="c")
    both = Keyring.from_text(f"{NEW}\n{OLD}\n")
    rotated = both.rotate(token)
    assert (both.needs_rotation(token), both.needs_rotation(rotated)) == (True, False)
    assert Keyring.from_text(NEW).decrypt(rotated, context="c") == "secret"


@pytest.mark.parametrize("token", ["", "ü", "gAAAA", "not a token"])
def test_a_broken_token_is_unreadable_and_not_another_error(token: str) -> None:
    ring = Keyring.from_text(OLD)
    with pytest.raises(SecretUnreadable):
        ring.decrypt(token, context="c")
    with pytest.raises(SecretUnreadable):
        ring.rotate(token)


def test_a_token_of_an_unknown_key_is_unreadable() -> None:
    token = Keyring.from_text(OLD).encrypt("secret", context="c")
    with pytest.raises(SecretUnreadable):
        Keyring.from_text(NEW).decrypt(token, context="c")


@pytest.mark.parametrize("text", ["", " , ", "short"])
def test_a_ring_without_a_good_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match="key") as caught:
        Keyring.from_text(text)
    assert "short" not in str(caught.value)
