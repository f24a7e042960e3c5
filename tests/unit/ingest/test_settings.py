"""Settings of ingest."""

from typing import Any

import pytest
from pydantic import ValidationError

from ingest.app import follower_policy
from ingest.settings import IngestSettings

REQUIRED: dict[str, Any] = {
    "database_url": "postgresql://u:p@host/db",
    "rabbitmq_url": "amqp://u:p@host/",
    "ops_port": 0,
    "object_store_folder": "objects",
    "url_signing_secret": "s" * 32,
    "secrets_keyring": "k",
}


def test_windows_are_20_s_with_4_s_of_overlap_by_default() -> None:
    plan = follower_policy(IngestSettings(**REQUIRED)).plan
    assert (20_000_000, 4_000_000) == (plan.target_us, plan.overlap_us)


def test_a_lease_must_outlast_two_renewals() -> None:
    with pytest.raises(ValidationError, match="RENEW_S"):
        IngestSettings(**REQUIRED, lease_s=3, renew_s=2)
