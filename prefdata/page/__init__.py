"""The page: one HTML file that shows a dataset, with its search, plots and pairs, and needs no network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefdata.page.writing import Page as Page
    from prefdata.page.writing import write_page as write_page

__all__ = ["Page", "write_page"]


def __getattr__(name: str) -> Any:
    # The command line imports this room for its help, which loads nothing heavy.
    if name in __all__:
        from prefdata.page import writing

        return getattr(writing, name)
    raise AttributeError(name)
