"""Open bills: summed over attempts, taken once, bounded."""

from analyzer.domain.analysis import Usage
from analyzer.domain.bills import OPEN_MAX, Bill, Bills
from shared.ids import WindowId


def test_attempts_add_up_and_are_taken_once() -> None:
    bills = Bills()
    bills.add(WindowId("w"), provider="a", usage=Usage(calls=1))
    bills.add(WindowId("w"), provider="b", usage=Usage(calls=2))

    assert Bill("b", Usage(calls=3)) == bills.settle(WindowId("w"))
    assert bills.settle(WindowId("w")) is None


def test_windows_that_never_come_back_do_not_pile_up() -> None:
    bills = Bills()
    for at in range(OPEN_MAX + 1):
        bills.add(WindowId(f"w{at}"), provider="a", usage=Usage())

    assert bills.settle(WindowId("w0")) is None
    assert bills.settle(WindowId("w1")) is not None
