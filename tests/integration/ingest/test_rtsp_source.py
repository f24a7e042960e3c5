"""RTSP becomes segments: with the camera's own address and password, neither of which FFmpeg knows."""

import asyncio
from pathlib import Path
from urllib.parse import quote

import pytest

from ingest.domain.actions import FailureKind
from ingest.workflow.ports import FetchFailed
from sandbox.film import make_film, read_frame_numbers
from shared.media_runner import Sandbox
from tests.integration.ingest.file_server import workbench
from tests.integration.ingest.rtsp_camera import PASSWORD, USER, RtspCamera
from tests.integration.ingest.test_push_source import FILM_S, push, read_pushed

pytestmark = pytest.mark.needs_ffmpeg


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", duration_s=FILM_S)


@pytest.mark.faults
async def test_a_camera_with_a_password_is_read_frame_by_frame(film: Path, tmp_path: Path) -> None:
    async with workbench(tmp_path) as bench, RtspCamera(film, has_password=True) as camera:
        login = f"{USER}:{quote(PASSWORD)}@"
        read = await read_pushed(push(bench, f"rtsp://127.0.0.1:{camera.port}/live", login=login))
    numbers = [number for _, number in read_frame_numbers(read.write(tmp_path / "read.mp4"))]
    assert list(range(FILM_S * 25)) == numbers
    own = f"rtsp://127.0.0.1:{camera.port}/live"
    assert all(own in request for request in camera.heard)


async def test_a_camera_that_wants_a_password_is_told_of(film: Path, tmp_path: Path) -> None:
    async with workbench(tmp_path) as bench, RtspCamera(film, has_password=True) as camera:
        source = push(bench, f"rtsp://127.0.0.1:{camera.port}/live")
        with pytest.raises(FetchFailed) as caught:
            await source.playlist(from_sequence=0)
        await source.close()
    assert FailureKind.REFUSED is caught.value.failure.kind
    assert "login" in caught.value.failure.detail


@pytest.mark.parametrize(("moved", "words"), [("302 Moved", "redirects"), (" 302 Moved", "not RTSP")])
async def test_a_redirection_is_never_followed(moved: str, words: str, film: Path, tmp_path: Path) -> None:
    """Without a sandbox, where FFmpeg could get there; it takes replies for redirections that are none by the book."""
    hits: list[object] = []
    canary = await asyncio.start_server(lambda _, writer: hits.append(writer), "127.0.0.1", 0)
    elsewhere = f"rtsp://127.0.0.1:{canary.sockets[0].getsockname()[1]}/x"
    async with (
        canary,
        workbench(tmp_path, sandbox=Sandbox.LIMITS_ONLY) as bench,
        RtspCamera(film, redirect=elsewhere, moved=moved) as camera,
    ):
        source = push(bench, f"rtsp://127.0.0.1:{camera.port}/live")
        with pytest.raises(FetchFailed) as caught:
            await source.playlist(from_sequence=0)
        await source.close()
    assert words in caught.value.failure.detail
    assert [] == hits
