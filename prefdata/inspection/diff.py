"""`diff`: finds what differs between two datasets."""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from os import PathLike
from pathlib import Path
from typing import Any

from prefdata.errors import InputError
from prefdata.hub import Found, find_dataset
from prefdata.inspection._files import check_types, read_json, read_table, table_errors
from prefdata.inspection.pairs import pair_frames
from prefdata.lazy import pl
from prefdata.spec.pages import page
from prefdata.tables.documents import ABSENT, json_differences, read_text

__all__ = ["Difference", "diff"]

_KEY = ["prompt_id", "number"]
_MEANS = ("score_chosen", "score_rejected", "score_margin", "length_chosen", "length_rejected")
_TURNS = ("prompt", "chosen", "rejected")
_CARD_LINES = 80
_EXAMPLES = 5
"""Prompt ids that are shown of each kind of difference."""


@dataclass
class Difference:
    """Differences of two datasets. A part without differences is empty; `counts` and `means` are always filled."""

    before: str
    after: str
    counts: dict[str, list[int]]
    """`prompts` (with a pair or dropped), `pairs` → before, after."""
    gained: int = 0
    """Number of prompts that only the second dataset has."""
    lost: int = 0
    """Number of prompts that only the first dataset has."""
    outcomes: dict[str, int] = field(default_factory=dict)
    """`pair → no_contrast` → prompts of both datasets with another outcome: a pair, or the reason of their drop."""
    changed: dict[str, int] = field(default_factory=dict)
    """Column → pairs of both datasets in which it differs; `chosen` and `rejected` are columns too."""
    splits: dict[str, int] = field(default_factory=dict)
    """`train → test` → prompts that changed their split."""
    means: dict[str, list[float | None]] = field(default_factory=dict)
    """Score and length → mean before and after, over the pairs of both datasets."""
    schema: dict[str, list[str | None]] = field(default_factory=dict)
    """Column → its type before and after; None where the dataset lacks the column."""
    recipe: list[dict[str, Any]] = field(default_factory=list)
    """`path`, and `before` and `after` where there is a value, for each difference of `recipe.json`."""
    lock: list[dict[str, Any]] = field(default_factory=list)
    """The same for `prefdata.lock.json`."""
    audit: list[dict[str, Any]] = field(default_factory=list)
    """The same for `audit.json`."""
    ledger: list[dict[str, Any]] = field(default_factory=list)
    """The same for `ledger.json`."""
    card: list[str] = field(default_factory=list)
    """Unified diff of the cards, at most 80 lines and a line that counts the rest."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """Kind of difference → its first prompt ids; with `ids`, all of them, for every column that differs too."""
    shown: int | None = _EXAMPLES
    """Most prompt ids of each kind in `examples`; None for all."""

    @property
    def equal(self) -> bool:
        """Whether the datasets have no difference."""
        context = ("before", "after", "counts", "means", "examples", "shown")
        return not any(getattr(self, part.name) for part in fields(self) if part.name not in context)

    def _repr_html_(self) -> str:
        facts = {"before": self.before, "after": self.after, "equal": "yes" if self.equal else "no"}
        documents = [
            (name, place["path"], place.get("before"), place.get("after"))
            for name in ("recipe", "audit", "ledger", "lock")
            for place in getattr(self, name)
        ]
        return page(
            "Difference",
            facts | {"prompts gained": self.gained, "prompts lost": self.lost},
            [
                ("", "before", "after"),
                *((name, *both) for name, both in self.counts.items()),
                *((name, *both) for name, both in self.means.items()),
            ],
            [("outcome", "prompts"), *self.outcomes.items(), *self.splits.items()],
            [("column", "pairs that differ"), *self.changed.items()],
            [("column", "type before", "type after"), *((name, *both) for name, both in self.schema.items())],
            [("document", "path", "before", "after"), *documents],
        )


_FILES = (
    *("README.md", "recipe.json", "prefdata.lock.json", "audit.json", "ledger.json", "drops.parquet"),
    *("data/*.parquet", "trace/*.parquet"),
)


def diff(before: str | PathLike[str], after: str | PathLike[str], *, ids: bool = False) -> Difference:
    """Compares two datasets: builds, dataset folders, or `owner/name` or `owner/name@revision` of the Hub.

    Pairs are matched by prompt and, where a prompt has several, by their number.

    Args:
        before: the one.
        after: the other.
        ids: name every prompt that differs in `examples`, and not only the first few of each kind.

    Raises:
        InputError: there is no such dataset.
    """
    one, other = find_dataset(before, only=_FILES), find_dataset(after, only=_FILES)
    first, second = map(_read, (one, other))
    difference = Difference(
        str(one.path),
        str(other.path),
        {
            "prompts": [len(first.outcomes), len(second.outcomes)],
            "pairs": [first.pairs.height, second.pairs.height],
        },
        card=_card(first.folder, second.folder),
        shown=None if ids else _EXAMPLES,
    )
    _compare_prompts(difference, first, second)
    with table_errors(f"the tables of {str(one.path)!r} and {str(other.path)!r} can't be compared"):
        _compare_pairs(difference, first.pairs, second.pairs)
    for name in ("recipe", "lock", "audit", "ledger"):
        file = "prefdata.lock.json" if name == "lock" else f"{name}.json"
        setattr(
            difference, name, _json_changes(*(read_json(each.folder / file, each.folder) for each in (first, second)))
        )
    return difference


@dataclass(frozen=True)
class _Dataset:
    folder: Path
    pairs: pl.DataFrame
    """Rows of all splits, with `split` and with `number`, the position of the pair within its prompt."""
    outcomes: Mapping[str, str]
    """Prompt → `pair` or the reason of its drop."""


def _read(found: Found) -> _Dataset:
    dataset = found.dataset
    if not any(dataset.glob("data/*.parquet")):
        raise InputError(
            f"{str(found.path)!r} holds no dataset",
            valid="a build folder or a dataset folder, with data/*.parquet",
            hint="run the build again: it continues where it stopped",
        )
    frames = [frame.with_columns(split=pl.lit(split)) for split, frame in pair_frames(dataset).items()]
    with table_errors(f"the files of {str(dataset)!r} are not tables of pairs"):
        pairs = pl.concat(frames)
        pairs = pairs.with_columns(number=pl.int_range(pl.len()).over("prompt_id"))
    outcomes = dict.fromkeys(pairs["prompt_id"].to_list(), "pair")
    file = dataset / "drops.parquet"
    if file.exists():
        drops = check_types(repr(str(file)), read_table(file, dataset), {"prompt_id": "id", "reason": "id"})
        # A prompt that was read twice has a drop (`duplicate`) and a pair; its outcome is the pair.
        outcomes = {**dict(drops.select("prompt_id", "reason").iter_rows()), **outcomes}
    return _Dataset(dataset, pairs, outcomes)


def _compare_prompts(difference: Difference, first: _Dataset, second: _Dataset) -> None:
    gained, lost = (sorted(a.outcomes.keys() - b.outcomes.keys()) for a, b in ((second, first), (first, second)))
    difference.gained, difference.lost = len(gained), len(lost)
    changes = Counter[str]()
    changed_ids = []
    for prompt_id in sorted(first.outcomes.keys() & second.outcomes.keys()):
        old, new = first.outcomes[prompt_id], second.outcomes[prompt_id]
        if old != new:
            changes[f"{old} → {new}"] += 1
            changed_ids.append(prompt_id)
    difference.outcomes = dict(sorted(changes.items()))
    _show(difference, "gained", gained)
    _show(difference, "lost", lost)
    _show(difference, "outcomes", changed_ids)


def _compare_pairs(difference: Difference, first: pl.DataFrame, second: pl.DataFrame) -> None:
    types = [{name: str(kind) for name, kind in frame.schema.items()} for frame in (first, second)]
    for name in dict.fromkeys([*types[0], *types[1]]):
        old, new = types[0].get(name), types[1].get(name)
        if old != new:
            difference.schema[name] = [old, new]
    both = first.join(second, on=_KEY, how="inner", suffix=" after").sort(_KEY)
    for name in first.columns:
        if name in second.columns and name not in (*_KEY, "split") and name not in difference.schema:
            different = both.filter(pl.col(name).ne_missing(pl.col(f"{name} after")))
            if different.height:
                difference.changed[name] = different.height
                if name in _TURNS or difference.shown is None:
                    _show(difference, name, different["prompt_id"].to_list())
    moved = both.filter((pl.col("split") != pl.col("split after")) & (pl.col("number") == 0))
    words = moved.select(pl.format("{} → {}", "split", "split after").alias("move"), "prompt_id")
    difference.splits = dict(sorted(words.group_by("move").len().iter_rows()))
    _show(difference, "splits", words["prompt_id"].to_list())
    for name in _MEANS:
        if f"{name} after" in both.columns:
            difference.means[name] = [_mean(both[name]), _mean(both[f"{name} after"])]


def _show(difference: Difference, what: str, prompt_ids: list[str]) -> None:
    if prompt_ids:
        difference.examples[what] = list(dict.fromkeys(prompt_ids))[: difference.shown]


def _mean(values: pl.Series) -> float | None:
    numbers = values.drop_nulls().to_list() if values.dtype.is_numeric() else []
    return round(math.fsum(numbers) / len(numbers), 4) if numbers else None


def _json_changes(before: Any, after: Any) -> list[dict[str, Any]]:
    """Lists path, `before` and `after` of every difference of two JSON values."""
    changes = []
    for path, *values in json_differences(before, after):
        sides = zip(("before", "after"), values, strict=True)
        changes.append({"path": path, **{side: value for side, value in sides if value is not ABSENT}})
    return changes


def _card(before: Path, after: Path) -> list[str]:
    old, new = (
        read_text(path, folder).split("\n") if (path := folder / "README.md").exists() else []
        for folder in (before, after)
    )
    lines = list(difflib.unified_diff(old, new, "before/README.md", "after/README.md", n=1, lineterm=""))
    return lines if len(lines) <= _CARD_LINES else [*lines[:_CARD_LINES], f"... {len(lines) - _CARD_LINES} more lines"]
