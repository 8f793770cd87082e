"""Defines `HubPrompts`, which reads the prompts of one split of a dataset on the Hub."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field

from prefdata import hub
from prefdata.prompts._rows import TablePrompts
from prefdata.spec import JSON, Context
from prefdata.spec.marks import DATASET, REVISION, Harmless

__all__ = ["HubPrompts"]


class HubPrompts(TablePrompts):
    """Reads one split of a dataset on the Hub, always at a commit."""

    kind: Literal["hub"] = "hub"
    dataset: Annotated[str, DATASET, Field(pattern=hub.REPO_ID)]
    """Repository, for example `HuggingFaceH4/ultrafeedback_binarized`."""
    config: Annotated[str | None, Harmless] = None
    """Named configuration; None takes the dataset's default."""
    split: Annotated[str, Harmless] = "train"
    """Split, or an expression of splits in the syntax of `datasets` (`train[:1000]`)."""
    revision: Annotated[str | None, REVISION] = None
    """Branch, tag or commit SHA; None takes the main branch. The lock keeps the commit."""

    def pins(self) -> dict[str, JSON]:
        """Returns the commit SHA of `revision` now."""
        return {**super().pins(), "sha": hub.resolve_dataset(self.dataset, self.revision)}

    def _table(self, context: Context) -> tuple[str, Iterable[dict[str, Any]]]:
        sha = context.pins.get("sha") or hub.resolve_dataset(self.dataset, self.revision)
        name = f"{self.dataset}/{self.config}" if self.config else self.dataset
        unread = self._asked().unread()
        table = hub.dataset_table(self.dataset, self.config, self.split, sha)
        return f"{name}, {self.split}", table.rows(only=self._columns(), optional=unread)
