"""`what_if`: compares pair rules on the same scored answers. Nothing is sampled or scored."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prefdata.dataset.measures import Auditor
from prefdata.errors import InputError
from prefdata.flow.reader import BuildReader
from prefdata.hub import MARKS, at_commit, find_dataset, find_table, is_ours, is_path
from prefdata.inspection._files import read_json, read_table, table_errors
from prefdata.lazy import pa, pc, pl
from prefdata.pairing import PairRule
from prefdata.pairing.comparisons import comparisons_for_a_rule
from prefdata.pairing.words import rule_words
from prefdata.recipe import as_rule, folder_of
from prefdata.records import SIDES, LengthUnit
from prefdata.spec.code import allowing_code
from prefdata.tables.files import TableLike
from prefdata.tables.schemas import ANSWERS, COMPARISONS, DROPS, frame_of
from prefdata.tables.whole_table import read_scored_table

__all__ = ["Outcome", "what_if"]


@dataclass
class Outcome:
    """The pairs and drops that one rule gives, in numbers. Shares and means are None where there is no pair."""

    rule: str
    """The rule in words: its kind, both selections, and every parameter."""
    prompts: int
    paired_prompts: int
    pairs: int
    drops: dict[str, int]
    """Reason → prompts without a pair."""
    mean_margin: float | None
    """Mean of the score difference."""
    length: dict[str, float | None]
    """`chosen`, `rejected`, `difference` → mean, in the rule's unit."""
    chosen_longer: float | None
    tied: dict[str, float | None]
    """Side → share of pairs whose winner shared its first key."""
    sources: dict[str, dict[str, float | None]]
    """Source → its share among `candidates` (scored answers), `chosen` and `rejected`."""
    differs: dict[str, float | int | None] = field(default_factory=dict)
    """Against the first rule: the number of prompts that both pair (`both`), the shares of these whose `chosen`, whose
    `rejected` and whose `pair` differ, and the prompts that only this rule (`gained`) or only the first (`lost`)
    pairs."""


def what_if(
    where: TableLike,
    rules: str | Sequence[PairRule | str | Path],
    *,
    columns: Mapping[str, str] | None = None,
    config: str | None = None,
    split: str | None = None,
    length: LengthUnit = "characters",
    allow_code: bool = False,
) -> list[Outcome]:
    """Applies every rule to the same candidates.

    Args:
        where: a table of scored answers as `prefdata.pair` takes it, the folder of a build, or a dataset that was
            published with its candidates: see `prefdata.hub.find_dataset`.
        rules: rules, names or JSON files of rules (see `prefdata.recipe.as_rule`), or names separated by commas. The
            first one is what the others are compared with.
        columns: role → name of the column, for a table.
        config: the configuration of a table of the Hub, or of a folder like one.
        split: the split of such a table; without it, `train`.
        length: the unit of length of rules that are named.
        allow_code: run rules that are Python code.

    Raises:
        InputError: there are no scored answers.
        RecipeError: the recipe of a build can't be read.
    """
    named = [name.strip() for name in rules.split(",") if name.strip()] if isinstance(rules, str) else rules
    if not named:
        raise InputError("no rule to try", valid="--rules NAME,NAME or --rule-json FILE (in Python: `rules`)")
    # The folder of a name is the current one, where the module of a rule's file is looked for last.
    folders = sorted(dict.fromkeys(map(folder_of, named)), key=lambda folder: folder == Path())
    with allowing_code(allow_code, *folders):
        tallies = [_Tally(_taken(rule, length)) for rule in named]
        for chunk in _chunks(where, columns or {}, config, split):
            for tally in tallies:
                tally.add(chunk)
        return [tally.outcome(tallies[0]) for tally in tallies]


_FILES = (*MARKS, "recipe.json", "drops.parquet", "candidates/*.parquet", "comparisons/*.parquet")


def _taken(rule: PairRule | str | Path, length: LengthUnit) -> PairRule:
    own = not isinstance(rule, str) or rule.endswith(".json")
    return as_rule(rule, None if own else length)


@dataclass(frozen=True)
class _ScoredPrompts:
    """Some prompts with their scored answers."""

    candidates: pl.DataFrame
    prompt_ids: list[str]
    """The ids of all their prompts."""
    dropped: Mapping[str, int]
    """Prompts that were dropped before any rule: reason → count."""
    comparisons: pl.DataFrame | None = None
    """The scorer's comparisons, as rules take them."""


def _chunks(
    where: TableLike, columns: Mapping[str, str], config: str | None, split: str | None
) -> Iterator[_ScoredPrompts]:
    if not is_path(where):
        return _of_table(where, columns, config, split)
    found = find_dataset(where, only=_FILES)
    if (found.path / "candidates").is_dir():
        return _of_dataset(found.path)
    if is_ours(found.path):
        raise InputError(
            f"{str(where)!r} holds no answers",
            valid="a table of scored answers, the folder of a build, or a dataset with its candidates",
            hint="try the rules on the table itself; prefdata pair TABLE --with-candidates keeps all answers",
        )
    if (found.path / "stages").is_dir():
        return _of_build(found.path)
    return _of_table(found.path if found.commit is None else at_commit(where, found), columns, config, split)


def _of_table(
    where: TableLike, columns: Mapping[str, str], config: str | None, split: str | None
) -> Iterator[_ScoredPrompts]:
    scored = read_scored_table(find_table(where, config, split).table, columns)
    dropped = dict(scored.drops.group_by("reason").len().iter_rows())
    yield _ScoredPrompts(
        scored.candidates.sort(pl.all(), nulls_last=False), scored.prompts["prompt_id"].to_list(), dropped
    )


def _of_dataset(folder: Path) -> Iterator[_ScoredPrompts]:
    """Yields the answers that are published with the pairs; those of a backfill are left out."""
    with table_errors(f"{str(folder)!r} holds no dataset with its candidates"):
        answers = _read(folder, "candidates/*.parquet", ANSWERS)
        dropped = _read(folder, "drops.parquet", DROPS)
        recipe = read_json(folder / "recipe.json", folder)
        part = recipe.get("backfill")
        backfill = part.get("name") if isinstance(part, dict) else None
        answers = answers.filter(pl.col("source").ne_missing(pl.lit(backfill)) if backfill else True)
        before = dropped.filter(pl.col("stage") != "pairs")
        ids = set(answers["prompt_id"]) | set(dropped.filter(pl.col("stage") == "pairs")["prompt_id"])
        reasons = dict(before.group_by("reason").len().iter_rows())
        compared = _compared([frame.to_arrow().cast(COMPARISONS) for frame in _frames(folder, "comparisons/*.parquet")])
    yield _ScoredPrompts(answers.drop("prompt", "n_tokens", strict=False), sorted(ids), reasons, compared)


def _read(folder: Path, pattern: str, schema: pa.Schema) -> pl.DataFrame:
    """Reads the files of one table, which must have the columns that prefdata writes."""
    tables = [frame.select(schema.names).to_arrow().cast(schema) for frame in _frames(folder, pattern)]
    return frame_of(pa.concat_tables([schema.empty_table(), *tables]))


def _frames(folder: Path, pattern: str) -> list[pl.DataFrame]:
    return [read_table(file, folder) for file in sorted(folder.glob(pattern))]


def _of_build(folder: Path) -> Iterator[_ScoredPrompts]:
    """Yields the shards of a build whose scores are finished; the backfill's answers are not among them."""
    build = BuildReader(folder)
    if build.state("scores") != "done":
        raise InputError(
            f"{str(folder)!r} holds no build with finished scores",
            valid="a table of scored answers, or the folder of a build whose scores are finished",
            hint="run the build again: it goes on where it stopped",
        )
    compares, before = build.recipe.scores.compares, build.report("prompts")["drops"]
    for shard in build.shards:
        compared = comparisons_for_a_rule(build.comparisons(shard), compares) if compares else None
        yield _ScoredPrompts(
            build.scored_candidates(shard), build.prompt_ids(shard), before if shard == 0 else {}, compared
        )


def _compared(tables: Sequence[pa.Table]) -> pl.DataFrame | None:
    """Makes the frame that rules take of a dataset's comparisons; None where it has none."""
    if not tables:
        return None
    table = pa.concat_tables(tables)
    decided = table.filter(pc.is_null(table["undecided"]))
    return comparisons_for_a_rule(table, "probability" if decided["log_odds"].null_count else "log_odds")


class _Tally:
    """Adds up the pairs and drops of one rule."""

    def __init__(self, rule: PairRule) -> None:
        self.rule = rule
        self._auditor = Auditor()
        self._prompts = 0
        self._lengths = dict.fromkeys(SIDES, 0)
        self._drops: dict[str, int] = {}
        self._picks: list[pl.DataFrame] = []

    def add(self, chunk: _ScoredPrompts) -> None:
        compared = chunk.comparisons if self.rule.needs_comparisons() else None
        paired = self.rule.pair(chunk.candidates, chunk.prompt_ids, compared)
        self._auditor.add(chunk.candidates, paired.pairs)
        self._prompts += len(chunk.prompt_ids) + sum(chunk.dropped.values())
        for reason, count in [*chunk.dropped.items(), *paired.drops.group_by("reason").len().iter_rows()]:
            self._drops[reason] = self._drops.get(reason, 0) + count
        for side in SIDES:
            self._lengths[side] += int(paired.pairs[f"length_{side}"].sum())
        texts = [pl.col(f"response_{side}").hash().alias(side) for side in SIDES]
        self._picks.append(paired.pairs.select("prompt_id", "score_margin", *texts))

    def picks(self) -> pl.DataFrame:
        """One row a pair: prompt_id, score_margin, and hashes of both texts."""
        return pl.concat(self._picks)

    def outcome(self, first: _Tally) -> Outcome:
        audit, picks = self._auditor.result(), self.picks()
        pairs = picks.height
        means = {side: _mean(self._lengths[side], pairs) for side in SIDES}
        return Outcome(
            rule=rule_words(self.rule),
            prompts=self._prompts,
            paired_prompts=picks["prompt_id"].n_unique(),
            pairs=pairs,
            drops=dict(sorted(self._drops.items())),
            mean_margin=_mean(math.fsum(picks["score_margin"]), pairs),
            length={**means, "difference": audit["measures"]["length_difference"]},
            chosen_longer=audit["measures"]["chosen_longer"],
            tied={side: audit["measures"][f"tied_{side}"] for side in SIDES},
            sources=audit["sources"],
            differs=_differs(picks, first.picks()),
        )


def _differs(mine: pl.DataFrame, first: pl.DataFrame) -> dict[str, float | int | None]:
    # Several pairs of a prompt are compared as a set, whatever their order.
    sides = [pl.col(side).unique().sort() for side in SIDES]
    pair = pl.struct(*SIDES).hash().unique().sort().alias("pair")
    ours, theirs = (frame.group_by("prompt_id").agg(*sides, pair) for frame in (mine, first))
    both = ours.join(theirs, on="prompt_id", how="inner", suffix="_first")
    changed = {name: int((both[name] != both[f"{name}_first"]).sum()) for name in (*SIDES, "pair")}
    return {
        "both": both.height,
        **{name: _mean(count, both.height) for name, count in changed.items()},
        "gained": ours.height - both.height,
        "lost": theirs.height - both.height,
    }


def _mean(total: float, count: int) -> float | None:
    return round(total / count, 4) if count else None
