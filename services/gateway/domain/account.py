"""What a registration must bring: an address, a password that is hard to guess, a company."""

import re

from gateway.domain.refusals import Unacceptable

MIN_PASSWORD = 10
MAX_PASSWORD = 200
MAX_EMAIL = 254
_EMAIL = re.compile(r"[^@\s\"<>()\[\],;:\\]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,63}")
_KINDS = (re.compile(r"[a-z]"), re.compile(r"[A-Z]"), re.compile(r"[0-9]"), re.compile(r"[^A-Za-z0-9]"))
_LEAST_KINDS = 3
_LONG_PASSPHRASE = 16
_LEAST_DISTINCT = 6


def normalised_email(text: str) -> str:
    """The address in lower case, by which an account is found. Raises Unacceptable."""
    email = text.strip().lower()
    if len(email) > MAX_EMAIL or ".." in email or not _EMAIL.fullmatch(email):
        raise Unacceptable("The email address is not valid", field="email")
    return email


def check_password(password: str, *, email: str) -> None:
    """Raise Unacceptable unless the password is long and varied; a long passphrase needs no kinds."""
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise _weak(f"The password must have {MIN_PASSWORD} to {MAX_PASSWORD} characters")
    if len(set(password)) < _LEAST_DISTINCT:
        raise _weak("The password repeats too few characters")
    if email.partition("@")[0] in password.lower():
        raise _weak("The password must not contain the email address")
    kinds = sum(1 for kind in _KINDS if kind.search(password))
    if len(password) < _LONG_PASSPHRASE and kinds < _LEAST_KINDS:
        raise _weak(
            "The password must mix three of lower case, upper case, digits and others, or be a long phrase"
        )


def _weak(message: str) -> Unacceptable:
    return Unacceptable(message, field="password")
