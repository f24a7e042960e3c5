"""Given servers are used as they are; nothing is started here."""

from localcluster.cluster import LocalServers


def test_given_servers_are_used_and_none_is_started() -> None:
    environment = {"RABBITMQ_URL": "amqp://there/", "DATABASE_ADMIN_URL": "postgresql://there/db"}

    with LocalServers(environment=environment) as servers:
        folder = servers.folder
        urls = (servers.rabbitmq_url, servers.database_admin_url)
        own = (servers.rabbitmq, servers.postgres)

    assert urls == ("amqp://there/", "postgresql://there/db")
    assert own == (None, None)
    assert not folder.exists()
