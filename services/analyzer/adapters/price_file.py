"""Prices from a YAML file, ours or the operator's."""

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, ClassVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from analyzer.domain.gemini.prices import Price, PriceList
from shared.errors import PermanentError

PACKAGED = Path(__file__).resolve().parents[1] / "prices" / "gemini.yaml"

Dollars = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]


class PricesInvalid(PermanentError):
    """The file is missing or no price list; the message says where."""

    code: ClassVar[str] = "prices_invalid"


class _Price(BaseModel):
    model_config = ConfigDict(extra="forbid")

    input_usd: Dollars
    output_usd: Dollars
    until: date | None = None


class _File(BaseModel):
    """Source and day of reading are for people, and must be there."""

    source: str
    read_on: date
    models: dict[str, list[_Price]]


def read_prices(path: Path) -> PriceList:
    """Raises PricesInvalid."""
    try:
        found = _File.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise PricesInvalid(f"{path}: {error}") from error
    return PriceList(
        {
            model: tuple(Price(each.input_usd, each.output_usd, each.until) for each in prices)
            for model, prices in found.models.items()
        }
    )
