"""Where clips begin and end."""

from hypothesis import given
from hypothesis import strategies as st

from selector.domain.archive import Stretch
from selector.domain.boundaries import cut, wanted
from selector.domain.moment import Clip
from shared.profile import ClipRules
from tests.unit.selector.run_builder import moment, us

HOUR = Stretch(0, us(3600), open_ended=True)
RULES = ClipRules()


def _clip(start_s: float, end_s: float) -> Clip:
    return Clip(start_us=us(start_s), end_us=us(end_s))


def test_a_short_moment_is_extended_to_the_target_in_the_ratio_of_its_context() -> None:
    clip = wanted(moment(101, start_s=100, end_s=102), rules=RULES)
    assert (clip.end_us - clip.start_us, clip.start_us) == (us(30), us(84))


def test_without_context_the_extension_is_halved() -> None:
    clip = wanted(moment(101, start_s=100, end_s=102), rules=ClipRules(lead_in_us=0, lead_out_us=0))
    assert clip == _clip(86, 116)


def test_a_moment_as_long_as_the_target_still_gets_its_context() -> None:
    assert wanted(moment(110, start_s=100, end_s=130), rules=RULES) == _clip(96, 133)


def test_context_shrinks_before_the_moment_does() -> None:
    clip = wanted(moment(110, start_s=100, end_s=219), rules=RULES)
    assert (clip.end_us - clip.start_us) == us(120)
    assert clip.start_us <= us(100)
    assert clip.end_us >= us(219)


def test_a_moment_above_the_maximum_shrinks_around_its_peak() -> None:
    assert wanted(moment(150, start_s=100, end_s=300), rules=RULES) == _clip(120, 240)


def test_at_the_archives_start_the_clip_moves_instead_of_shrinking() -> None:
    assert cut(moment(2, start_s=1, end_s=3), stretch=HOUR, snap_points_us=(), rules=RULES) == _clip(0, 30)


def test_a_clip_never_crosses_the_stretch_that_holds_the_peak() -> None:
    stretch = Stretch(us(100), us(112), open_ended=False)
    assert cut(moment(105), stretch=stretch, snap_points_us=(), rules=RULES) == _clip(100, 112)


def test_edges_snap_to_the_nearest_point_within_reach() -> None:
    points = (us(83), us(84.5), us(113.1), us(116))
    clip = cut(moment(101, start_s=100, end_s=102), stretch=HOUR, snap_points_us=points, rules=RULES)
    assert clip == _clip(84.5, 113.1)


def test_an_edge_never_snaps_into_the_moment() -> None:
    rules = ClipRules(lead_in_us=us(1), lead_out_us=us(1), target_us=us(10))
    clip = cut(
        moment(110, start_s=100, end_s=130), stretch=HOUR, snap_points_us=(us(100.1), us(129.9)), rules=rules
    )
    assert clip == _clip(99, 131)


def test_snapping_does_not_exceed_the_maximum_or_fall_below_the_minimum() -> None:
    rules = ClipRules(target_us=us(30), minimum_us=us(30), maximum_us=us(30))
    free = cut(moment(101), stretch=HOUR, snap_points_us=(), rules=rules)
    points = (free.start_us - us(1), free.start_us + us(1), free.end_us - us(1), free.end_us + us(1))
    assert cut(moment(101), stretch=HOUR, snap_points_us=points, rules=rules) == free


@given(
    start_s=st.floats(0, 400),
    length_s=st.floats(0.001, 300),
    peak=st.floats(0, 1),
    before_s=st.floats(0, 200),
    after_s=st.floats(0.001, 200),
    snaps_s=st.lists(st.floats(0, 800), max_size=40),
    lead_s=st.tuples(st.floats(0, 30), st.floats(0, 30)),
    target_s=st.floats(10, 60),
)
def test_a_clip_lies_in_its_stretch_holds_its_peak_and_is_never_above_the_maximum(
    start_s: float,
    length_s: float,
    peak: float,
    before_s: float,
    after_s: float,
    snaps_s: list[float],
    lead_s: tuple[float, float],
    target_s: float,
) -> None:
    rules = ClipRules(
        target_us=us(target_s), maximum_us=us(60), lead_in_us=us(lead_s[0]), lead_out_us=us(lead_s[1])
    )
    held = moment(start_s + peak * length_s, start_s=start_s, end_s=start_s + length_s + 0.001)
    stretch = Stretch(max(0, held.peak_us - us(before_s)), held.peak_us + us(after_s), open_ended=True)
    clip = cut(held, stretch=stretch, snap_points_us=tuple(sorted(map(us, snaps_s))), rules=rules)
    assert stretch.start_us <= clip.start_us <= held.peak_us <= clip.end_us <= stretch.end_us
    assert 0 < clip.end_us - clip.start_us <= rules.maximum_us
    if stretch.end_us - stretch.start_us >= rules.target_us:
        assert clip.end_us - clip.start_us >= rules.minimum_us
