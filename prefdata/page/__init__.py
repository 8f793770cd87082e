"""The page: one HTML file that shows a dataset, with its search, plots and pairs, and needs no network."""

from __future__ import annotations

from prefdata.page.writing import Page, write_page

__all__ = ["Page", "write_page"]
