"""One Arrow schema for each stage, and the check at each boundary.

The build's own tables and the published ones are written with `write_parquet`: zstd level 3, a page index, plain
`string` and `list` types, so `datasets`, pandas and Polars read them alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from prefdata.errors import ConservationError
from prefdata.lazy import pa, pc, pl, pq
from prefdata.records import SIDES

__all__ = [
    "ANSWERS",
    "CANDIDATES",
    "CANDIDATE_DROPS",
    "CANDIDATE_KEY",
    "COMPARISONS",
    "DROPS",
    "KEPT",
    "MESSAGES",
    "PAIRS",
    "PAIR_KEY",
    "PROMPTS",
    "REASONING",
    "ROWS_PER_GROUP",
    "SCORES",
    "SPLITS",
    "checked",
    "column",
    "frame_of",
    "in_one_chunk",
    "one_chunk",
    "pairs_schema",
    "parquet_writer",
    "read_parquet",
    "table_of",
    "trace_of",
    "write_parquet",
]

MESSAGES = pa.list_(pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())]))
_CANDIDATE = [("prompt_id", pa.string()), ("source", pa.string()), ("index", pa.int64())]
_DROP = [("prompt_id", pa.string()), ("stage", pa.string()), ("reason", pa.string()), ("detail", pa.string())]
_SIDES = [
    (f"{name}_{side}", kind)
    for side in SIDES
    for name, kind in (
        ("n_tied", pa.int64()),
        ("decided", pa.string()),
        ("source", pa.string()),
        ("index", pa.int64()),
        ("model", pa.string()),
        ("score", pa.float64()),
        ("length", pa.int64()),
        ("response", pa.string()),
    )
]

PROMPTS = pa.schema(
    [("prompt_id", pa.string()), ("messages", MESSAGES), ("origin", pa.string()), ("split", pa.string())]
)
CANDIDATES = pa.schema(
    [
        *_CANDIDATE,
        ("response", pa.string()),
        ("model", pa.string()),
        ("finish_reason", pa.string()),
        ("n_tokens", pa.int64()),
        ("seed", pa.int64()),
        ("given_score", pa.float64()),
    ]
)
REASONING = pa.schema([*_CANDIDATE, ("reasoning", pa.string())])
"""What models wrote before their answers, of the candidates that have any."""
KEPT = pa.schema([("prompt_id", pa.string()), ("kept", pa.string())])
"""Columns that travel along with prompts, as one JSON object each: see `prefdata.tables.kept`."""
SPLITS = pa.schema([("prompt_id", pa.string()), ("split", pa.string())])
"""Prompts whose source says which split they belong to: `train` or `test`."""
COMPARISONS = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("source_a", pa.string()),
        ("index_a", pa.int64()),
        ("source_b", pa.string()),
        ("index_b", pa.int64()),
        ("probability", pa.float64()),
        ("log_odds", pa.float64()),
        ("undecided", pa.string()),
        ("detail", pa.string()),
    ]
)
"""How candidates of a prompt fared against each other: see `prefdata.records.Comparison`."""
SCORES = pa.schema([*_CANDIDATE, ("score", pa.float64()), ("unscored", pa.string()), ("detail", pa.string())])
PAIRS = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("pair_index", pa.int64()),
        ("n_candidates", pa.int64()),
        ("n_eligible", pa.int64()),
        *_SIDES,
        ("score_margin", pa.float64()),
    ]
)
"""One row for each pair, named by (`prompt_id`, `pair_index`); a rule's own columns follow: see `pairs_schema`."""
PAIR_KEY = ("prompt_id", "pair_index")
CANDIDATE_KEY = ("prompt_id", "source", "index")
"""What names a candidate."""
ROWS_PER_GROUP = 1_000
"""Rows of a row group in published Parquet files."""
ANSWERS = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("prompt", MESSAGES),
        ("source", pa.string()),
        ("index", pa.int64()),
        ("model", pa.string()),
        ("response", pa.string()),
        ("score", pa.float64()),
        ("unscored", pa.string()),
        ("finish_reason", pa.string()),
        ("n_tokens", pa.int64()),
    ]
)
"""Every answer with its score, as it is published beside the pairs."""
DROPS = pa.schema(_DROP)
"""Prompts that left the flow."""
CANDIDATE_DROPS = pa.schema([*_DROP, ("source", pa.string()), ("index", pa.int64())])
"""Candidates that left the flow, or that no rule saw."""

_ANSWER_TEXTS = {
    *("response", "response_chosen", "response_rejected"),
    *("chosen", "rejected", "completion", "all_generated_responses"),
}
_PROMPT_TEXTS = {"prompt_id", "prompt", "prompt_text", "messages", "conversations"}
_SEVERAL_ROWS = {"source", "source_a", "completion"}
"""Columns of the tables that have a row for each answer or comparison of a prompt."""
_ROLES = (".role", ".from")


def trace_of(pairs: pa.Table) -> pa.Table:
    """Pairs without their texts: which answers, and how the rule decided."""
    return pairs.select([name for name in pairs.column_names if not name.startswith("response_")])


def pairs_schema(extra: Sequence[str] = ()) -> pa.Schema:
    """`PAIRS`, then the columns that a rule adds, all of them numbers."""
    return pa.schema([*PAIRS, *((name, pa.float64()) for name in extra)])


def checked(table: pa.Table, schema: pa.Schema, key: Sequence[str], stage: str) -> pa.Table:
    """The table, if it has exactly the schema, no null and no duplicate in `key`, and no NaN in any column.

    Raises:
        ConservationError: it hasn't. What users bring is checked where it is read, so this is a bug.
    """
    if table.schema.names != schema.names:
        raise ConservationError(f"{stage}: columns {table.schema.names} instead of {schema.names}")
    table = table.cast(schema)
    for name in schema.names:
        column = table[name]
        if name in key and column.null_count:
            raise ConservationError(f"{stage}: {column.null_count} rows without {name}")
        if pa.types.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py():
            raise ConservationError(f"{stage}: NaN in {name}")
    if key and table.group_by(list(key)).aggregate([]).num_rows != table.num_rows:
        raise ConservationError(f"{stage}: rows with the same {', '.join(key)}")
    return table


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array. Combining would copy even a single chunk."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def in_one_chunk(table: pa.Table) -> pa.Table:
    """The table with each column in one chunk; one that is so already is not copied."""
    return table if all(column.num_chunks == 1 for column in table.columns) else table.combine_chunks()


def parquet_writer(path: Path, schema: pa.Schema, *, page_checksums: bool = False) -> Any:
    """A `pyarrow.parquet.ParquetWriter` with the project's settings; close it.

    Args:
        path: of the file.
        schema: of its tables.
        page_checksums: writes a checksum with each page. A published file has its hash in the manifest instead.
    """
    return pq.ParquetWriter(
        path,
        schema,
        use_dictionary=_repeating(schema),
        compression="zstd",
        compression_level=3,
        write_page_index=True,
        write_page_checksum=page_checksums,
    )


def _repeating(schema: pa.Schema) -> list[str]:
    """Paths of the columns that are written with a dictionary: all but the texts that hardly repeat.

    The writer would look every text up in the dictionary it builds, and write it out plain in the end. Those are the
    texts of answers, and those of prompts where a prompt has one row. Numbers, names and roles repeat in every table.
    """
    plain = _ANSWER_TEXTS if _SEVERAL_ROWS & {*schema.names} else _ANSWER_TEXTS | _PROMPT_TEXTS
    return [
        path
        for column in schema
        for path, kind in _leaves(column.name, column.type)
        if column.name not in plain or kind != pa.string() or path.endswith(_ROLES)
    ]


def _leaves(path: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    """The columns of a Parquet file that hold one of an Arrow schema."""
    if pa.types.is_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    elif pa.types.is_struct(kind):
        for inner in kind:
            yield from _leaves(f"{path}.{inner.name}", inner.type)
    else:
        yield path, kind


def write_parquet(path: Path, table: pa.Table, *, page_checksums: bool = False) -> None:
    """Writes one table as one Parquet file: see `parquet_writer`."""
    with parquet_writer(path, table.schema, page_checksums=page_checksums) as writer:
        writer.write_table(table)


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Reads a table that `write_parquet` has written."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        return file.read(columns=columns)


def column(table: pa.Table, name: str) -> list[Any]:
    """Reads a column's values."""
    values: list[Any] = table[name].to_pylist()
    return values


def table_of(frame: pl.DataFrame, rows: pl.Series | None = None) -> pa.Table:
    """Makes an Arrow table of a Polars frame, as a copy of these rows alone, in this order; None takes all.

    A slice or a filtered frame keeps the texts of the frame it was cut from in memory. Of a column of lists,
    `DataFrame.to_arrow` would even copy the values of all rows of that frame, so that to convert a frame in parts would
    cost the square of its rows.
    """
    rows = pl.int_range(frame.height, eager=True) if rows is None else rows
    return frame[rows].to_arrow(compat_level=pl.CompatLevel.oldest())


def frame_of(table: pa.Table) -> pl.DataFrame:
    """Makes a Polars frame of a table, with each column in one chunk; no text is copied.

    Taking rows of a column in several chunks is up to forty times as slow.
    """
    frame = pl.from_arrow(table, rechunk=True)
    assert isinstance(frame, pl.DataFrame)
    return frame
