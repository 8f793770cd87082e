"""Reads a table of scored answers, wherever it is and whatever its shape, in pieces of bounded size.

Long form has one row a candidate: `prompt_id` (or made from `prompt`), `prompt`, `response`, `score`, and optionally
`source` (or `model`), `index`, `finish_reason`. Wide form has one row a prompt, with lists of answers and of scores.
`prefdata.tables.shapes` lists the shapes that are recognised.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from prefdata.lazy import pa, pl
from prefdata.tables import files
from prefdata.tables.cells import BLANK
from prefdata.tables.digest import MEASURES, NAMED_FROM, digest_series, measured
from prefdata.tables.roles import RoleReader
from prefdata.tables.schemas import frame_of
from prefdata.tables.scored_rows import MEASURED, ROLES, column_of, long_frame, long_frame_of_rows
from prefdata.tables.shapes import reading_of
from prefdata.tables.table_prompts import described_prompts, prompt_hashes

__all__ = [
    "ScoredTableFile",
    "prompt_ids",
    "prompts_of",
    "with_keys",
    "with_names",
]

_ROWS = 40_000
"""Most rows of a batch, however narrow they are."""
_BATCH_BYTES = 4 << 20
"""Decoded bytes of a batch; a decoder takes up to six times as much for a while."""
_TEXT_ROWS = 1_000


class ScoredTableFile:
    """A table of scored answers that can be read from its start as often as needed.

    Args:
        table: a path, or a frame: see `prefdata.tables.files.open_table`.
        columns: role → path of its column, where shapes are not recognised; see `prefdata.tables.shapes`.

    Raises:
        InputError: the table can't be read, or lacks a column.
    """

    def __init__(self, table: files.TableLike, columns: Mapping[str, str] | None = None) -> None:
        self.table = files.open_table(table)
        self.reading = reading_of(self.table, columns or {})
        self.named = self.reading.named
        self._reader = RoleReader(self.table, self.named)
        self._whole, self.table = self.table, self._reader.source
        read = self._reader.columns(list(self.named))
        next(self.table.rows(only=read))
        self.n_bytes = self.table.n_bytes(read)

    @property
    def has_ids(self) -> bool:
        """Whether prompts have ids of their own."""
        return "prompt_id" in self.named

    def frames(self, n_bytes: int, roles: Collection[str] = MEASURED, *, sums: int = 1) -> Iterator[pl.DataFrame]:
        """Reads the rows in order, in frames of about `n_bytes` decoded bytes.

        Args:
            n_bytes: of the columns that are read.
            roles: which columns are read; `response` and `score` always are. With `MEASURES`, Arrow data have these of
                each answer.
            sums: see `prefdata.tables.digest.visible_marks`.

        Yields:
            See `prefdata.tables.scored_rows.long_frame`; and `at`, the number of the row among all that are yielded.

        Raises:
            InputError: the file is damaged, or a column holds something else than it should.
        """
        read = [role for role in ROLES if role in self.named and role in {*roles, "response", "score"}]
        at = 0
        in_arrow = self.table.schema is not None
        sums = sums if {*MEASURES} <= {*roles} else 0
        found = self._arrow_frames(read, n_bytes, sums) if in_arrow else self._text_frames(read, n_bytes)
        for frame in found:
            yield frame.with_row_index("at", at)
            at += frame.height

    def scores(self) -> Iterator[Any]:
        """Reads the score of each row as the table has it: a list where the row has a list of answers."""
        roles = ("response", "score")
        for number, row in enumerate(self._rows(roles), 1):
            yield self._reader.cells(row, number, roles)["score"]

    def prompts_with(self, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Reads the id of the prompt of each row of the table, and further cells of the row.

        Args:
            names: the columns.

        Raises:
            InputError: see `frames`.
        """
        roles = [role for role in ("prompt_id", "prompt") if role in self.named]
        read = self._frames_with if self.table.schema is not None else self._text_frames_with
        for frame, cells in read(roles, list(names)):
            ids = prompt_ids(with_keys(frame, has_ids=self.has_ids), has_ids=self.has_ids)
            yield from zip(ids.to_list(), cells, strict=True)

    def _frames_with(
        self, roles: Sequence[str], names: list[str]
    ) -> Iterator[tuple[pl.DataFrame, list[dict[str, Any]]]]:
        first, columns = 1, list(dict.fromkeys([*self._reader.columns(roles), *names]))
        step = int(min(_ROWS, max(1, _BATCH_BYTES // max(1.0, self._whole.row_bytes(columns)))))
        for batch in self._whole.batches(columns, step):
            frame = self._checked(pa.table(self._reader.arrays(batch, first, roles)), first)
            # In the form of all rows, in which there are answers.
            frame = frame.with_columns(response=pl.lit(None, pl.String), score=pl.lit(None, pl.Float64))
            yield long_frame(self.table.name, self.named, frame), batch.select(names).to_pylist()
            first += batch.num_rows

    def _text_frames_with(
        self, roles: Sequence[str], names: list[str]
    ) -> Iterator[tuple[pl.DataFrame, list[dict[str, Any]]]]:
        columns = list(dict.fromkeys([*self._reader.columns(roles), *names]))
        rows = enumerate(self._whole.rows(only=columns, ids=self._reader.columns(["prompt_id"])), 1)
        while block := list(islice(rows, _TEXT_ROWS)):
            cells = ((at, {**self._reader.cells(row, at, roles), "response": "", "score": None}) for at, row in block)
            frame = long_frame_of_rows(self.table.name, self.named, cells)
            yield frame, [{name: row[name] for name in names} for _, row in block]

    def sampled_ids(self) -> list[str]:
        """Returns some ids, spread over the whole table; empty where the table has no ids."""
        if not self.has_ids:
            return []
        sample = list[str]()
        if self.table.schema is not None:
            for batch in self.table.batches(self._reader.columns(["prompt_id"]), 1 << 16):
                column = pl.Series(pl.from_arrow(self._reader.arrays(batch, 1, ["prompt_id"])["prompt_id"]))
                some = column.gather_every(max(1, len(column) // 64))
                sample += column_of(self.table.name, self.named, "prompt_id", some).drop_nulls().to_list()
            return sample
        rows = enumerate(self._rows(["prompt_id"]), 1)
        ids = (self._reader.cells(row, at, ["prompt_id"])["prompt_id"] for at, row in islice(rows, 0, None, 100))
        return [str(each) for each in ids if each is not None]

    def _rows(self, roles: Sequence[str]) -> Iterator[dict[str, Any]]:
        ids = self._reader.columns(["prompt_id"]) if "prompt_id" in roles else []
        return self.table.rows(only=self._reader.columns(roles), ids=ids)

    def _named(self, roles: Sequence[str]) -> dict[str, str]:
        return {role: self.named[role] for role in roles}

    def _arrow_frames(self, roles: Sequence[str], n_bytes: int, sums: int) -> Iterator[pl.DataFrame]:
        row_bytes = max(1.0, self.table.row_bytes(self._reader.columns(roles)))
        rows = int(min(_ROWS, max(1, n_bytes // row_bytes)))
        step = int(min(rows, max(1, _BATCH_BYTES // row_bytes)))
        first = 1
        for table in self._arrow_tables(roles, n_bytes, rows, step, sums):
            frame = self._checked(table, first)
            first += frame.height
            yield long_frame(self.table.name, self._named(roles), frame)

    def _checked(self, table: pa.Table, first: int) -> pl.DataFrame:
        """Checks rows of Arrow data, whose columns are called by their roles; the first has the number `first`."""
        frame = frame_of(table)
        self._reader.check_prompts(frame, first)
        return frame

    def _arrow_tables(self, roles: Sequence[str], n_bytes: int, rows: int, step: int, sums: int) -> Iterator[pa.Table]:
        """Reads tables of about `n_bytes` or `rows`, `step` rows at a time; their columns are called by their roles."""
        held: list[pa.Table] = []
        size, first = 0, 1
        for batch in self.table.batches(self._reader.columns(roles), step):
            columns = self._reader.arrays(batch, first, roles)
            first += batch.num_rows
            if sums:
                columns |= measured(columns["response"], sums)
            table = pa.table(columns)
            if held and held[0].schema != table.schema:
                # Of cells that were read one by one.
                yield pa.concat_tables(held)
                held, size = [], 0
            held.append(table)
            size += held[-1].nbytes
            if sum(part.num_rows for part in held) + step > rows or size >= n_bytes:
                yield pa.concat_tables(held)
                held, size = [], 0
        if held:
            yield pa.concat_tables(held)

    def _text_frames(self, roles: Sequence[str], n_bytes: int) -> Iterator[pl.DataFrame]:
        rows = enumerate(self._rows(roles), 1)
        while block := list(islice(rows, 1)):
            size = 0
            while size < n_bytes and (more := list(islice(rows, _TEXT_ROWS))):
                block += more
                size += sum(_size(cell) for _, row in more for cell in row.values())
            cells = ((at, self._reader.cells(row, at, roles)) for at, row in block)
            yield long_frame_of_rows(self.table.name, self._named(roles), cells)


def _size(cell: object) -> int:
    return len(cell) if isinstance(cell, str) else 64 * len(cell) if isinstance(cell, list) else 0


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

    Adds `blank_id` too: the row has an id that says nothing.

    Args:
        rows: see `ScoredTableFile.frames`. Ids that are missing or blank are filled, with the id that the prompt would
            have.
        has_ids: whether prompts have ids of their own.
    """
    blank = rows["prompt_id"].str.contains(BLANK).fill_null(value=False)
    rows = rows.with_columns(content=prompt_hashes(rows["prompt"]), blank_id=blank)
    if blank.any():
        rows = rows.with_columns(prompt_id=pl.when(~blank).then("prompt_id"))
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


def prompt_ids(rows: pl.DataFrame, *, has_ids: bool) -> pl.Series:
    """Gives the prompt id of each row, the empty text for one that has neither id nor prompt.

    Args:
        rows: see `with_keys`.
        has_ids: whether prompts have ids of their own.
    """
    if has_ids:
        return rows["prompt_id"].fill_null("")
    prompts = rows.unique("key", maintain_order=True)
    made = described_prompts(prompts["prompt"], with_ids=True)["prompt_id"].fill_null("")
    ids = prompts.select("key").with_columns(made=made)
    return rows.join(ids, on="key", how="left", maintain_order="left")["made"]


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
            misaligned=pl.col("misaligned").min(),
            blank_ids=pl.col("blank_id").sum(),
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
    sound = runs["misaligned"].null_count() == runs.height and not runs["blank_ids"].sum()
    if sound and not runs["apart"].any() and not (runs["prompt_id"] == "").any():
        return runs.select("key", "prompt_id", "messages", "reason", "detail", "at")
    texts = rows.group_by("key").agg(texts=pl.col("content").drop_nulls().n_unique())
    runs = runs.join(texts, on="key", how="left", maintain_order="left")
    return _with_reasons(runs).select("key", "prompt_id", "messages", "reason", "detail", "at")


def _with_reasons(runs: pl.DataFrame) -> pl.DataFrame:
    """Says of prompts what their rows have wrong; the first reason of these that applies counts."""
    wrong = [
        (pl.col("prompt_id") == "", "missing_prompt", pl.format("{} rows have neither prompt_id nor prompt", "rows")),
        (pl.col("blank_ids") > 0, "empty_id", pl.format("{} rows have an empty prompt_id", "blank_ids")),
        (pl.col("texts") > 1, "conflicting_prompts", pl.format("{} different prompts have this id", "texts")),
        (pl.col("misaligned").is_not_null() & pl.col("reason").is_null(), "misaligned_scores", pl.col("misaligned")),
    ]
    reason, detail = pl.col("reason"), pl.col("detail")
    for is_so, name, said in reversed(wrong):
        reason, detail = (
            pl.when(is_so).then(pl.lit(name)).otherwise(reason),
            pl.when(is_so).then(said).otherwise(detail),
        )
    return runs.with_columns(reason=reason, detail=detail)
