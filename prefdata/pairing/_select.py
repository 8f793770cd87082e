"""How one selection picks from a pool: among whom, by which keys, how many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from prefdata.lazy import pl

__all__ = ["Admission", "Ordering", "Steps", "select"]


class Admission(Protocol):
    """What a filter does."""

    def admits(self, pool: pl.DataFrame) -> pl.Series:
        """One boolean for each row."""


class Ordering(Protocol):
    """What a key does."""

    @property
    def kind(self) -> str:
        """Its name in the trace."""

    def values(self, pool: pl.DataFrame) -> pl.Series:
        """One value for each row; the smallest wins."""


@dataclass(frozen=True)
class Steps:
    """A selection as it is carried out."""

    among: Sequence[Admission]
    by: Sequence[Ordering]


def select(pool: pl.DataFrame, unit: str, steps: Steps, take: int | None) -> pl.DataFrame:
    """Up to `take` rows for each `unit` with an admitted candidate: prompt_id, unit, row, place, n_tied, decided.

    `pool` is in total order within each unit. `place` counts the picks of a unit from 0. `n_tied` counts the admitted
    candidates that share the pick's first key, `decided` names the key after which the pick stood alone, or `order`.
    """
    for admission in steps.among:
        pool = pool.filter(admission.admits(pool))
    pool = pool.with_row_index("_order").with_columns(tied=pl.col("_order").min().over(unit))
    for number, key in enumerate(steps.by):
        pool = pool.with_columns(key.values(pool).alias(f"_key_{number}"))
        if take == 1:
            # Only the best can still win, so only they are looked at by the next key, and all of a unit are tied.
            pool = pool.filter(pl.col(f"_key_{number}") == pl.col(f"_key_{number}").min().over("tied"))
        else:
            pool = pool.with_columns(tied=pl.col("_order").min().over("tied", f"_key_{number}"))
        pool = pool.with_columns(pl.len().over("tied").cast(pl.Int64).alias(f"_n_{number}"))
    decided = pl.lit("order")
    for number, key in reversed(list(enumerate(steps.by))):
        decided = pl.when(pl.col(f"_n_{number}") == 1).then(pl.lit(key.kind)).otherwise(decided)
    if take != 1:
        pool = pool.sort(*(f"_key_{number}" for number in range(len(steps.by))), "_order")
    pool = pool.with_columns(place=pl.int_range(pl.len(), dtype=pl.Int64).over(unit))
    if take is not None:
        pool = pool.filter(pl.col("place") < take)
    columns = dict.fromkeys(["prompt_id", unit, "row", "place"])
    return pool.select(*columns, pl.col("_n_0").alias("n_tied"), decided.alias("decided"))
