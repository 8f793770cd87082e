"""The first prompts of a table of scored answers, as they are understood."""

from __future__ import annotations

from itertools import islice

from prefdata.lazy import pl
from prefdata.spec import JSON
from prefdata.tables.scored_table import ScoredTableFile, prompts_of, with_keys
from prefdata.tables.shapes import ROLES

__all__ = ["preview"]

_PROMPTS = 3
_BYTES = 1 << 20
"""Decoded bytes of the rows that are looked at."""
_ANSWER = ("source", "index", "model", "score", "unscored", "finish_reason", "response")


def preview(file: ScoredTableFile) -> JSON:
    """Returns the first prompts of a table with their answers, as far as its first rows have them.

    Args:
        file: the table.

    Returns:
        `read_as` (what was recognised, None where columns are called by their roles), `columns` (role → path), and
        `prompts`, each with `prompt_id`, `messages`, `reason` and `detail` (why it can't be paired, or None), and
        `answers`, each with its `source`, `index`, `model`, `score`, `unscored`, `finish_reason` and `response`.

    Raises:
        InputError: the table can't be read.
    """
    rows = with_keys(pl.concat(islice(file.frames(_BYTES), 1)), has_ids=file.has_ids)
    first = rows["key"].unique(maintain_order=True).head(_PROMPTS)
    rows = rows.filter(pl.col("key").is_in(first.implode())).sort("key", maintain_order=True)
    by_key = {prompt["key"]: prompt for prompt in prompts_of(rows).to_dicts()}
    answers = rows.filter("is_answer").select("key", *_ANSWER).to_dicts()
    shown: list[JSON] = [
        {
            **{name: by_key[key][name] for name in ("prompt_id", "messages", "reason", "detail")},
            "answers": [{name: row[name] for name in _ANSWER} for row in answers if row["key"] == key],
        }
        for key in first.to_list()
    ]
    return {
        "read_as": file.reading.said,
        "columns": {role: file.named[role] for role in ROLES if role in file.named},
        "prompts": shown,
    }
