"""The database's own word on tenancy: forced row-level security, roles that own nothing, settings that end."""

import asyncpg
import pytest
from sqlalchemy import text

from shared.bootstrap import set_up
from shared.contract import SERVICES
from shared.database import Database, DatabaseUnavailable, set_tenant
from shared.ids import OrganizationId
from shared.migrate import upgrade_all
from tests.conftest import PASSWORD, Installation

# These cross tenants by design: they hold ids and payloads, behind the service's own role.
ACROSS_TENANTS = {"inbox", "outbox", "leases", "repair_jobs"}


async def fetch(url: str, query: str, *arguments: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        return list(await connection.fetch(query, *arguments))
    finally:
        await connection.close()


TENANT_TABLES = """
    SELECT n.nspname AS schema, c.relname AS name, c.relrowsecurity AND c.relforcerowsecurity AS forced
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'organization_id'
    WHERE n.nspname = ANY($1) AND c.relkind IN ('r', 'p') AND NOT c.relispartition
"""


async def test_every_table_with_a_tenant_has_forced_row_level_security(installation: Installation) -> None:
    rows = await fetch(installation.admin_url, TENANT_TABLES, list(SERVICES))
    assert len(rows) > 10
    open_tables = {f"{row['schema']}.{row['name']}" for row in rows if not row["forced"]}
    assert set() == {name for name in open_tables if name.partition(".")[2] not in ACROSS_TENANTS}


async def test_no_service_role_owns_anything_or_bypasses_anything(installation: Installation) -> None:
    roles = [installation.roles.service(service) for service in SERVICES]
    owned = "SELECT c.relname FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE r.rolname = ANY($1)"
    assert [] == await fetch(installation.admin_url, owned, roles)
    strong = "SELECT bool_or(rolsuper OR rolbypassrls OR rolcreaterole) AS strong FROM pg_roles "
    [row] = await fetch(installation.admin_url, f"{strong} WHERE rolname = ANY($1)", roles)
    assert not row["strong"]


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_reads_no_other_schema(installation: Installation, service: str) -> None:
    other = next(name for name in SERVICES if name != service)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await fetch(installation.database_url(service), f"SELECT 1 FROM {other}.inbox")


async def test_a_tenant_setting_ends_with_its_transaction(installation: Installation) -> None:
    database = Database(installation.database_url("selector"), schema="selector", pool_size=1)
    current = text("SELECT current_setting('app.organization_id', true)")
    try:
        async with database.transaction(OrganizationId("org_a")) as session:
            assert "org_a" == (await (await session.connection()).execute(current)).scalar_one()
        async with database.transaction() as session:
            assert not (await (await session.connection()).execute(current)).scalar_one()
    finally:
        await database.close()


async def test_two_tenants_on_one_connection_never_see_each_other(installation: Installation) -> None:
    database = Database(installation.database_url("selector"), schema="selector", pool_size=1)
    insert = text(
        "INSERT INTO closed_streams (stream_id, organization_id, cause) VALUES (:stream, :organization, 'test')"
    )
    count = text("SELECT organization_id FROM closed_streams")
    try:
        for name in ("org_a", "org_b"):
            async with database.transaction(OrganizationId(name)) as session:
                connection = await session.connection()
                await connection.execute(insert, {"stream": f"str_{name}", "organization": name})
        for _ in range(50):
            for name in ("org_a", "org_b"):
                async with database.transaction(OrganizationId(name)) as session:
                    assert [name] == list((await (await session.connection()).execute(count)).scalars())
        async with database.transaction() as session:
            assert [] == list((await (await session.connection()).execute(count)).scalars())
    finally:
        await database.close()


async def test_a_row_of_another_tenant_cannot_be_written(installation: Installation) -> None:
    connection = await asyncpg.connect(installation.database_url("selector"))
    try:
        await connection.execute("SET search_path = selector")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            async with connection.transaction():
                await connection.execute("SELECT set_config('app.organization_id', 'org_a', true)")
                await connection.execute("INSERT INTO closed_streams VALUES ('str_1', 'org_b', 'test')")
    finally:
        await connection.close()


async def test_bootstrap_and_migrations_run_again_without_change(installation: Installation) -> None:
    await set_up(installation.admin_url, roles=installation.roles, password=PASSWORD)
    await upgrade_all(installation.admin_url, roles=installation.roles)
    for service in SERVICES:
        [row] = await fetch(installation.admin_url, f"SELECT count(*) AS n FROM {service}.alembic_version")
        assert 1 == row["n"]


async def test_a_database_that_is_away_is_one_retryable_error() -> None:
    database = Database("postgresql://a:b@127.0.0.1:1/none", schema="selector")
    try:
        with pytest.raises(DatabaseUnavailable):
            await database.ping()
    finally:
        await database.close()


async def test_a_single_statement_meets_the_same_error_and_leaves_its_connection_to_transactions(
    installation: Installation,
) -> None:
    away = Database("postgresql://a:b@127.0.0.1:1/none", schema="selector")
    database = Database(installation.database_url("selector"), schema="selector", pool_size=1)
    try:
        with pytest.raises(DatabaseUnavailable):
            async with away.autocommit():
                pass
        async with database.autocommit() as connection:
            await connection.execute(text("UPDATE broker_epoch SET epoch = 'kept'"))
        with pytest.raises(LookupError):
            async with database.transaction() as session:
                changed = text("UPDATE broker_epoch SET epoch = 'rolled back'")
                await (await session.connection()).execute(changed)
                raise LookupError
        async with database.autocommit() as connection:
            assert "kept" == (await connection.execute(text("SELECT epoch FROM broker_epoch"))).scalar_one()
    finally:
        await away.close()
        await database.close()


async def test_a_cut_connection_is_the_same_error(installation: Installation) -> None:
    database = Database(installation.database_url("selector"), schema="selector", pool_size=1)
    try:
        with pytest.raises(DatabaseUnavailable):
            async with database.transaction() as session:
                connection = await session.connection()
                pid = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
                await fetch(installation.admin_url, "SELECT pg_terminate_backend($1)", pid)
                await connection.execute(text("SELECT 1"))
        await database.ping()
    finally:
        await database.close()


async def test_old_partitions_go_when_all_in_them_is_done_and_stay_otherwise(
    installation: Installation,
) -> None:
    for day, published in (("20200101", "now()"), ("20200102", "NULL")):
        await fetch(
            installation.admin_url,
            f"CREATE TABLE selector.outbox_{day} PARTITION OF selector.outbox "
            f"FOR VALUES FROM ('{day}') TO (date '{day}' + 1)",
        )
        await fetch(
            installation.admin_url,
            "INSERT INTO selector.outbox (event_id, event_name, day, lane, body, published_at) "
            f"VALUES (gen_random_uuid(), 'x', '{day}', 'live', '{{}}', {published})",
        )
    await fetch(
        installation.admin_url, f'ALTER TABLE selector.outbox_20200101 OWNER TO "{installation.roles.owner}"'
    )
    await fetch(
        installation.admin_url, f'ALTER TABLE selector.outbox_20200102 OWNER TO "{installation.roles.owner}"'
    )
    await fetch(installation.database_url("selector"), "SELECT selector.maintain_partitions()")
    rows = await fetch(
        installation.admin_url, "SELECT relname FROM pg_class WHERE relname LIKE 'outbox_2020%' ORDER BY 1"
    )
    assert ["outbox_20200102", "outbox_20200102_pkey"] == [
        row["relname"] for row in rows if "seq" not in row["relname"] and "published" not in row["relname"]
    ]


async def test_the_tenant_is_set_once_for_the_rest_of_a_transaction(installation: Installation) -> None:
    database = Database(installation.database_url("selector"), schema="selector", pool_size=1)
    try:
        async with database.transaction() as session:
            await set_tenant(session, OrganizationId("org_c"))
            found = await (await session.connection()).execute(
                text("SELECT current_setting('app.organization_id', true)")
            )
            assert "org_c" == found.scalar_one()
    finally:
        await database.close()
