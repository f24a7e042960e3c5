"""What a killed process left is removed, and what another one works on is not."""

import os
from datetime import timedelta
from pathlib import Path

from ingest.adapters.repair_folder import ABANDONED_AFTER, repair_folder
from shared.clock import utc_now


def test_only_what_was_abandoned_long_ago_is_removed(tmp_path: Path) -> None:
    now = utc_now()
    for name, age in (
        ("recording-old", ABANDONED_AFTER + timedelta(minutes=1)),
        ("recording-new", timedelta()),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recording.mp4").write_bytes(b"media")
        at_s = (now - age).timestamp()
        os.utime(tmp_path / name, (at_s, at_s))

    folder = repair_folder(str(tmp_path), now=now)

    assert ["recording-new"] == [each.name for each in folder.iterdir()]
