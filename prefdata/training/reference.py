"""The reference's log-probabilities, kept under a key that covers everything they depend on.

One Parquet file for each key, shared by every training that differs in learning rate, loss or beta only. While they are
computed, finished chunks are files of their own, so that a killed run loses one chunk.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefdata.lazy import np, pa, pq
from prefdata.spec import JSON, fingerprint, sha256_of_file

__all__ = ["ReferenceCache", "hash_tokens", "hash_weights", "reference_key"]

_SCHEMA_FIELDS = (("row", "int64"), ("chosen", "float32"), ("rejected", "float32"))
_WEIGHTS = frozenset((".safetensors", ".bin", ".pt", ".pth"))
_CONFIGS = frozenset(("config.json", "adapter_config.json"))


def hash_weights(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of each file of weights and of each configuration of a model or adapter.

    Every byte is read each time: a file's size and time don't prove that it is still the same.
    """
    files = [path for path in folder.iterdir() if path.suffix in _WEIGHTS or path.name in _CONFIGS]
    return {path.name: sha256_of_file(path) for path in sorted(files)}


def hash_tokens(file: Path) -> str:
    """Returns the SHA-256 of the ids in a file of tokens: where each list ends, and each id."""
    digest = hashlib.sha256()
    names = [name for name in pq.read_schema(file).names if name.endswith("_ids")]
    for batch in pq.ParquetFile(file).iter_batches(columns=names):
        for name in names:
            column = batch.column(name)
            for values in (column.value_lengths(), column.flatten()):
                digest.update(np.ascontiguousarray(values.to_numpy(zero_copy_only=False), dtype=np.int32).tobytes())
    return digest.hexdigest()


def reference_key(parts: Mapping[str, JSON]) -> str:
    """Returns the SHA-256 of everything that the log-probabilities depend on."""
    return fingerprint({"version": 1, **parts})


class ReferenceCache:
    """The log-probabilities of one file of tokens under one reference.

    Args:
        folder: where caches are kept.
        key: from `reference_key`.
        rows: of the file of tokens.
    """

    def __init__(self, folder: Path, key: str, rows: int) -> None:
        self.key, self.rows = key, rows
        self._file = folder / f"{key}.parquet"
        self._parts = folder / f"{key}.parts"
        self.values = np.full((rows, 2), np.nan, dtype=np.float32)
        """Chosen and rejected of each row, shape (rows, 2); NaN where it is not known yet."""

    def load(self) -> bool:
        """Reads what is there. Returns whether all of it is."""
        if self._take(self._file):
            return not self.missing()
        for part in sorted(self._parts.glob("*.parquet")):
            self._take(part)
        return False

    def missing(self) -> list[int]:
        """Returns the rows that are not known yet."""
        return [int(row) for row in np.flatnonzero(np.isnan(self.values).any(axis=1))]

    def columns(self) -> tuple[Any, Any]:
        """Returns the float32 log-probabilities of the chosen and of the rejected answers, each of shape (rows,)."""
        assert not self.missing()
        return self.values[:, 0], self.values[:, 1]

    def append(self, computed: Iterable[tuple[int, float, float]]) -> None:
        """Takes (row, chosen, rejected) of some rows and keeps them on disk."""
        rows = list(computed)
        self._fill(rows)
        self._parts.mkdir(parents=True, exist_ok=True)
        self._write(self._parts / f"{rows[0][0]:09d}-{os.getpid()}.parquet", rows)

    def fill(self, computed: Iterable[tuple[int, float, float]]) -> None:
        """Takes (row, chosen, rejected) of some rows that another process keeps."""
        self._fill(list(computed))

    def finish(self) -> None:
        """Puts all rows into one file and removes the chunks."""
        rows = [(row, float(chosen), float(rejected)) for row, (chosen, rejected) in enumerate(self.values.tolist())]
        self._write(self._file, rows)
        shutil.rmtree(self._parts, ignore_errors=True)

    def _fill(self, rows: Sequence[tuple[int, float, float]]) -> None:
        for row, chosen, rejected in rows:
            self.values[row] = chosen, rejected

    def _take(self, file: Path) -> bool:
        """Reads one file; one that is damaged, or is not of this key, is as if it were not there."""
        with contextlib.suppress(OSError, pa.ArrowInvalid):
            # A reader of its own for each column: `read_table` would guess a dataset from the folder's name.
            table = pq.ParquetFile(file, page_checksum_verification=True).read()
            metadata = json.loads((table.schema.metadata or {}).get(b"prefdata", b"{}"))
            if metadata == self._metadata() and table.schema.names == [name for name, _ in _SCHEMA_FIELDS]:
                rows = table["row"].to_numpy()
                self.values[rows] = np.stack([table["chosen"].to_numpy(), table["rejected"].to_numpy()], axis=1)
                return True
        return False

    def _metadata(self) -> dict[str, JSON]:
        return {"key": self.key, "rows": self.rows}

    def _write(self, file: Path, rows: Sequence[tuple[int, float, float]]) -> None:
        metadata = {"prefdata": json.dumps(self._metadata(), allow_nan=False)}
        schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in _SCHEMA_FIELDS], metadata)
        columns = list(zip(*rows, strict=True))
        table = pa.table([pa.array(column, kind.type) for column, kind in zip(columns, schema, strict=True)], schema)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{file.name}.{os.getpid()}")
        pq.write_table(table, partial, write_page_checksum=True)
        partial.replace(file)
