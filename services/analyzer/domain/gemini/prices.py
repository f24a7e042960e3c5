"""What tokens cost, by model and day. The numbers are data: see `prices/gemini.yaml`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import ROUND_CEILING, Decimal

from analyzer.domain.analysis import Usage


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens, which is millionths of a dollar per token. `until` is its last day."""

    input_usd: Decimal
    output_usd: Decimal
    until: date | None = None


@dataclass(frozen=True, slots=True)
class PriceList:
    """Prices by model in order of their `until`; each model's last price has none."""

    models: Mapping[str, tuple[Price, ...]]

    def price(self, model: str, *, on: date) -> Price | None:
        """None for a model that is not listed."""
        for price in self.models.get(model, ()):
            if price.until is None or on <= price.until:
                return price
        return None

    def priced(self, usage: Usage, *, models: tuple[str, ...], on: date) -> Usage:
        """The usage with its cost, by the first of these names that is listed; rounded up to a millionth.

        Unlisted models leave the cost unknown, which is not the same as free.
        """
        found = next(filter(None, (self.price(model, on=on) for model in models)), None)
        if found is None:
            return replace(usage, cost_known=False)
        cost = usage.input_tokens * found.input_usd + usage.output_tokens * found.output_usd
        return replace(usage, cost_microusd=int(cost.to_integral_value(ROUND_CEILING)))
