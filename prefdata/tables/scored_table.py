"""Reads a table of scored answers: Parquet, JSON lines or CSV, long or wide, in pieces of bounded size.

Long form has one row a candidate: `prompt_id` (or made from `prompt`), `prompt`, `response`, `score`, and optionally
`source` (or `model`), `index`, `finish_reason`. Wide form has one row a prompt, with lists of answers and of scores:
`all_generated_responses` and `all_rm_scores`, as the Snorkel and SimPO datasets have them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from prefdata.errors import InputError, closest
from prefdata.lazy import pa, pl
from prefdata.tables import files
from prefdata.tables.ahead import ahead
from prefdata.tables.digest import NAMED_FROM, digest_array, digest_series
from prefdata.tables.parquet import open_parquet, rows_at_once
from prefdata.tables.scored_rows import ALIASES, ROLES, long_frame, long_frame_of_rows
from prefdata.tables.table_prompts import described_prompts, prompt_hashes

__all__ = [
    "ScoredTable",
    "ScoredTableFile",
    "columns_of",
    "prompts_of",
    "read_scored_table",
    "read_whole",
    "with_keys",
    "with_names",
]

_CANDIDATE = ("prompt_id", "source", "index", "model", "response", "score", "unscored", "finish_reason")
_ROWS = 40_000
"""Most rows of a batch, however narrow they are."""
_BATCH_BYTES = 4 << 20
"""Decoded bytes of a batch; a decoder takes up to six times as much for a while."""
_TEXT_ROWS = 1_000
_COMPRESSED = 4
"""Bytes that a byte of a compressed file is taken for."""


@dataclass(frozen=True)
class ScoredTable:
    """The candidates of a table, and what its prompts are."""

    candidates: pl.DataFrame
    """prompt_id, source, index, model, response, score (finite or null), unscored, finish_reason; in no order."""
    prompts: pl.DataFrame
    """prompt_id and messages, sorted by id; `messages` is null where the table has none."""
    drops: pl.DataFrame
    """`prefdata.tables.schemas.DROPS`: prompts that can't be paired as the table has them."""
    rows: int
    """Candidates read, those of dropped prompts included."""


class ScoredTableFile:
    """A table of scored answers that can be read from its start as often as needed.

    Args:
        path: a `.parquet`, `.jsonl` or `.csv` file; the text formats also `.gz` or `.zst`.
        columns: role → name of the column, where the names differ from the roles.

    Raises:
        InputError: the file can't be read, or lacks a column.
    """

    def __init__(self, path: Path, columns: Mapping[str, str] | None = None) -> None:
        self.path, self.named = path, columns_of(path, columns or {})
        self._is_parquet = path.suffix.lower() == ".parquet"
        self._row_bytes: dict[str, float] = {}
        if self._is_parquet:
            next(files.rows(path, only=list(self.named.values())))
            with open_parquet(self.path) as file:
                head = next(file.iter_batches(64, columns=self._names(self.named), use_threads=False))
                rows = file.metadata.num_rows
            self._row_bytes = {name: head.column(name).nbytes / head.num_rows for name in head.schema.names}
            self.n_bytes = rows * sum(self._row_bytes.values())
        else:
            self.n_bytes = path.stat().st_size * (_COMPRESSED if path.suffix.lower() in (".gz", ".zst") else 1)

    @property
    def has_ids(self) -> bool:
        """Whether prompts have ids of their own."""
        return "prompt_id" in self.named

    def frames(self, n_bytes: int, roles: Collection[str] = ROLES) -> Iterator[pl.DataFrame]:
        """Reads the rows in order, in frames of about `n_bytes` decoded bytes.

        Args:
            n_bytes: of the columns that are read.
            roles: which columns are read; `response` and `score` always are.

        Yields:
            See `prefdata.tables.scored_rows.long_frame`; and `at`, the number of the row among all that are yielded.

        Raises:
            InputError: the file is damaged, or a column holds something else than it should.
        """
        named = {role: name for role, name in self.named.items() if role in {*roles, "response", "score"}}
        at = 0
        for frame in self._parquet_frames(named, n_bytes) if self._is_parquet else self._text_frames(named, n_bytes):
            yield frame.with_row_index("at", at)
            at += frame.height

    def sampled_ids(self) -> list[str]:
        """Returns some ids, spread over the whole table; empty where the table has no ids."""
        if not self.has_ids:
            return []
        name, sample = self.named["prompt_id"], list[str]()
        if self._is_parquet:
            with open_parquet(self.path) as file:
                for batch in file.iter_batches(1 << 16, columns=[name], use_threads=False):
                    column = pl.Series(pl.from_arrow(batch.column(0))).cast(pl.String)
                    sample += column.gather_every(max(1, len(column) // 64)).drop_nulls().to_list()
        else:
            rows = files.rows(self.path, only=[name])
            sample += [str(row[name]) for row in islice(rows, 0, None, 100) if row[name] is not None]
        return sample

    def _parquet_frames(self, named: Mapping[str, str], n_bytes: int) -> Iterator[pl.DataFrame]:
        names = self._names(named)
        row_bytes = max(1.0, sum(self._row_bytes[name] for name in names))
        rows = int(min(_ROWS, max(1, n_bytes // row_bytes)))
        step = rows_at_once(self.path, int(min(rows, max(1, _BATCH_BYTES // row_bytes))))
        for table in ahead(self._parquet_tables(named, n_bytes, rows, step)):
            frame = pl.from_arrow(table)
            assert isinstance(frame, pl.DataFrame)
            yield long_frame(self.path, named, frame)

    def _parquet_tables(self, named: Mapping[str, str], n_bytes: int, rows: int, step: int) -> Iterator[pa.Table]:
        """Reads tables of about `n_bytes` or `rows`, `step` rows at a time; their columns are called by their roles."""
        with open_parquet(self.path) as file:
            held: list[pa.Table] = []
            for batch in file.iter_batches(step, columns=self._names(named), use_threads=False):
                columns = {role: _undictionaried(batch.column(name)) for role, name in named.items()}
                if (digests := digest_array(columns["response"])) is not None:
                    columns["digest"] = digests
                held.append(pa.table(columns))
                if sum(part.num_rows for part in held) + step > rows or sum(part.nbytes for part in held) >= n_bytes:
                    table = pa.concat_tables(held)
                    held = []
                    yield table
            if held:
                yield pa.concat_tables(held)

    def _text_frames(self, named: Mapping[str, str], n_bytes: int) -> Iterator[pl.DataFrame]:
        rows = enumerate(files.rows(self.path, only=self._names(named)), 1)
        while block := list(islice(rows, 1)):
            size = 0
            while size < n_bytes and (more := list(islice(rows, _TEXT_ROWS))):
                block += more
                size += sum(len(cell) for _, row in more for cell in row.values() if isinstance(cell, str))
                size += sum(64 for _, row in more for cell in row.values() if isinstance(cell, list) for _ in cell)
            yield long_frame_of_rows(self.path, named, block)

    def _names(self, named: Mapping[str, str]) -> list[str]:
        return list(dict.fromkeys(named.values()))


def _undictionaried(column: pa.Array) -> pa.Array:
    # Polars would make categories of it, which are not texts.
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def read_scored_table(path: Path, columns: Mapping[str, str] | None = None) -> ScoredTable:
    """Reads a whole table into memory.

    Args:
        path: see `ScoredTableFile`.
        columns: see `ScoredTableFile`.

    Raises:
        InputError: the file can't be read, or lacks a column, or a column holds something else than it should.
    """
    return read_whole(ScoredTableFile(path, columns))


def read_whole(table: ScoredTableFile, *, named: bool = True) -> ScoredTable:
    """Reads a whole table into memory.

    Args:
        table: the table.
        named: see `with_names`.

    Raises:
        InputError: the file is damaged, or a column holds something else than it should.
    """
    frames = list(table.frames(1 << 40))
    kinds = {frame.schema["prompt"] for frame in frames}
    assert len(kinds) == 1, kinds
    rows = with_keys(pl.concat(frames), has_ids=table.has_ids).sort("key", maintain_order=True)
    prompts = prompts_of(rows)
    usable = prompts.filter(pl.col("reason").is_null()).select("key", "prompt_id", "messages")
    # -0.0 and 0.0 are one score; as two bit patterns they would make two files of one table.
    score = pl.when(pl.col("score") == 0).then(0.0).otherwise("score")
    answers = rows.filter("is_answer")
    answers = with_names(answers) if named else answers
    candidates = answers.drop("prompt_id").join(usable.select("key", "prompt_id"), on="key", how="inner")
    return ScoredTable(
        candidates.with_columns(score=score).select(_CANDIDATE),
        usable.select("prompt_id", "messages").sort("prompt_id"),
        prompts.filter(pl.col("reason").is_not_null())
        .select("prompt_id", pl.lit("prompts").alias("stage"), "reason", "detail")
        .sort("prompt_id"),
        answers.height,
    )


def with_names(answers: pl.DataFrame) -> pl.DataFrame:
    """Gives each answer without source and index a name: an `index` that is made of its text, whatever the row order.

    The index is 2⁶² plus the upper 62 bits of `digest` (XXH3 of the text), so that it is no place in a list, and its
    order is that of the digests.
    """
    nameless = pl.col("source").is_null() & pl.col("index").is_null()
    if not answers.select(nameless.any()).item():
        return answers
    digest = answers["digest"] if "digest" in answers.columns else digest_series(answers["response"])
    names = (digest // 4).cast(pl.Int64) + NAMED_FROM
    return answers.with_columns(index=pl.when(nameless).then(names).otherwise("index"))


def with_keys(rows: pl.DataFrame, *, has_ids: bool) -> pl.DataFrame:
    """Adds `content`, a hash of what the prompt says (null without one), and `key`, the same for all rows of a prompt.

    Args:
        rows: see `ScoredTableFile.frames`. Ids that are missing are filled, with the id that the prompt would have.
        has_ids: whether prompts have ids of their own.
    """
    rows = rows.with_columns(content=prompt_hashes(rows["prompt"]))
    if not has_ids:
        return rows.with_columns(key=pl.col("content").fill_null(0))
    if rows["prompt_id"].null_count():
        without = rows.filter(pl.col("prompt_id").is_null())
        prompts = without.unique("content", maintain_order=True)
        made = described_prompts(prompts["prompt"], with_ids=True)["prompt_id"].fill_null("")
        ids = prompts.select("content").with_columns(made=made)
        rows = (
            rows.join(ids, on="content", how="left", nulls_equal=True, maintain_order="left")
            .with_columns(prompt_id=pl.coalesce("prompt_id", "made"))
            .drop("made")
        )
    return rows.with_columns(key=pl.col("prompt_id").hash())


def prompts_of(rows: pl.DataFrame, described: pl.DataFrame | None = None) -> pl.DataFrame:
    """Says of each prompt what it is, and why it can't be paired.

    Args:
        rows: all rows of some prompts, those of a prompt one after the other: see `with_keys`.
        described: `key`, `prompt_id`, `messages`, `reason`, `detail` and `at` of each of the prompts; None reads them
            from the rows.

    Returns:
        One row for each prompt, in the order of the rows: `key`, `prompt_id`, `messages`, `reason` (null for a prompt
        that can be paired), `detail`, and `at`, the number of a row that has the prompt.
    """
    runs = (
        rows.with_row_index("_row")
        .group_by("key", maintain_order=True)
        .agg(
            rows=pl.len(),
            misaligned=pl.col("misaligned").any(),
            apart=pl.col("content").min() != pl.col("content").max(),
            given=pl.col("prompt_id").first(),
            row=pl.coalesce(pl.col("_row").filter(pl.col("content").is_not_null()).first(), pl.col("_row").first()),
        )
    )
    if described is None:
        of_rows = described_prompts(rows["prompt"].gather(runs["row"]), with_ids=bool(runs["given"].null_count()))
        runs = runs.with_columns(at=rows["at"].gather(runs["row"]))
        runs = pl.concat([runs, of_rows.rename({"prompt_id": "made"})], how="horizontal")
    else:
        columns = described.select("key", "messages", "reason", "detail", "at", made="prompt_id")
        runs = runs.join(columns, on="key", how="left", maintain_order="left")
    runs = runs.with_columns(prompt_id=pl.coalesce("given", "made").fill_null(""))
    if not (runs["misaligned"].any() or runs["apart"].any() or (runs["prompt_id"] == "").any()):
        return runs.select("key", "prompt_id", "messages", "reason", "detail", "at")
    texts = rows.group_by("key").agg(texts=pl.col("content").drop_nulls().n_unique())
    runs = runs.join(texts, on="key", how="left", maintain_order="left")
    nameless, apart = pl.col("prompt_id") == "", pl.col("texts") > 1
    odd = pl.col("misaligned") & pl.col("reason").is_null()
    reason = (
        pl.when(nameless)
        .then(pl.lit("missing_prompt"))
        .when(apart)
        .then(pl.lit("conflicting_prompts"))
        .when(odd)
        .then(pl.lit("misaligned_scores"))
        .otherwise("reason")
    )
    detail = (
        pl.when(nameless)
        .then(pl.format("{} rows have neither prompt_id nor prompt", "rows"))
        .when(apart)
        .then(pl.format("{} different prompts have this id", "texts"))
        .when(odd)
        .then(pl.lit("the lists of answers and of scores differ in length"))
        .otherwise("detail")
    )
    return runs.with_columns(reason=reason, detail=detail).select(
        "key", "prompt_id", "messages", "reason", "detail", "at"
    )


def columns_of(path: Path, given: Mapping[str, str]) -> dict[str, str]:
    """Finds the column of each role that the table has.

    Raises:
        InputError: the file can't be read, lacks a column that is needed, or one that is named.
    """
    have, hint = files.columns(path), "--columns ROLE=NAME"
    for role, name in given.items():
        if role not in ROLES:
            raise InputError(f"{role!r} is not a known column role", valid=closest(role, ROLES), hint=hint)
        files.check_columns(repr(str(path)), [name], have)
    named = dict(given)
    wide = named.get("response", "response") not in have or named.get("response") == ALIASES["response"]
    for role in ROLES:
        names = [role, ALIASES.get(role, role)]
        # Beside lists of answers there are lists of scores, even where the row has a score of its own as well.
        for name in reversed(names) if wide else names:
            if role not in named and name in have:
                named[role] = name
    for role in ("response", "score"):
        if role not in named:
            raise InputError(
                f"{str(path)!r} has no column {role!r}",
                valid=closest(role, have),
                hint=f"name it: --columns {role}=NAME",
            )
    if "prompt_id" not in named and "prompt" not in named:
        raise InputError(
            f"{str(path)!r} has neither a column 'prompt_id' nor a column 'prompt'",
            valid=closest("prompt", have),
            hint="name one of them: --columns prompt=NAME",
        )
    return named
