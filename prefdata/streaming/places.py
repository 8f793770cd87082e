"""The total order of the answers of a prompt, by source and index, on arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from numpy.typing import NDArray

from prefdata.lazy import np, pa, pc

__all__ = ["Labels", "Numbers", "keys_of", "place_keys", "places", "sorted_by", "sources_of"]

_Ints = NDArray[np.int64]
_Flags = NDArray[np.bool_]
_KEY_BITS = 62


@dataclass(frozen=True)
class Labels:
    """A column of few different texts."""

    codes: _Ints
    """Index into `names`; -1 for null."""
    names: list[str]

    @classmethod
    def of(cls, column: pa.Array) -> Labels:
        """A column as labels."""
        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        indices = encoded.indices.fill_null(-1) if encoded.null_count else encoded.indices
        return cls(indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary.to_pylist())

    def __getitem__(self, rows: _Ints) -> Labels:
        return Labels(self.codes[rows], self.names)

    def texts(self) -> pa.Array:
        """The column as it was."""
        return pa.array(self.names, pa.string()).take(pa.array(self.codes, mask=self.codes < 0))

    def pooled(self, pool: dict[str, int]) -> _Ints:
        """The codes as those of a pool of names, which takes up new ones; -1 for null."""
        codes = [pool.setdefault(name, len(pool)) for name in self.names]
        # The last one is for rows without a label, whose code is -1.
        return np.array([*codes, -1], np.int64)[self.codes]

    def ranks(self) -> _Ints:
        """The place of each name among all, in order of code points; -1 for null."""
        order = sorted(range(len(self.names)), key=lambda code: self.names[code].encode())
        rank = np.full(len(order) + 1, -1, np.int64)
        rank[np.array(order, int)] = np.arange(len(order))
        return np.asarray(rank[self.codes])


@dataclass(frozen=True)
class Numbers:
    """A column of whole numbers."""

    values: _Ints
    """0 where there is none."""
    valid: _Flags | None
    """None where all are."""

    @classmethod
    def of(cls, column: pa.Array) -> Numbers:
        """A column of integers as numbers."""
        valid = column.is_valid().to_numpy(zero_copy_only=False) if column.null_count else None
        filled = column.fill_null(0) if column.null_count else column
        return cls(filled.to_numpy(zero_copy_only=False).astype(np.int64), valid)

    def __getitem__(self, rows: _Ints) -> Numbers:
        return Numbers(self.values[rows], None if self.valid is None else self.valid[rows])

    def numbers(self) -> pa.Array:
        """The column as it was, as int64."""
        return pa.array(self.values, mask=None if self.valid is None else ~self.valid)


def sources_of(columns: Mapping[str, pa.Array]) -> Labels | None:
    """The sources, which fall back to the models."""
    named = [columns[name] for name in ("source", "model") if name in columns]
    return Labels.of(named[0] if len(named) == 1 else pc.coalesce(*named)) if named else None


def place_keys(columns: Mapping[str, pa.Array]) -> list[_Ints]:
    """Keys by which rows are sorted by source and index, nulls first; the last counts most."""
    index = [Numbers.of(columns["index"])] if "index" in columns else []
    source = sources_of(columns)
    return keys_of(index[0] if index else None, source)


def keys_of(index: Numbers | None, source: Labels | None) -> list[_Ints]:
    """See `place_keys`."""
    keys = []
    if index is not None:
        keys.append(index.values)
        if index.valid is not None:
            keys.append(index.valid.astype(np.int64))
    if source is not None:
        keys.append(source.ranks())
    return keys


def sorted_by(keys: Sequence[_Ints]) -> _Ints:
    """The order of the rows by some keys, of which the last counts most; equal ones come in any order."""
    packed, scale = np.zeros(len(keys[0]), np.int64), 1
    for key in keys:
        if len(key):
            low = int(key.min())
            span = int(key.max()) - low + 1
            if (scale * span).bit_length() > _KEY_BITS:
                return np.asarray(np.lexsort(keys))
            packed += (key - low) * scale
            scale *= span
    return np.argsort(packed)


def places(keys: Sequence[_Ints], run: _Ints, n_runs: int) -> tuple[_Ints, _Flags]:
    """The rank of each row by run and then by keys, and the runs in which two rows share all keys."""
    keys = [*keys, run]
    falls, same = _adjacent(keys)
    place = np.arange(len(run))
    if falls.any():
        order = sorted_by(keys)
        place = np.empty(len(run), np.int64)
        place[order] = np.arange(len(run))
        run = run[order]
        _, same = _adjacent([key[order] for key in keys])
    ambiguous = np.zeros(n_runs, bool)
    ambiguous[run[1:][same]] = True
    return place, ambiguous


def _adjacent(keys: Sequence[_Ints]) -> tuple[_Flags, _Flags]:
    """Where a row is less than the one before it, and where it is equal; the last key counts most."""
    falls, same = np.zeros(len(keys[0]) - 1, bool), np.ones(len(keys[0]) - 1, bool)
    for key in keys:
        falls = (key[1:] < key[:-1]) | ((key[1:] == key[:-1]) & falls)
        same &= key[1:] == key[:-1]
    return falls, same
