"""Where the demo runs its product, and how that product calls the demo."""

from pathlib import Path

import pytest

from sandbox.demo.options import OptionInvalid, Options
from sandbox.demo.venue import Venue


@pytest.fixture
def media(tmp_path: Path) -> str:
    path = tmp_path / "film.mp4"
    path.touch()
    return str(path)


@pytest.mark.parametrize(("given", "expected"), [({}, "local"), ({"DEMO_TARGET": "compose"}, "compose")])
def test_the_demo_runs_on_this_machine_unless_told_otherwise(
    media: str, given: dict[str, str], expected: str
) -> None:
    assert expected == Options.from_environment({"DEMO_MEDIA": media, **given}).target


def test_a_target_that_does_not_exist_is_refused_by_name(media: str) -> None:
    with pytest.raises(OptionInvalid, match="DEMO_TARGET: 'cloud' is none of local, compose"):
        Options.from_environment({"DEMO_MEDIA": media, "DEMO_TARGET": "cloud"})


def test_containers_call_us_by_the_name_of_their_host_and_processes_by_our_address() -> None:
    url = "http://172.17.0.1:4000/live/master.m3u8"
    inside = Venue("http://api", "amqp://broker", farewell="", host="host.docker.internal")
    assert "http://host.docker.internal:4000/live/master.m3u8" == inside.seen(url)
    assert url == Venue("http://api", "amqp://broker", farewell="").seen(url)
