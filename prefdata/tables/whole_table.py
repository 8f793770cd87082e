"""Reads a whole table of scored answers into memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prefdata.lazy import pl
from prefdata.tables.files import TableLike
from prefdata.tables.prompt_parts import check_parts
from prefdata.tables.scored_table import ScoredTableFile, prompts_of, with_keys, with_names

__all__ = ["ScoredTable", "read_scored_table", "read_whole"]

_CANDIDATE = ("prompt_id", "source", "index", "model", "response", "score", "unscored", "finish_reason", "n_tokens")


@dataclass(frozen=True)
class ScoredTable:
    """The candidates of a table, and what its prompts are."""

    candidates: pl.DataFrame
    """prompt_id, source, index, model, response, score (finite or null), unscored, finish_reason, n_tokens; in no
    order."""
    prompts: pl.DataFrame
    """prompt_id and messages, sorted by id; `messages` is null where the table has none."""
    drops: pl.DataFrame
    """`prefdata.tables.schemas.DROPS`: prompts that can't be paired as the table has them."""
    rows: int
    """Candidates read, those of dropped prompts included."""


def read_scored_table(table: TableLike, columns: Mapping[str, str] | None = None) -> ScoredTable:
    """Reads a whole table into memory.

    Args:
        table: see `ScoredTableFile`.
        columns: see `ScoredTableFile`.

    Raises:
        InputError: the file can't be read, or lacks a column, or a column holds something else than it should; or see
            `prefdata.tables.prompt_parts.check_parts`.
    """
    file = ScoredTableFile(table, columns)
    check_parts(file)
    return read_whole(file)


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
