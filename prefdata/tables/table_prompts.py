"""The prompts of a table of answers: which rows share one, what each says, and why one can't be used."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from typing import Any

from prefdata.errors import RecipeError
from prefdata.lazy import np, pl
from prefdata.records import Message, as_messages, prompt_id_of
from prefdata.spec import canonical_json
from prefdata.tables.cells import ANSWERABLE, BLANK, ROLES_OF_TURNS, Unusable, read_conversation
from prefdata.tables.digest import mixed

__all__ = ["STRUCTURE", "described_prompts", "prompt_hashes", "prompt_text"]

STRUCTURE = "\0"
"""Starts the JSON of a prompt that is not a text, so that a list is never taken for the text that shows it."""
_DOUBTFUL = r"\A(?:[\s\x1c-\x1f]*[\[{]|\x00)"
"""Texts that may be the JSON of messages; any other text is one user turn."""
_PLAIN_START = r"[^\s\x1c-\x1f\[{\0]"
_SHIFT = 0x9E3779B97F4A7C15
_DESCRIPTION = ("prompt_id", "messages", "reason", "detail")


def prompt_text(cell: object) -> str | None:
    """Returns a prompt cell as text: a text as it is, one user turn as what it says, anything else as marked JSON.

    NaN is null, as programs write it that have no other null.

    Raises:
        RecipeError: the cell has no JSON form.
    """
    if cell is None or isinstance(cell, str):
        return cell
    match cell:
        case [{"role": "user", "content": str(text), **more}] if not more and re.match(_PLAIN_START, text):
            return text
    try:
        text = canonical_json(cell)
    except RecipeError:
        if (cell := _without_nan(cell)) is None:
            return None
        text = canonical_json(cell)
    return f"{STRUCTURE if isinstance(cell, list | dict) else ''}{text}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and value != value else value


def prompt_hashes(prompts: pl.Series) -> pl.Series:
    """Hashes each prompt by what it says, not by how it is spelt: a text and its one user turn are the same prompt.

    Args:
        prompts: texts (see `prompt_text`), or lists of messages.

    Returns:
        64 bits for each row, null for a null; they hold for this process. Of n prompts, two share a hash by chance with
        a probability of n² / 2⁶⁵.
    """
    if prompts.dtype != pl.String:
        hashes = _hashes_of_lists(prompts)
    else:
        doubtful = prompts.str.contains(_DOUBTFUL).fill_null(value=False)
        if doubtful.any():
            spelt = prompts.filter(doubtful).unique()
            said = pl.Series([_said(text) for text in spelt.to_list()], dtype=pl.String)
            prompts = prompts.replace(spelt, said)
        hashes = prompts.hash()
    if not prompts.null_count():
        return hashes
    return hashes.zip_with(prompts.is_not_null(), pl.Series([None], dtype=pl.UInt64))


def _hashes_of_lists(prompts: pl.Series) -> pl.Series:
    """Hashes lists of messages by their turns; those of a null are undefined."""
    counts = prompts.list.len().fill_null(0).cast(pl.Int64).to_numpy()
    turns = prompts.filter(pl.Series(counts > 0)).list.explode().struct
    starts = np.cumsum(counts) - counts
    place = np.arange(counts.sum()) - np.repeat(starts, counts)
    words = mixed(turns.field("role").hash().to_numpy() + mixed(place.astype(np.uint64)))
    words = mixed(turns.field("content").hash().to_numpy() + words)
    sums = np.zeros(len(counts), np.uint64)
    sums[counts > 0] = np.add.reduceat(words, starts[counts > 0]) if len(words) else 0
    # Shifted, since 0 stays 0 and stands for rows without a prompt.
    return pl.Series(mixed(sums + counts.astype(np.uint64) + np.uint64(_SHIFT)))


def described_prompts(prompts: pl.Series, *, with_ids: bool) -> pl.DataFrame:
    """Reads and checks prompts.

    Args:
        prompts: texts (see `prompt_text`), or lists of messages.
        with_ids: make the ids of the prompts; otherwise they are null.

    Returns:
        For each row `prompt_id`, `messages` (null where it can't be used, or is null), `reason` and `detail` (why it
        can't be used; null and empty otherwise).
    """
    plain = _plain_texts(prompts) if prompts.dtype == pl.String else _plain_lists(prompts)
    rows = pl.Series("row", range(len(prompts)), dtype=pl.UInt32)
    parts = [_plain(prompts.filter(plain), with_ids).with_columns(rows.filter(plain))]
    if not plain.all():
        odd = [_odd(cell, with_ids) for cell in prompts.filter(~plain).to_list()]
        described = pl.DataFrame(odd, schema=parts[0].select(_DESCRIPTION).schema, orient="row")
        parts.append(described.with_columns(rows.filter(~plain)))
    return pl.concat(parts).sort("row").select(_DESCRIPTION)


def _plain_texts(prompts: pl.Series) -> pl.Series:
    return ~prompts.str.contains(f"{_DOUBTFUL}|{BLANK}").fill_null(value=True)


def _plain_lists(prompts: pl.Series) -> pl.Series:
    """Which lists hold nothing but sound turns, the last of which can be answered."""
    rows = pl.DataFrame({"list": prompts}).with_row_index("row")
    turns = rows.filter(pl.col("list").list.len() > 0).explode("list").unnest("list")
    sound = pl.col("role").is_in(ROLES_OF_TURNS) & pl.col("content").is_not_null()
    last = pl.col("role").last().is_in(ANSWERABLE) & ~pl.col("content").last().str.contains(BLANK)
    user = (pl.col("role") == "user").any()
    plain = turns.group_by("row", maintain_order=True).agg(plain=sound.all() & last & user)
    return rows.join(plain, on="row", how="left", maintain_order="left")["plain"].fill_null(value=False)


def _plain(prompts: pl.Series, with_ids: bool) -> pl.DataFrame:
    """Describes prompts that are known to be sound."""
    ids: list[str | None] = [None] * len(prompts)
    if prompts.dtype == pl.String:
        turns = pl.DataFrame({"role": pl.repeat("user", len(prompts), eager=True), "content": prompts}).to_struct()
        messages = turns.reshape((-1, 1)).arr.to_list() if len(turns) else prompts
        if with_ids:
            ids = [hashlib.sha256(text.encode()).hexdigest() for text in prompts.to_list()]
    else:
        messages = prompts
        if with_ids:
            ids = _ids_of_lists(prompts)
    kind = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
    return pl.DataFrame(
        {
            "prompt_id": pl.Series(ids, dtype=pl.String),
            "messages": messages.cast(kind) if len(messages) else pl.Series([], dtype=kind),
            "reason": pl.repeat(None, len(prompts), dtype=pl.String, eager=True),
            "detail": pl.repeat("", len(prompts), dtype=pl.String, eager=True),
        }
    )


def _ids_of_lists(prompts: pl.Series) -> list[str | None]:
    """The ids of lists of messages. One user turn is hashed without making Python objects of its list."""
    first = prompts.list.first().struct
    alone = ((prompts.list.len() == 1) & (first.field("role") == "user")).to_list()
    several = iter(prompts.filter(~pl.Series(alone, dtype=pl.Boolean)).to_list())
    return [
        hashlib.sha256(text.encode()).hexdigest() if single else prompt_id_of(next(several))
        for single, text in zip(alone, first.field("content").to_list(), strict=True)
    ]


def _odd(cell: object, with_ids: bool) -> tuple[str | None, list[Message] | None, str | None, str]:
    text = prompt_text(cell)
    if text is None:
        return None, None, None, ""
    read = _conversation(text)
    if isinstance(read, Unusable):
        return (prompt_id_of(as_messages(text)) if with_ids else None), None, read.reason, read.detail
    return (prompt_id_of(read) if with_ids else None), list(read), None, ""


def _conversation(text: str) -> tuple[Message, ...] | Unusable:
    with suppress(ValueError):
        if text.startswith(STRUCTURE):
            return read_conversation(json.loads(text.removeprefix(STRUCTURE)))
    return read_conversation(text)


def _said(text: str) -> str:
    """One spelling of a text that may be the JSON of messages."""
    read = _conversation(text)
    if isinstance(read, Unusable):
        return f"{STRUCTURE}{STRUCTURE}{text}"
    with suppress(RecipeError):
        return prompt_text(list(read)) or ""
    return text
