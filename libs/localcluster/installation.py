"""Sets up a private installation on running servers: roles, schemas, migrations, topology."""

import asyncio

from localcluster.environment import Installation
from shared import bootstrap, migrate, topology


async def set_up(installation: Installation, *, settle_s: float = topology.SETTLE_S) -> None:
    """The order of every deployment: bootstrap, then migrations and topology; then the services may start."""
    await bootstrap.set_up(
        installation.database_admin_url, roles=installation.roles, password=installation.role_password
    )
    await asyncio.gather(
        migrate.upgrade_all(installation.database_admin_url, roles=installation.roles),
        topology.set_up(installation.rabbitmq_url, settle_s=settle_s),
    )
