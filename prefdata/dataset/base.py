"""`Layout`: turns pairs into the rows that a trainer reads."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from prefdata.lazy import pa
from prefdata.spec import JSON, Part
from prefdata.spec.marks import Harmless

__all__ = ["Layout"]


class Layout(Part):
    """Columns and splits of the published dataset.

    A prompt whose source assigns it to a split (`Prompt.split`) is published there; `test_size` is drawn among the
    others.
    """

    room: ClassVar[str] = "layout"

    test_size: Annotated[Annotated[int, Field(ge=0, strict=True)] | Annotated[float, Field(gt=0, lt=1)], Harmless] = 0
    """Prompts held out as the test split: a number of prompts, or a share of them. 0 makes no test split."""

    @property
    def config_name(self) -> str:
        """Names its configuration in `also`: the kind, or for the user's own class `MyRows` it is `own_my_rows`."""
        dumped = self.dump()
        if dumped["kind"] != "python":
            return str(dumped["kind"])
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(dumped["path"]).partition(":")[2]).lower()
        return f"own_{name}"

    @property
    def train_split(self) -> str:
        """Name of the published train split."""
        return "train"

    @property
    def test_split(self) -> str:
        """Name of the published test split."""
        return "test"

    @property
    def traced(self) -> bool:
        """Whether the rows have the trace of the rule's decision; if not, it is published as a table of its own."""
        return True

    @property
    def rows_per_pair(self) -> int:
        """Number of rows of a pair."""
        return 1

    def documents(self, name: str, splits: Sequence[str]) -> Mapping[str, JSON]:
        """Returns JSON files that readers of this layout want at the top of the dataset folder: file name → content.

        Args:
            name: name of the dataset.
            splits: the splits that have rows.
        """
        return {}

    @property
    def needs_answers(self) -> bool:
        """Whether `rows` reads all answers of a prompt, not only those of its pairs."""
        return False

    @abstractmethod
    def rows(self, pairs: pa.Table, prompts: pa.Table, answers: pa.Table | None = None) -> pa.Table:
        """Makes the rows of some pairs.

        Args:
            pairs: schema `prefdata.tables.schemas.PAIRS`.
            prompts: schema `prefdata.tables.schemas.PROMPTS`, at least the prompts of the pairs; joined by `prompt_id`.
            answers: schema `prefdata.tables.schemas.ANSWERS`, sorted by (`prompt_id`, `source`, `index`), at least the
                answers to the prompts of the pairs; never None where `needs_answers` is true.

        Returns:
            `rows_per_pair` rows for each pair, in the order of `pairs`, always of the same schema, with a column
            `prompt_id`.
        """
