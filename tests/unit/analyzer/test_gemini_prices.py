"""Prices as data: by day, rounded up, unknown where they are not listed; and the packaged list itself."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from analyzer.adapters.price_file import PACKAGED, PricesInvalid, read_prices
from analyzer.domain.analysis import Usage
from analyzer.domain.gemini.models import DEFAULT_MODEL
from analyzer.domain.gemini.prices import Price, PriceList

TODAY = date(2026, 11, 20)
LISTED = PriceList(
    {
        "m": (
            Price(Decimal("0.75"), Decimal("3.75"), until=date(2026, 12, 31)),
            Price(Decimal("1.50"), Decimal("7.50")),
        )
    }
)


@pytest.mark.parametrize(
    ("day", "cost"), [(TODAY, 1125), (date(2026, 12, 31), 1125), (date(2027, 1, 1), 2250)]
)
def test_the_price_of_the_day_counts(day: date, cost: int) -> None:
    usage = LISTED.priced(Usage(input_tokens=1000, output_tokens=100), models=("m",), on=day)

    assert (cost, True) == (usage.cost_microusd, usage.cost_known)


def test_a_part_of_a_millionth_is_rounded_up() -> None:
    assert 1 == LISTED.priced(Usage(input_tokens=1), models=("m",), on=TODAY).cost_microusd


def test_the_version_that_answered_counts_before_the_name_that_was_asked() -> None:
    usage = LISTED.priced(Usage(input_tokens=4), models=("m-002", "m"), on=TODAY)

    assert (3, True) == (usage.cost_microusd, usage.cost_known)


def test_an_unlisted_model_has_no_known_cost() -> None:
    usage = LISTED.priced(Usage(input_tokens=4), models=("n",), on=TODAY)

    assert not usage.cost_known


def test_sums_stay_unknown_where_one_part_is() -> None:
    known = LISTED.priced(Usage(input_tokens=4, calls=1), models=("m",), on=TODAY)
    unknown = Usage(input_tokens=4, calls=1, cost_known=False, input_by_modality=(("TEXT", 4),))

    total = known + unknown

    assert (8, 2, 3, False) == (total.input_tokens, total.calls, total.cost_microusd, total.cost_known)
    assert (("TEXT", 4),) == total.input_by_modality


def test_the_packaged_list_prices_the_default_model() -> None:
    price = read_prices(PACKAGED).price(DEFAULT_MODEL, on=TODAY)

    assert Price(Decimal("0.30"), Decimal("2.50")) == price


def test_the_last_price_of_every_packaged_model_has_no_end() -> None:
    models = read_prices(PACKAGED).models.values()

    assert all(prices[-1].until is None for prices in models)
    assert all(each.until is not None for prices in models for each in prices[:-1])


@pytest.mark.parametrize(
    "text",
    ["", "[", "models: {}", "source: s\nread_on: 2026-01-01\nmodels: {m: [{input_usd: -1, output_usd: 1}]}",
     "source: s\nread_on: 2026-01-01\nmodels: {m: [{input_usd: .nan, output_usd: 1}]}"],
)  # fmt: skip
def test_a_file_that_is_no_price_list_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(text)

    with pytest.raises(PricesInvalid):
        read_prices(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PricesInvalid):
        read_prices(tmp_path / "nowhere.yaml")
