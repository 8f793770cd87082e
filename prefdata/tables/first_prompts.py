"""`FirstPrompts`: the first different prompts of a table of scored answers, with all their answers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from prefdata.lazy import np, pl
from prefdata.tables.files import TableLike
from prefdata.tables.scored_rows import ROLES
from prefdata.tables.scored_table import ScoredTableFile, with_keys

__all__ = ["FirstPrompts"]

_BYTES = 32 << 20


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
        kept, masks = dict[int, None](), []
        for frame in super().frames(_BYTES):
            keys = with_keys(frame, has_ids=self.has_ids)["key"].to_list()
            for key in keys:
                if len(kept) == limit:
                    break
                kept[key] = None
            masks.append(np.fromiter((key in kept for key in keys), bool, len(keys)))
        self._kept = np.concatenate([np.zeros(0, bool), *masks])

    def frames(self, n_bytes: int, roles: Collection[str] = ROLES) -> Iterator[pl.DataFrame]:
        """Reads the rows that are kept: see `ScoredTableFile.frames`."""
        at = read = 0
        for frame in super().frames(n_bytes, roles):
            rows = frame.filter(pl.Series(self._kept[read : read + frame.height]))
            read += frame.height
            if rows.height:
                yield rows.drop("at").with_row_index("at", at)
                at += rows.height
