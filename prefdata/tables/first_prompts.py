"""`FirstPrompts`: the first different prompts of a table of scored answers, with all their answers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from prefdata.lazy import pl
from prefdata.tables.files import TableLike
from prefdata.tables.scored_rows import MEASURED
from prefdata.tables.scored_table import ScoredTableFile, with_keys

__all__ = ["FirstPrompts"]

_BYTES = 32 << 20
_KEYED = ("prompt_id", "prompt")
"""The roles of which a prompt's key is made; a prompt's other parts are read with it."""


class FirstPrompts(ScoredTableFile):
    """A table that has only the rows of its first different prompts, wherever these rows are.

    Args:
        table: see `ScoredTableFile`.
        columns: see `ScoredTableFile`.
        limit: at most this many prompts, in the order of their first rows.

    Raises:
        InputError: see `ScoredTableFile`.
    """

    def __init__(self, table: TableLike, columns: Mapping[str, str] | None, limit: int) -> None:
        super().__init__(table, columns)
        kept = pl.Series(dtype=pl.UInt64)
        masks = [pl.Series(dtype=pl.Boolean)]
        for frame in super().frames(_BYTES, _KEYED):
            keys = with_keys(frame, has_ids=self.has_ids)["key"].cast(pl.UInt64)
            if len(kept) < limit:
                kept = pl.concat([kept, keys]).unique(maintain_order=True).head(limit)
            masks.append(keys.is_in(kept.implode()))
        self._kept = pl.concat(masks)

    def frames(self, n_bytes: int, roles: Collection[str] = MEASURED, *, sums: int = 1) -> Iterator[pl.DataFrame]:
        """Reads the rows that are kept: see `ScoredTableFile.frames`."""
        at = read = 0
        for frame in super().frames(n_bytes, roles, sums=sums):
            rows = frame.filter(self._kept[read : read + frame.height])
            read += frame.height
            if rows.height:
                yield rows.drop("at").with_row_index("at", at)
                at += rows.height
