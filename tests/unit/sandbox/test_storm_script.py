"""Any seed of the storm gives a script that can be played, and always the same one."""

from sandbox.faults_timeline import plan
from sandbox.live_window import LiveSegment
from tests.faults.storm_script import storm_script

SEGMENTS = tuple(LiveSegment(f"{n}.ts", n * 2_000_000, 2_000_000) for n in range(50))


def test_any_seed_gives_a_script_that_can_be_played() -> None:
    for seed in range(50):
        for number in range(8):
            script = storm_script(seed, number, segments=50, length_s=100.0)
            assert script.faults
            assert 50 == len(plan(SEGMENTS, script=script).casts)


def test_the_same_seed_gives_the_same_storm() -> None:
    once, again, other = (storm_script(seed, 3, segments=50, length_s=100.0) for seed in (7, 7, 8))
    assert once == again != other
