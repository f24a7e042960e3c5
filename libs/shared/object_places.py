"""Where in S3 an object lies: key to bucket and name there, a pure function; nothing here talks to a server.

Organizations share one bucket, each below its own folder, unless an organization was given a bucket of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from shared.keys import SHARED_ROOTS, organization_of


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket, and the name (or the beginning of names) in it."""

    bucket: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Buckets:
    """`prefix` stands before every name, in every bucket: empty, or with a slash at its end."""

    shared: str
    prefix: str = ""
    dedicated: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def place(self, key: str) -> Place:
        """Where the object with this key is written, and the only place where it is looked for."""
        owner = organization_of(key)
        bucket = self.shared if owner is None else self.dedicated.get(owner, self.shared)
        return Place(bucket, self.prefix + key)

    def places(self, prefix: str) -> tuple[Place, ...]:
        """Where objects may lie whose keys begin with this; more than one if it spans organizations."""
        if organization_of(prefix) is not None or prefix.partition("/")[0] in SHARED_ROOTS:
            return (self.place(prefix),)
        every = dict.fromkeys((self.shared, *self.dedicated.values()))
        return tuple(Place(bucket, self.prefix + prefix) for bucket in every)

    def key_in(self, place: Place) -> str | None:
        """The key of a name that was found in a bucket; None when keys of its kind lie elsewhere."""
        key = place.name.removeprefix(self.prefix)
        return key if self.place(key) == place else None
