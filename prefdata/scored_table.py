"""Reads a table of scored answers, as `prefdata pair` takes it: Parquet, JSON lines or CSV, long or wide.

Long form has one row a candidate: `prompt_id` (or made from `prompt`), `prompt`, `response`, `score`, and optionally
`source` (or `model`), `index`, `finish_reason`. Wide form has one row a prompt, with lists of answers and of scores:
`all_generated_responses` and `all_rm_scores`, as the Snorkel and SimPO datasets have them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from prefdata import files
from prefdata.conversations import Unusable, read_conversation
from prefdata.errors import InputError, RecipeError, closest
from prefdata.records import Message, as_messages, prompt_id_of
from prefdata.scores import parse_score
from prefdata.spec import canonical_json

__all__ = ["ROLES", "ScoredTable", "columns_of", "conversation", "from_frame", "read_scored_table"]

ROLES = ("prompt_id", "prompt", "response", "score", "source", "model", "index", "finish_reason")
"""What a column of the table can be."""
_ELSEWHERE = {"response": "all_generated_responses", "score": "all_rm_scores"}
"""Second names under which a role is looked for."""
_STRUCTURE = "\0"
"""Stands before the JSON of a prompt that was no text, so that a list is never taken for the text that shows it."""
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
    """`prefdata.tables.DROPS`: prompts that can't be paired as the table has them."""
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
    return _scored(_from_parquet(path, named) if path.suffix == ".parquet" else _from_rows(path, named))


def from_frame(path: Path, named: Mapping[str, str], frame: pl.DataFrame) -> ScoredTable:
    """Prompts of the Parquet table `path` with all their rows, one column for each role of `named` (see `columns_of`).

    Raises:
        InputError: a column holds something else than it should.
    """
    return _scored(_cleaned(path, named, frame))


def _scored(frame: pl.DataFrame) -> ScoredTable:
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
    wide = named.get("response", "response") not in have or named.get("response") == _ELSEWHERE["response"]
    for role in ROLES:
        names = [role, _ELSEWHERE.get(role, role)]
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
    return _cleaned(path, named, frame.select(pl.col(name).alias(role) for role, name in named.items()))


def _cleaned(path: Path, named: Mapping[str, str], frame: pl.DataFrame) -> pl.DataFrame:
    frame = frame.with_row_index("row").with_columns(
        pl.col(name).arr.to_list() for name in ("response", "score") if isinstance(frame[name].dtype, pl.Array)
    )
    kind = frame["response"].dtype
    if isinstance(kind, pl.List) and kind.inner in (pl.String, pl.Null):
        frame = _long(frame)
    elif kind not in (pl.String, pl.Categorical, pl.Null):
        raise _wrong_type(path, named["response"], f"{kind}")
    else:
        frame = frame.with_columns(response_is_row=True, misaligned=False)
    score, unscored = _parsed(frame["score"])
    frame = frame.with_columns(score=score, unscored=unscored)
    if "prompt" in frame.columns and frame["prompt"].dtype not in (pl.String, pl.Null):
        texts = [_text(path, named["prompt"], cell) for cell in frame["prompt"].to_list()]
        frame = frame.with_columns(prompt=pl.Series(texts, dtype=pl.String))
    return _typed(path, named, frame)


def _long(frame: pl.DataFrame) -> pl.DataFrame:
    """Wide rows as one row a candidate. A row without a single answer keeps one row that is no candidate."""
    if not isinstance(frame["score"].dtype, pl.List):
        frame = frame.with_columns(score=pl.lit(None, pl.List(pl.Float64)))
    answers = pl.col("response").list.len().fill_null(0)
    frame = frame.with_columns(
        response_is_row=answers > 0, misaligned=answers != pl.col("score").list.len().fill_null(0)
    )
    whole = frame.filter(pl.col("response_is_row") & ~pl.col("misaligned"))
    rest = frame.filter(~pl.col("response_is_row") | pl.col("misaligned"))
    whole = whole.with_columns(index=pl.int_ranges(pl.col("response").list.len())).explode("response", "score", "index")
    rest = rest.with_columns(
        response=pl.lit(None, whole["response"].dtype),
        score=pl.lit(None, whole["score"].dtype),
        index=pl.lit(None, whole["index"].dtype),
    )
    return pl.concat([whole, rest.select(whole.columns)])


def _parsed(scores: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Finite scores, and for the others the reason why they are none."""
    if scores.dtype.is_numeric():
        values = scores.cast(pl.Float64)
        reason = (
            pl.when(pl.col("score").is_null())
            .then(pl.lit("missing"))
            .when(pl.col("score").is_nan())
            .then(pl.lit("nan"))
            .when(pl.col("score").is_infinite())
            .then(pl.lit("not_finite"))
        )
        frame = values.to_frame("score").with_columns(unscored=reason)
        return frame.select(score=pl.when(pl.col("unscored").is_null()).then("score")).to_series(), frame["unscored"]
    parsed = [_one_score(cell) for cell in scores.to_list()]
    return (
        pl.Series([score for score, _ in parsed], dtype=pl.Float64),
        pl.Series([reason for _, reason in parsed], dtype=pl.String),
    )


def _one_score(cell: object) -> tuple[float | None, str | None]:
    score = parse_score(cell)
    if score is not None:
        return score, None
    if isinstance(cell, list | tuple) and len(cell) == 1:
        return None, _one_score(cell[0])[1] or "not_a_number"
    if cell is None:
        return None, "missing"
    if isinstance(cell, float):
        return None, "nan" if math.isnan(cell) else "not_finite"
    return None, "not_a_number"


def _from_rows(path: Path, named: Mapping[str, str]) -> pl.DataFrame:
    columns: dict[str, list[Any]] = {name: [] for name in ("row", "response_is_row", "misaligned", "unscored", *ROLES)}
    text_only = ".csv" in [suffix.lower() for suffix in path.suffixes]
    for number, row in enumerate(files.rows(path, only=list(named.values())), 1):
        cells = {role: row[name] for role, name in named.items()}
        if "prompt" in cells:
            cells["prompt"] = _text(path, named["prompt"], cells["prompt"])
        if text_only:
            cells = _unfolded(cells)
        for candidate in _candidates(path, named["response"], number, cells):
            for name, values in columns.items():
                values.append(candidate.get(name))
    frame = pl.DataFrame(
        {
            "row": pl.Series(columns.pop("row"), dtype=pl.UInt32),
            "score": pl.Series(columns.pop("score"), dtype=pl.Float64),
            **{name: pl.Series(columns.pop(name), dtype=pl.Boolean) for name in ("response_is_row", "misaligned")},
            **{
                name: pl.Series([_cell(value) for value in values], dtype=pl.String) for name, values in columns.items()
            },
        }
    )
    absent = [role for role in ROLES if role not in named and not (role == "index" and frame["index"].count())]
    return _typed(path, named, frame.drop(absent))


def _unfolded(cells: dict[str, Any]) -> dict[str, Any]:
    """The cells of a CSV row, with the lists of a wide row, which CSV holds as JSON texts, as lists."""
    lists: dict[str, Any] = {}
    for role in ("response", "score"):
        cell = cells[role]
        try:
            lists[role] = json.loads(cell) if cell is not None and cell.lstrip().startswith("[") else None
        except (ValueError, RecursionError):
            return cells
    return {**cells, **lists} if all(isinstance(found, list) for found in lists.values()) else cells


def _cell(value: object) -> str | None:
    return None if value is None else value if isinstance(value, str) else canonical_json(value)


def _candidates(path: Path, column: str, number: int, cells: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The candidates of one row of a text table."""
    response, shared = cells["response"], {**cells, "row": number, "misaligned": False}
    if response is None and column == _ELSEWHERE["response"]:
        response = []
    if response is None or isinstance(response, str):
        score, reason = _one_score(cells["score"])
        yield {**shared, "score": score, "unscored": reason, "response_is_row": True}
        return
    if not isinstance(response, list) or not all(text is None or isinstance(text, str) for text in response):
        raise _wrong_type(path, column, f"{type(response).__name__} in row {number}")
    scores: Sequence[Any] = cells["score"] if isinstance(cells["score"], list) else []
    if len(scores) != len(response) or not response:
        nothing = {"response": None, "score": None, "response_is_row": bool(response)}
        yield {**shared, **nothing, "misaligned": len(scores) != len(response)}
        return
    for index, (text, cell) in enumerate(zip(response, scores, strict=True)):
        score, reason = _one_score(cell)
        place = {"response": text, "index": str(index), "response_is_row": True}
        yield {**shared, **place, "score": score, "unscored": reason}


def _wrong_type(path: Path, column: str, found: str) -> InputError:
    return InputError(
        f"{str(path)!r}: column {column!r} holds {found}",
        valid="texts (one row a candidate), or lists of texts (one row a prompt)",
        hint="name the column of the answers: --columns response=NAME",
    )


def _typed(path: Path, named: Mapping[str, str], frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with every column there, of its type; the source falls back to the model."""
    missing = {*ROLES, "unscored"} - {*frame.columns}
    frame = frame.with_columns(pl.lit(None, pl.String).alias(name) for name in sorted(missing))
    for role in ROLES:
        kind = pl.Int64 if role == "index" else pl.String
        if role != "score":
            try:
                frame = frame.with_columns(_whole(frame[role]) if role == "index" else frame[role].cast(kind))
            except pl.exceptions.PolarsError as error:
                raise InputError(
                    f"{str(path)!r}: column {named[role]!r} holds something else than "
                    f"{'whole numbers' if role == 'index' else 'texts'}",
                    valid="0, 1, 2, ..." if role == "index" else "texts or numbers",
                    hint=f"name another column: --columns {role}=NAME",
                ) from error
    return frame.with_columns(source=pl.coalesce("source", "model"))


def _whole(numbers: pl.Series) -> pl.Series:
    """The numbers as Int64; `1.0` is one of them, `1.5` is not."""
    try:
        exact = numbers.cast(pl.Int64)
    except pl.exceptions.InvalidOperationError:
        exact = numbers.cast(pl.Float64).cast(pl.Int64)
    if numbers.dtype.is_integer() or (exact == numbers.cast(pl.Float64)).fill_null(True).all():
        return exact
    raise pl.exceptions.InvalidOperationError("fractions")


def _text(path: Path, column: str, prompt: object) -> str | None:
    if prompt is None or isinstance(prompt, str):
        return prompt
    try:
        return f"{_STRUCTURE if isinstance(prompt, list | dict) else ''}{canonical_json(prompt)}"
    except RecipeError as error:
        raise InputError(
            f"{str(path)!r}: column {column!r} holds {type(prompt).__name__}",
            valid="texts, or lists of messages",
            hint="name the column of the prompts: --columns prompt=NAME",
        ) from error


def conversation(text: str) -> tuple[Message, ...] | Unusable:
    """The messages of a prompt, once it is text."""
    with suppress(ValueError):
        if text.startswith(_STRUCTURE):
            return read_conversation(json.loads(text.removeprefix(_STRUCTURE)))
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
