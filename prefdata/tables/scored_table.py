"""Reads a table of scored answers, as `prefdata pair` takes it: Parquet, JSON lines or CSV, long or wide.

Long form has one row a candidate: `prompt_id` (or made from `prompt`), `prompt`, `response`, `score`, and optionally
`source` (or `model`), `index`, `finish_reason`. Wide form has one row a prompt, with lists of answers and of scores:
`all_generated_responses` and `all_rm_scores`, as the Snorkel and SimPO datasets have them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefdata.errors import InputError, closest
from prefdata.lazy import pl
from prefdata.records import Message, as_messages, prompt_id_of
from prefdata.tables import files
from prefdata.tables.cells import Unusable, read_conversation
from prefdata.tables.scored_rows import ELSEWHERE, ROLES, STRUCTURE, cleaned, cleaned_rows

__all__ = ["ScoredTable", "columns_of", "conversation", "from_cleaned", "from_frame", "read_scored_table"]

_MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
_CANDIDATE = {
    "prompt_id": pl.String,
    "source": pl.String,
    "index": pl.Int64,
    "model": pl.String,
    "response": pl.String,
    "score": pl.Float64,
    "unscored": pl.String,
    "finish_reason": pl.String,
}


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


def read_scored_table(path: Path, columns: Mapping[str, str] | None = None) -> ScoredTable:
    """Reads the table.

    Args:
        path: a `.parquet`, `.jsonl` or `.csv` file; the text formats also `.gz` or `.zst`.
        columns: role → name of the column, where the names differ from the roles.

    Raises:
        InputError: the file can't be read, or lacks a column, or a column holds something else than it should.
    """
    named = columns_of(path, columns or {})
    return from_cleaned(
        _from_parquet(path, named)
        if path.suffix == ".parquet"
        else cleaned_rows(path, named, enumerate(files.rows(path, only=list(named.values())), 1))
    )


def from_frame(path: Path, named: Mapping[str, str], frame: pl.DataFrame) -> ScoredTable:
    """Prompts of the Parquet table `path` with all their rows, one column for each role of `named` (see `columns_of`).

    Raises:
        InputError: a column holds something else than it should.
    """
    return from_cleaned(cleaned(path, named, frame))


def from_cleaned(frame: pl.DataFrame) -> ScoredTable:
    """Prompts with all their rows, as `prefdata.tables.scored_rows` cleans them."""
    frame, prompts = _identified(frame)
    # -0.0 and 0.0 are one score; as two bit patterns they would make two files of one table.
    score = pl.when(pl.col("score") == 0).then(0.0).otherwise("score")
    candidates = frame.filter("response_is_row").with_columns(score=score)
    usable = prompts.filter(pl.col("reason").is_null()).select("prompt_id", "messages")
    return ScoredTable(
        candidates.join(usable, on="prompt_id", how="semi").select(
            pl.col(name).cast(kind) for name, kind in _CANDIDATE.items()
        ),
        usable,
        prompts.filter(pl.col("reason").is_not_null()).select(
            "prompt_id", pl.lit("prompts").alias("stage"), "reason", "detail"
        ),
        candidates.height,
    )


def columns_of(path: Path, given: Mapping[str, str]) -> dict[str, str]:
    """Role → column, for the roles that the table has.

    Raises:
        InputError: the file can't be read, lacks a column that is needed, or one that is named.
    """
    have, hint = files.columns(path), "--columns ROLE=NAME"
    for role, name in given.items():
        if role not in ROLES:
            raise InputError(f"{role!r} is no role of a column", valid=closest(role, ROLES), hint=hint)
        files.check_columns(repr(str(path)), [name], have)
    named = dict(given)
    wide = named.get("response", "response") not in have or named.get("response") == ELSEWHERE["response"]
    for role in ROLES:
        names = [role, ELSEWHERE.get(role, role)]
        # Beside lists of answers stand lists of scores, even where the row has a score of its own as well.
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


def _from_parquet(path: Path, named: Mapping[str, str]) -> pl.DataFrame:
    next(files.rows(path, only=list(named.values())))
    try:
        frame = pl.read_parquet(path, columns=list(dict.fromkeys(named.values())), glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{str(path)!r} is not a whole Parquet file: {error}", hint="copy the file again") from error
    return cleaned(path, named, frame.select(pl.col(name).alias(role) for role, name in named.items()))


def conversation(text: str) -> tuple[Message, ...] | Unusable:
    """The messages of a prompt, once it is text."""
    with suppress(ValueError):
        if text.startswith(STRUCTURE):
            return read_conversation(json.loads(text.removeprefix(STRUCTURE)))
    return read_conversation(text)


def _identified(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The frame with every `prompt_id`, and one row for each prompt: prompt_id, prompt, messages, reason, detail.

    `reason` is null for a prompt that can be paired. Rows that have neither an id nor a prompt share the id "".
    """
    texts = frame["prompt"].drop_nulls().unique(maintain_order=True).to_list()
    read = [conversation(text) for text in texts]
    known = pl.DataFrame(
        {
            "prompt": pl.Series(texts, dtype=pl.String),
            "made_id": pl.Series(
                [
                    prompt_id_of(as_messages(text) if isinstance(found, Unusable) else found)
                    for text, found in zip(texts, read, strict=True)
                ],
                dtype=pl.String,
            ),
            "place": pl.Series(range(len(texts)), dtype=pl.Int64),
        }
    )
    frame = frame.join(known, on="prompt", how="left").with_columns(
        prompt_id=pl.coalesce("prompt_id", "made_id").fill_null("")
    )
    prompts = (
        frame.group_by("prompt_id")
        .agg(
            # By what the prompt says, not by how it is spelt: a text and its one user turn are the same prompt.
            texts=pl.col("made_id").drop_nulls().n_unique(),
            prompt=pl.col("prompt").min(),
            misaligned=pl.col("misaligned").any(),
            rows=pl.len(),
        )
        .sort("prompt_id")
        .join(known, on="prompt", how="left", maintain_order="left")
    )
    described = [_described(read, row) for row in prompts.iter_rows(named=True)]
    schema: dict[str, pl.DataType | type[pl.DataType]] = {
        "prompt_id": pl.String,
        "messages": _MESSAGES,
        "reason": pl.String,
        "detail": pl.String,
    }
    return frame, pl.DataFrame(described, schema=schema, orient="row")


def _described(
    read: Sequence[tuple[Message, ...] | Unusable], row: dict[str, Any]
) -> tuple[str, list[Message] | None, str | None, str]:
    prompt_id, found = row["prompt_id"], None if row["place"] is None else read[row["place"]]
    messages = list(found) if isinstance(found, tuple) else None
    if not prompt_id:
        return prompt_id, None, "missing_prompt", f"{row['rows']} rows have neither prompt_id nor prompt"
    if row["texts"] > 1:
        return prompt_id, None, "conflicting_prompts", f"{row['texts']} different prompts have this id"
    if isinstance(found, Unusable):
        return prompt_id, None, found.reason, found.detail
    if row["misaligned"]:
        return prompt_id, messages, "misaligned_scores", "the lists of answers and of scores differ in length"
    return prompt_id, messages, None, ""
