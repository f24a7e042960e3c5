"""The archived media that the selector holds."""

from selector.domain.archive import Archive, Stretch
from tests.unit.selector.run_builder import segment, segments, us


def test_a_segment_of_two_overlapping_windows_is_held_once() -> None:
    archive = Archive().with_segments(segments(4, 10)).with_segments(segments(0, 6))
    assert archive.segments == segments(0, 10)


def test_contiguous_segments_are_one_stretch_that_may_still_grow() -> None:
    assert Archive().with_segments(segments(0, 10)).stretches() == (Stretch(0, us(10), open_ended=True),)


def test_a_hole_parts_two_stretches() -> None:
    archive = Archive().with_segments((*segments(0, 4), *segments(6, 10)))
    assert archive.stretches() == (
        Stretch(0, us(4), open_ended=False),
        Stretch(us(6), us(10), open_ended=True),
    )


def test_a_discontinuity_or_a_new_epoch_parts_two_stretches() -> None:
    cut = Archive().with_segments((segment(0), segment(2, cut=True)))
    renumbered = Archive().with_segments((segment(0), segment(2, epoch=1)))
    assert (len(cut.stretches()), len(renumbered.stretches())) == (2, 2)


def test_a_peak_on_a_border_belongs_to_the_stretch_that_holds_more_of_the_moment() -> None:
    archive = Archive().with_segments((segment(0), segment(2, cut=True)))
    before = archive.stretch_of(start_us=us(0), end_us=us(2), peak_us=us(2))
    after = archive.stretch_of(start_us=us(2), end_us=us(4), peak_us=us(2))
    assert (before, after) == (archive.stretches()[0], archive.stretches()[1])


def test_an_instant_in_a_hole_has_no_stretch() -> None:
    archive = Archive().with_segments((segment(0), segment(6)))
    assert archive.stretch_of(start_us=us(3), end_us=us(5), peak_us=us(4)) is None


def test_covering_gives_every_segment_that_shares_media_and_no_other() -> None:
    archive = Archive().with_segments(segments(0, 20))
    assert archive.covering(us(4), us(8)) == segments(4, 8)
    assert archive.covering(us(5), us(8) + 1) == segments(4, 10)


def test_media_and_snap_points_before_the_horizon_are_forgotten() -> None:
    archive = Archive().with_segments(segments(0, 10)).with_snap_points((us(1), us(5)))
    kept = archive.without_before(us(5))
    assert (kept.segments, kept.snap_points_us) == (segments(4, 10), (us(5),))
