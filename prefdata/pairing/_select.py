"""How one selection picks from a pool: among which candidates, by which keys, how many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from prefdata.lazy import np, pl

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Admission", "Ordering", "Steps", "places", "select"]

_Ints: TypeAlias = "NDArray[np.int64]"


class Admission(Protocol):
    """What a filter does."""

    def admits(self, pool: pl.DataFrame) -> pl.Series:
        """Returns one boolean for each row."""


class Ordering(Protocol):
    """What a key does."""

    @property
    def kind(self) -> str:
        """Its name in the trace."""

    def values(self, pool: pl.DataFrame) -> pl.Series:
        """Returns one value for each row; the smallest wins."""


@dataclass(frozen=True)
class Steps:
    """A selection as it is carried out."""

    among: Sequence[Admission]
    by: Sequence[Ordering]


def select(pool: pl.DataFrame, group: str, steps: Steps, take: int | None) -> pl.DataFrame:
    """Picks up to `take` rows of each group; None takes all.

    Args:
        pool: sorted by the integer column `group`, in total order within each group; also has `unit` and `row`.
        group: the column whose rows compete.
        steps: the filters, then the keys.
        take: how many rows of each group.

    Returns:
        `unit`, `group`, `row`, `place` (of a group's picks, from 0), `n_tied` (admitted candidates that share the
        pick's first key) and `decided` (the key after which the pick was alone, or `order`), in the order
        of `group` and `place`.
    """
    for admission in steps.among:
        pool = pool.filter(admission.admits(pool))
    names = [*(key.kind for key in steps.by), "order"]
    decided = np.full(pool.height, len(steps.by))
    n_tied = np.ones(pool.height, np.int64)
    pool = pool.with_columns(tied=pl.col(group).cast(pl.Int64))
    order = np.arange(pool.height)
    for level, key in enumerate(steps.by):
        values, tied = _numbers(key.values(pool)), pool["tied"].to_numpy()
        if take == 1:
            # Only the best of a group can still win.
            best = _is_least(values, tied)
            pool, decided, n_tied, order = pool.filter(pl.Series(best)), decided[best], n_tied[best], order[best]
            sizes = _sizes(pool["tied"].to_numpy())
        else:
            tied, sizes, order = _split(tied, values, order)
            pool = pool.with_columns(tied=pl.Series(tied))
        n_tied = sizes if level == 0 else n_tied
        decided[(sizes == 1) & (decided == len(steps.by))] = level
    groups = pool[group].to_numpy()
    if take != 1:
        picks = np.argsort(order, kind="stable")
        pool, groups, n_tied, decided = pool[picks], groups[picks], n_tied[picks], decided[picks]
    pool = pool.select(
        *dict.fromkeys(["unit", group, "row"]),
        place=places(groups),
        n_tied=pl.Series(n_tied, dtype=pl.Int64),
        decided=pl.Series(names, dtype=pl.String).gather(decided),
    )
    return pool if take is None else pool.filter(pl.col("place") < take)


def places(groups: _Ints) -> pl.Series:
    """Numbers the rows of each run of equal numbers, from 0."""
    return pl.Series(np.arange(len(groups)) - _starts(groups), dtype=pl.Int64)


def _numbers(values: pl.Series) -> NDArray[np.float64] | _Ints:
    """The keys as numbers that sort alike."""
    numbers = values if values.dtype.is_numeric() else values.rank("dense")
    return numbers.to_numpy()


def _edges(groups: _Ints) -> _Ints:
    """Where each run of equal numbers starts."""
    return np.flatnonzero(np.append(True, groups[1:] != groups[:-1])[: len(groups)])


def _sizes(groups: _Ints) -> _Ints:
    """For each row, the rows of its run."""
    sizes = np.diff(np.append(_edges(groups), len(groups)))
    return np.repeat(sizes, sizes)


def _starts(groups: _Ints) -> _Ints:
    """For each row, where its run starts."""
    edges = _edges(groups)
    return np.repeat(edges, np.diff(np.append(edges, len(groups))))


def _is_least(values: NDArray[np.float64] | _Ints, groups: _Ints) -> NDArray[np.bool_]:
    if not len(values):
        return np.zeros(0, bool)
    edges = _edges(groups)
    least = np.minimum.reduceat(values, edges)
    best: NDArray[np.bool_] = values == np.repeat(least, np.diff(np.append(edges, len(groups))))
    return best


def _split(tied: _Ints, values: NDArray[np.float64] | _Ints, order: _Ints) -> tuple[_Ints, _Ints, _Ints]:
    """Splits groups of tied rows by one more key.

    Args:
        tied: a number for each group of tied rows.
        values: the key.
        order: the rank of each row so far.

    Returns:
        The number of each row's new group, its size, and the rank of each row: rows of one group keep their order.
    """
    rows = np.lexsort((np.arange(len(tied)), values, tied))
    new = np.append(True, (tied[rows][1:] != tied[rows][:-1]) | (values[rows][1:] != values[rows][:-1]))[: len(rows)]
    numbers = np.cumsum(new) - 1
    counts = np.bincount(numbers) if len(numbers) else np.zeros(0, np.int64)
    groups, ranks = np.empty(len(tied), np.int64), np.empty(len(tied), np.int64)
    groups[rows], ranks[rows] = numbers, np.arange(len(rows))
    return groups, counts[groups], ranks
