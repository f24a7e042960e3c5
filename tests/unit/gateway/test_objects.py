"""Objects by signed URL: served from a folder, and from nowhere here where they lie in S3."""

from pathlib import Path

import pytest

from gateway.domain.refusals import Forbidden, NotFound
from gateway.workflow.objects import FilesElsewhere, SignedObjects
from shared.object_store import sign
from tests.object_stores import NOW, folder_store

KEY = "clips/org_1/str_1/clip.mp4"
EXPIRES = int(NOW.timestamp()) + 60
SIGNATURE = sign(KEY, expires=EXPIRES, secret="secret")


def test_a_folder_tells_where_the_object_lies(tmp_path: Path) -> None:
    objects = SignedObjects(files=folder_store(tmp_path), secret="secret", clock=lambda: NOW)
    assert tmp_path / KEY == objects.file(KEY, expires=EXPIRES, signature=SIGNATURE)


def test_nothing_is_served_here_where_objects_lie_in_s3() -> None:
    objects = SignedObjects(files=FilesElsewhere(), secret="secret", clock=lambda: NOW)
    with pytest.raises(NotFound):
        objects.file(KEY, expires=EXPIRES, signature=SIGNATURE)
    with pytest.raises(Forbidden):
        objects.file(KEY, expires=EXPIRES, signature="0" * 64)
