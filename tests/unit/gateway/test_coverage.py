from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.coverage import Span, coverage_pct, outside, union_us

SPANS = st.lists(
    st.builds(Span, st.integers(min_value=0, max_value=200), st.integers(min_value=0, max_value=200)),
    max_size=20,
)


def test_windows_that_overlap_are_counted_once() -> None:
    assert union_us([Span(0, 20), Span(15, 35), Span(30, 40)]) == 40


def test_a_span_inside_another_adds_nothing() -> None:
    assert union_us([Span(0, 100), Span(10, 20), Span(90, 100)]) == 100


def test_holes_between_spans_are_not_covered() -> None:
    assert union_us([Span(50, 60), Span(0, 10)]) == 20


@given(SPANS)
def test_the_union_is_the_number_of_distinct_microseconds(spans: list[Span]) -> None:
    counted = {instant for span in spans for instant in range(span.start_us, span.end_us)}

    assert union_us(spans) == len(counted)


def test_everything_analysed_is_a_hundred_percent() -> None:
    assert coverage_pct([Span(0, 15_000_000), Span(10_000_000, 20_000_000)], offered_us=20_000_000) == 100.0


def test_a_missing_microsecond_is_not_rounded_away() -> None:
    assert coverage_pct([Span(0, 99_999_999)], offered_us=100_000_000) == 99.99


def test_more_analysed_than_offered_stays_at_a_hundred_percent() -> None:
    assert coverage_pct([Span(0, 21)], offered_us=20) == 100.0


def test_there_is_no_share_of_nothing() -> None:
    assert coverage_pct([], offered_us=0) is None


def test_what_lies_outside_of_holes_is_left() -> None:
    spans = (Span(0, 10), Span(20, 30))

    assert (Span(0, 4), Span(6, 10), Span(25, 30)) == outside(spans, (Span(4, 6), Span(15, 25)))
    assert () == outside(spans, (Span(0, 40),))
    assert spans == outside(spans, ())


@given(SPANS, SPANS)
def test_what_is_left_and_the_holes_are_all_and_share_nothing(spans: list[Span], holes: list[Span]) -> None:
    left = outside(spans, holes)

    assert union_us([*left, *holes]) == union_us([*spans, *holes])
    assert union_us(left) + union_us(holes) == union_us([*left, *holes])
