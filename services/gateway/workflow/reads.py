"""Where reads go: to the primary or, where there is one, first to a replica, which may lag behind or be away.

What a replica does not find, or cannot answer, the primary is asked for; so nothing is refused because of a replica.
"""

from collections.abc import Awaitable, Callable
from typing import ClassVar, Generic, Protocol, TypeVar

import structlog

from gateway.workflow.absence import Absence
from shared import metrics
from shared.errors import RetryableError
from shared.ids import OrganizationId

log = structlog.get_logger()

TablesT = TypeVar("TablesT")
TablesT_co = TypeVar("TablesT_co", covariant=True)
FoundT = TypeVar("FoundT")


class ReplicaUnavailable(RetryableError):
    """The replica does not answer, not in time, or not as the primary would."""

    code: ClassVar[str] = "replica_unavailable"


class Reader(Protocol[TablesT_co]):
    """Runs `look` in a transaction of one organization. It writes nothing, for it may be run a second time."""

    async def __call__(
        self, organization_id: OrganizationId, look: Callable[[TablesT_co], Awaitable[FoundT]]
    ) -> FoundT: ...


class ReplicaFirst(Generic[TablesT]):
    """Asks the primary for what the replica answers with None, and for everything while the replica is away."""

    def __init__(self, replica: Reader[TablesT], primary: Reader[TablesT], *, absence: Absence) -> None:
        """`replica` raises ReplicaUnavailable."""
        self._replica = replica
        self._primary = primary
        self._absence = absence

    async def __call__(
        self, organization_id: OrganizationId, look: Callable[[TablesT], Awaitable[FoundT]]
    ) -> FoundT:
        found = await self._from_replica(organization_id, look)
        return await self._primary(organization_id, look) if found is None else found

    async def _from_replica(
        self, organization_id: OrganizationId, look: Callable[[TablesT], Awaitable[FoundT]]
    ) -> FoundT | None:
        if not self._absence.permits_try():
            metrics.replica_reads.labels("left_aside").inc()
            return None
        try:
            found = await self._replica(organization_id, look)
        except ReplicaUnavailable as error:
            self._leave_aside(error)
            return None
        if self._absence.end():
            log.info("replica_back")
        metrics.replica_reads.labels("not_found" if found is None else "answered").inc()
        return found

    def _leave_aside(self, error: ReplicaUnavailable) -> None:
        metrics.replica_reads.labels("failed").inc()
        if self._absence.begin():
            log.warning("replica_left_aside", reason=str(error))
