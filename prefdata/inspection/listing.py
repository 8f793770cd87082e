"""`list_pairs`: the pairs of a dataset that meet a condition, in an order, as `prefdata inspect --where` shows them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from prefdata.errors import InputError
from prefdata.inspection import questions
from prefdata.inspection._dataset_frames import DatasetFrames
from prefdata.inspection.conditions import column_of
from prefdata.inspection.load import load
from prefdata.lazy import pl
from prefdata.tables.files import TableLike

__all__ = ["Listing", "list_pairs"]

_FIRST = ("split", "prompt_id", "score_margin", "length_difference")


@dataclass
class Listing:
    """The pairs that were looked for."""

    pairs: int
    """Pairs of the dataset."""
    matching: int
    """Pairs that were looked for, of which `rows` are the first."""
    where: str | None = None
    sort: str | None = None
    prompt_id: str | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    """Cells by column; prompt, chosen and rejected are texts."""
    candidates: list[dict[str, Any]] | None = None
    """All answers of the prompt, the best first; None without `prompt_id`, or where they were not published."""
    dropped: dict[str, Any] | None = None
    """Why the prompt has no pair."""


def list_pairs(
    dataset: TableLike,
    *,
    where: str | None = None,
    sort: str | None = None,
    prompt_id: str | None = None,
    pairs: int = 20,
    config: str | None = None,
) -> Listing:
    """Looks for pairs.

    Args:
        dataset: see `prefdata.load`.
        where: a condition; see `prefdata.inspection.conditions`.
        sort: a column, the smallest first; `-column` takes the greatest first.
        prompt_id: a prompt, or the beginning of its id.
        pairs: most pairs to return.
        config: the configuration of a dataset that prefdata has not written.

    Raises:
        InputError: there is no such dataset, column or prompt, or the condition can't be read.
    """
    tables = load(dataset, config=config).tables
    found = questions.measured(tables) if where is None else questions.where(tables, where)
    listing = Listing(tables.pairs.height, found.height, where, sort)
    if prompt_id is not None:
        found = _of_prompt(tables, found, prompt_id, listing)
        listing.matching = found.height
    if sort is not None:
        found = _sorted(found, sort)
    shown = questions.with_texts(tables, found.head(pairs))
    if "prompt_id" in shown.columns:
        # Ids that can't be texts are refused where one is asked for.
        with suppress(InputError):
            shown = shown.with_columns(questions.id_texts(tables, shown))
    first = [name for name in _FIRST if name in shown.columns]
    listing.rows = shown.select(*first, pl.exclude(first)).to_dicts()
    return listing


def _of_prompt(tables: DatasetFrames, found: pl.DataFrame, prompt_id: str, listing: Listing) -> pl.DataFrame:
    if "prompt_id" not in found.columns:
        raise InputError(f"the pairs of {tables.name} have no prompt_id", hint="--where 'prompt contains \"...\"'")
    drops = tables.drops if tables.has("drops") else None
    ids = questions.id_texts(tables, tables.pairs)
    known = {*ids.drop_nulls().to_list(), *([] if drops is None else drops["prompt_id"].to_list())}
    listing.prompt_id = questions.find_prompt(tables, prompt_id, known)
    of_prompt = pl.col("prompt_id") == listing.prompt_id
    if tables.has("candidates") and not tables.answers.filter(of_prompt).is_empty():
        listing.candidates = questions.prompt(tables, listing.prompt_id).drop("prompt").to_dicts()
    if drops is not None:
        listing.dropped = next(iter(drops.filter(of_prompt).to_dicts()), None)
    return found.filter(questions.id_texts(tables, found) == listing.prompt_id)


def _sorted(found: pl.DataFrame, sort: str) -> pl.DataFrame:
    name = column_of(sort.removeprefix("-"), found.schema, f"the order {sort!r}")
    if found.schema[name].is_nested():
        raise InputError(f"the column {name!r} holds lists or objects, which have no order")
    return found.sort(name, descending=sort.startswith("-"), nulls_last=True, maintain_order=True)
