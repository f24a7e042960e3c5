"""Pages of a list: numbered from 1, of a bounded size."""

from dataclasses import dataclass
from typing import Generic, TypeVar

MAX_PER_PAGE = 100
MAX_PAGE = 100_000
ItemT = TypeVar("ItemT")


@dataclass(frozen=True)
class PageRequest:
    page: int = 1
    per_page: int = 10

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.per_page


@dataclass(frozen=True)
class Page(Generic[ItemT]):
    """Items of one page, and how many there are on all pages."""

    items: tuple[ItemT, ...]
    total: int
    request: PageRequest
