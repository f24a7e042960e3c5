"""What a new stream leaves in the object store before its row is written: the profile, once."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.adapters.profile_files import default_profile
from gateway.domain.stream_options import StreamOptions
from gateway.workflow.intake import Intake, StreamRequest
from shared.keyring import Keyring, generate_key
from shared.object_store import FolderObjectStore
from tests.builders import ORGANIZATION
from tests.object_stores import NOW, folder_store


@pytest.fixture
def store(tmp_path: Path) -> FolderObjectStore:
    return folder_store(tmp_path)


async def profile_key_of(store: FolderObjectStore) -> str:
    """Of a stream that a gateway took which remembers no profile yet."""
    intake = Intake(
        store=store,
        basis=default_profile(),
        keyring=Keyring.from_text(generate_key()),
        clock=lambda: NOW,
        entropy=bytes,
        allowed=frozenset(),
        start_deadline_s=60,
    )
    request = StreamRequest(source_url="https://cdn.example.com/live.m3u8", options=StreamOptions())
    return (await intake.prepare(request, organization_id=ORGANIZATION)).profile_key


async def test_two_gateways_write_the_same_profile_once(store: FolderObjectStore) -> None:
    key = await profile_key_of(store)
    written = store.file_of(key).stat()
    assert key == await profile_key_of(store)
    assert written == store.file_of(key).stat()


async def test_a_damaged_profile_is_repaired_and_told_and_the_stream_is_taken(
    store: FolderObjectStore,
) -> None:
    key = await profile_key_of(store)
    whole = await store.get(key)
    await store.put(key, b"damaged")
    with capture_logs() as logs:
        assert key == await profile_key_of(store)
    assert whole == await store.get(key)
    assert [("profile_object_differs", key)] == [(line["event"], line["key"]) for line in logs]
