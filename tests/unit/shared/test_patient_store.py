"""Quick retries: a short hiccup is not seen, a longer one is raised, and what cannot pass is not repeated."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shared.object_store import ObjectMissing, Stored, StoreRefused, StoreUnavailable
from shared.patient_store import ATTEMPTS, PatientObjectStore


@dataclass
class Flaky:
    """Fails as often as told, then answers."""

    failures: list[Exception] = field(default_factory=list)
    calls: int = 0

    async def get(self, key: str) -> bytes:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return key.encode()

    async def put(self, key: str, body: bytes, *, content_type: str | None = None) -> Stored:
        await self.get(key)
        return Stored(key, len(body), "0" * 64)

    async def get_file(self, key: str, path: Path) -> Stored:
        await self.get(key)
        return Stored(key, 0, "0" * 64)


def patient(store: Flaky) -> PatientObjectStore:
    return PatientObjectStore(store, first_wait_s=0)  # type: ignore[arg-type]


async def test_a_hiccup_is_not_seen() -> None:
    store = Flaky([StoreUnavailable("reset"), StoreUnavailable("reset")])
    assert b"a" == await patient(store).get("a")
    assert 3 == store.calls


async def test_an_outage_is_raised_after_the_last_attempt() -> None:
    store = Flaky([StoreUnavailable("away")] * 10)
    with pytest.raises(StoreUnavailable):
        await patient(store).put("a", b"body")
    assert ATTEMPTS == store.calls


async def test_a_refusal_is_not_repeated_at_once() -> None:
    store = Flaky([StoreRefused("forbidden")])
    with pytest.raises(StoreRefused):
        await patient(store).get("a")
    assert 1 == store.calls


async def test_what_is_missing_is_not_asked_for_again() -> None:
    store = Flaky([ObjectMissing("a")])
    with pytest.raises(ObjectMissing):
        await patient(store).get_file("a", Path("b"))
    assert 1 == store.calls
