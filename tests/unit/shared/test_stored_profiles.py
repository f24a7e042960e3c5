"""Profiles from the store."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.object_store import FolderObjectStore, ObjectMissing
from shared.stored_profiles import ProfileInvalid, StoredProfiles
from tests.fakes.shared.stored_profiles import default_profile


@pytest.fixture
def store(tmp_path: Path) -> FolderObjectStore:
    return FolderObjectStore(
        tmp_path, public_base_url="http://test", signing_secret="s", clock=lambda: datetime.now(UTC)
    )


async def test_a_profile_is_read_once_and_then_remembered(store: FolderObjectStore) -> None:
    await store.put("profiles/a.json", default_profile().canonical_bytes())
    profiles = StoredProfiles(store)

    first = await profiles.get("profiles/a.json")
    await store.delete("profiles/a.json")

    assert await profiles.get("profiles/a.json") == first == default_profile()


async def test_a_missing_profile_and_one_that_is_none_are_told_apart(store: FolderObjectStore) -> None:
    await store.put("profiles/bad.json", b'{"name": 1}')
    profiles = StoredProfiles(store)

    with pytest.raises(ObjectMissing):
        await profiles.get("profiles/none.json")
    with pytest.raises(ProfileInvalid):
        await profiles.get("profiles/bad.json")
