"""`diff`: what differs between two dataset folders."""

from __future__ import annotations

import difflib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from os import PathLike
from pathlib import Path
from typing import Any

from prefdata.errors import InputError
from prefdata.hub import find_dataset
from prefdata.inspection.pairs import pair_frames
from prefdata.lazy import pl

__all__ = ["Difference", "diff"]

_KEY = ["prompt_id", "place"]
_MEANS = ("score_chosen", "score_rejected", "score_margin", "length_chosen", "length_rejected")
_TURNS = ("prompt", "chosen", "rejected")
_CARD_LINES = 80
_EXAMPLES = 5
_ABSENT = object()


@dataclass
class Difference:
    """What differs; every part is empty where nothing does, and only `counts` and `means` may hold equal numbers."""

    before: str
    after: str
    counts: dict[str, list[int]]
    """`prompts` (with a pair or dropped), `pairs` → before, after."""
    gained: int = 0
    """Prompts that only the second has."""
    lost: int = 0
    """Prompts that only the first has."""
    outcomes: dict[str, int] = field(default_factory=dict)
    """`pair → no_contrast`: prompts of both whose outcome, a pair or the reason of their drop, is another."""
    changed: dict[str, int] = field(default_factory=dict)
    """Column → pairs of both in which it differs; `chosen` and `rejected` among them."""
    splits: dict[str, int] = field(default_factory=dict)
    """`train → test`: prompts that have moved."""
    means: dict[str, list[float | None]] = field(default_factory=dict)
    """Score and length → mean before and after, over the pairs of both."""
    schema: dict[str, list[str | None]] = field(default_factory=dict)
    """Column → its type before and after; None where there is no such column."""
    recipe: list[dict[str, Any]] = field(default_factory=list)
    """`path`, and `before` and `after` where there is a value, for each difference of `recipe.json`."""
    lock: list[dict[str, Any]] = field(default_factory=list)
    """The same for `prefdata.lock.json`."""
    audit: list[dict[str, Any]] = field(default_factory=list)
    """The same for `audit.json`."""
    ledger: list[dict[str, Any]] = field(default_factory=list)
    """The same for `ledger.json`."""
    card: list[str] = field(default_factory=list)
    """A unified diff of the cards, cut off after 80 lines."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """What differs → the first prompt ids of it."""

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        told = ("before", "after", "counts", "means", "examples")
        return not any(getattr(self, part.name) for part in fields(self) if part.name not in told)


def diff(before: str | PathLike[str], after: str | PathLike[str]) -> Difference:
    """Compares two datasets: builds, dataset folders, or `owner/name` or `owner/name@revision` of the Hub.

    Pairs are matched by prompt and, where a rule makes several of one prompt, by their number.

    Args:
        before: the one.
        after: the other.

    Raises:
        InputError: there is no such dataset.
    """
    folders = find_dataset(before).path, find_dataset(after).path
    one, two = map(_read, folders)
    found = Difference(
        str(folders[0]),
        str(folders[1]),
        {
            "prompts": [len(one.outcomes), len(two.outcomes)],
            "pairs": [one.pairs.height, two.pairs.height],
        },
        card=_card(one.folder, two.folder),
    )
    _compare_prompts(found, one, two)
    _compare_pairs(found, one.pairs, two.pairs)
    for name in ("recipe", "lock", "audit", "ledger"):
        file = "prefdata.lock.json" if name == "lock" else f"{name}.json"
        setattr(found, name, list(_paths(_json(one.folder / file), _json(two.folder / file))))
    return found


@dataclass(frozen=True)
class _Dataset:
    folder: Path
    pairs: pl.DataFrame
    """The rows of all splits, with `split` and `place`, the number of the pair within its prompt."""
    outcomes: Mapping[str, str]
    """Prompt → `pair` or the reason of its drop."""


def _read(folder: Path) -> _Dataset:
    dataset = folder if (folder / "data").is_dir() else folder / "dataset"
    if not any(dataset.glob("data/*.parquet")):
        raise InputError(
            f"{str(folder)!r} holds no dataset",
            valid="a build folder or a dataset folder, with data/*.parquet",
            hint="run the build again: it goes on where it stopped" if folder.exists() else "check the path",
        )
    frames = [frame.with_columns(split=pl.lit(split)) for split, frame in pair_frames(dataset).items()]
    try:
        pairs = pl.concat(frames)
        pairs = pairs.with_columns(place=pl.int_range(pl.len()).over("prompt_id"))
    except pl.exceptions.PolarsError as error:
        raise InputError(f"the files of {str(dataset)!r} are not tables of pairs: {error}") from error
    outcomes = dict.fromkeys(pairs["prompt_id"].to_list(), "pair")
    drops = _table(dataset / "drops.parquet") if (dataset / "drops.parquet").exists() else pl.DataFrame()
    if drops.height:
        # A prompt read twice has a drop (`duplicate`) and a pair; the pair is what became of it.
        outcomes = {**dict(drops.select("prompt_id", "reason").iter_rows()), **outcomes}
    return _Dataset(dataset, pairs, outcomes)


def _table(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{str(path)!r} is not a whole Parquet file: {error}", hint="copy the file again") from error


def _json(path: Path) -> Any:
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{str(path)!r} is not JSON: {error}") from error


def _compare_prompts(found: Difference, one: _Dataset, two: _Dataset) -> None:
    gained, lost = (sorted(a.outcomes.keys() - b.outcomes.keys()) for a, b in ((two, one), (one, two)))
    found.gained, found.lost = len(gained), len(lost)
    moved = Counter[str]()
    other = []
    for prompt_id in sorted(one.outcomes.keys() & two.outcomes.keys()):
        was, now = one.outcomes[prompt_id], two.outcomes[prompt_id]
        if was != now:
            moved[f"{was} → {now}"] += 1
            other.append(prompt_id)
    found.outcomes = dict(sorted(moved.items()))
    _show(found, "gained", gained)
    _show(found, "lost", lost)
    _show(found, "outcomes", other)


def _compare_pairs(found: Difference, one: pl.DataFrame, two: pl.DataFrame) -> None:
    types = [{name: str(kind) for name, kind in frame.schema.items()} for frame in (one, two)]
    for name in dict.fromkeys([*types[0], *types[1]]):
        was, now = types[0].get(name), types[1].get(name)
        if was != now:
            found.schema[name] = [was, now]
    both = one.join(two, on=_KEY, how="inner", suffix=" after").sort(_KEY)
    for name in one.columns:
        if name in two.columns and name not in (*_KEY, "split") and name not in found.schema:
            other = both.filter(pl.col(name).ne_missing(pl.col(f"{name} after")))
            if other.height:
                found.changed[name] = other.height
                if name in _TURNS:
                    _show(found, name, other["prompt_id"].to_list())
    moved = both.filter((pl.col("split") != pl.col("split after")) & (pl.col("place") == 0))
    words = moved.select(pl.format("{} → {}", "split", "split after").alias("move"), "prompt_id")
    found.splits = dict(sorted(words.group_by("move").len().iter_rows()))
    _show(found, "splits", words["prompt_id"].to_list())
    for name in _MEANS:
        if f"{name} after" in both.columns:
            found.means[name] = [_mean(both[name]), _mean(both[f"{name} after"])]


def _show(found: Difference, what: str, prompt_ids: list[str]) -> None:
    if prompt_ids:
        found.examples[what] = prompt_ids[:_EXAMPLES]


def _mean(values: pl.Series) -> float | None:
    known = values.drop_nulls().to_list()
    return round(math.fsum(known) / len(known), 4) if known else None


def _paths(before: Any, after: Any, path: str = "") -> Iterator[dict[str, Any]]:
    """Every place at which two JSON values differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            inner = f"{path}.{key}" if path else key
            yield from _paths(before.get(key, _ABSENT), after.get(key, _ABSENT), inner)
    elif isinstance(before, list) and isinstance(after, list):
        for place in range(max(len(before), len(after))):
            was, now = (values[place] if place < len(values) else _ABSENT for values in (before, after))
            yield from _paths(was, now, f"{path}[{place}]")
    elif type(before) is not type(after) or before != after:
        sides = {"before": before, "after": after}
        yield {"path": path, **{side: value for side, value in sides.items() if value is not _ABSENT}}


def _card(before: Path, after: Path) -> list[str]:
    was, now = (
        path.read_text(encoding="utf-8", errors="replace").split("\n")
        if (path := folder / "README.md").exists()
        else []
        for folder in (before, after)
    )
    lines = list(difflib.unified_diff(was, now, "before/README.md", "after/README.md", n=1, lineterm=""))
    return lines if len(lines) <= _CARD_LINES else [*lines[:_CARD_LINES], f"... {len(lines) - _CARD_LINES} more lines"]
