"""`Layout`: how pairs become the rows that a consumer reads."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from prefdata.spec import Part

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Layout"]


class Layout(Part):
    """Columns and splits of the published dataset."""

    test_size: Annotated[int, Field(ge=0, strict=True)] | Annotated[float, Field(gt=0, lt=1)] = 0
    """Prompts held out as the `test` split: a number of prompts, or a share of them. 0 makes no test split."""

    @abstractmethod
    def rows(self, pairs: pa.Table, prompts: pa.Table) -> pa.Table:
        """The rows of some pairs.

        Args:
            pairs: schema `prefdata.tables.PAIRS`.
            prompts: schema `prefdata.tables.PROMPTS`, at least the prompts of the pairs; joined by `prompt_id`.

        Returns:
            One row for each pair, in the order of `pairs`, always of the same schema.
        """
