"""What each service of a private installation is told: addresses, ports, secrets, folders."""

import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from localcluster.ports import claim_port
from shared.bootstrap import Roles, service_url
from shared.contract import SERVICES

# Requests per hour: whoever watches a stream asks twice a second.
RATE_LIMIT = 10_000


def _fernet_key() -> str:
    return urlsafe_b64encode(secrets.token_bytes(32)).decode()


@dataclass(frozen=True)
class Installation:
    """One installation of the product on this machine; its secrets are made anew each time."""

    rabbitmq_url: str
    database_admin_url: str
    folder: Path
    roles: Roles = field(default_factory=Roles)
    role_password: str = field(default_factory=lambda: secrets.token_hex(16))
    url_signing_secret: str = field(default_factory=lambda: secrets.token_hex(32))
    keyring: str = field(default_factory=_fernet_key)
    outbound_allow: tuple[str, ...] = ()
    api_port: int = field(default_factory=claim_port)
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def objects(self) -> Path:
        return self.folder / "objects"

    def environment(self, service: str) -> dict[str, str]:
        """The variables of one replica; its ops port is chosen here."""
        return {
            "DATABASE_URL": service_url(self.database_admin_url, self.roles, service, self.role_password),
            "RABBITMQ_URL": self.rabbitmq_url,
            "OPS_PORT": str(claim_port()),
            "HTTP_PORT": str(self.api_port),
            "OBJECT_STORE_FOLDER": str(self.objects),
            "PUBLIC_BASE_URL": self.api_url,
            "URL_SIGNING_SECRET": self.url_signing_secret,
            "SECRETS_KEYRING": self.keyring,
            "OUTBOUND_ALLOW": ",".join(self.outbound_allow),
            "SCRATCH_FOLDER": str(self.folder / "scratch" / service),
            "SPOOL_FOLDER": str(self.folder / "spool"),
            "REPAIR_FOLDER": str(self.folder / "repairs"),
            "DEFAULT_RATE_LIMIT": str(RATE_LIMIT),
            **self.extra,
        }

    def environments(self) -> dict[str, dict[str, str]]:
        return {service: self.environment(service) for service in SERVICES}
