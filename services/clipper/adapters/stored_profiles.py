"""Profiles from the object store. They are immutable under their keys, so the newest ones stay in memory."""

from collections import OrderedDict
from typing import ClassVar

from pydantic import ValidationError

from shared.errors import PermanentError
from shared.object_store import ObjectStore
from shared.profile import Profile

CACHED_MAX = 256


class ProfileInvalid(PermanentError):
    """What is stored under the key is not a profile."""

    code: ClassVar[str] = "profile_invalid"


class StoredProfiles:
    """Reads profiles by key and keeps the `CACHED_MAX` that were used last."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._cached: OrderedDict[str, Profile] = OrderedDict()

    async def get(self, key: str) -> Profile:
        """Raises ObjectMissing, StoreUnavailable, ProfileInvalid."""
        profile = self._cached.get(key) or _parse(key, await self._store.get(key))
        self._cached[key] = profile
        self._cached.move_to_end(key)
        if len(self._cached) > CACHED_MAX:
            self._cached.popitem(last=False)
        return profile


def _parse(key: str, body: bytes) -> Profile:
    try:
        return Profile.model_validate_json(body)
    except ValidationError as error:
        raise ProfileInvalid(f"{key} is not a profile: {error.error_count()} faults") from error
