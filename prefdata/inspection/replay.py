"""`replay`: applies a rule to the answers and scores of a published dataset, and compares with its pairs.

Every row is compared by itself, also where a prompt occurs twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from prefdata.errors import InputError
from prefdata.hub import find_tables, name_of
from prefdata.inspection.published import PublishedPair, read_published
from prefdata.lazy import pl
from prefdata.pairing import PairRule, PythonRule, Selection
from prefdata.pairing.algebra import PairLimits
from prefdata.recipe import as_rule, folder_of
from prefdata.records import SIDES, LengthUnit
from prefdata.spec import JSON
from prefdata.spec.code import allowing_code
from prefdata.tables.files import TableLike
from prefdata.tables.reasoning import answer_length, answer_of

__all__ = ["Replay", "replay"]

_BLOCK = 2_000


@dataclass
class Replay:
    """The share of a published dataset that a rule reproduces, and the causes of the rest."""

    table: str
    rule: str
    quirks: bool
    config: str | None = None
    """Configuration that was read, where the dataset has several."""
    split: str | None = None
    """Split that was read, where the dataset has several."""
    other_splits: tuple[str, ...] = ()
    """Splits that were not read."""
    pairs: int = 0
    """Number of published pairs."""
    reproduced: int = 0
    """Number of pairs whose two texts are those of the rule."""
    classes: dict[str, int] = field(default_factory=dict)
    """Class of difference → other pairs. Each pair has one class; `docs/replay.md` defines them."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Reason of the rule → pairs of the class `rule_drops`."""
    examples: dict[str, list[JSON]] = field(default_factory=dict)
    """Class → a few pairs of it."""

    @property
    def share(self) -> float | None:
        """Share of reproduced pairs, None without pairs."""
        return self.reproduced / self.pairs if self.pairs else None


class _Pick(NamedTuple):
    """A candidate that a rule picked."""

    text: str
    score: float


_Picks = Mapping[str, Sequence[tuple[_Pick, _Pick]]]


def replay(
    table: TableLike,
    rule: PairRule | str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    length: LengthUnit | None = None,
    config: str | None = None,
    split: str | None = None,
    quirks: bool = False,
    examples: int = 3,
    allow_code: bool = False,
) -> Replay:
    """Applies a rule to the answers of a published dataset and compares with its pairs.

    Args:
        table: a Parquet, JSON lines or CSV file, the folder of a dataset, `OWNER/NAME[@REVISION]` of the Hub, a frame
            of pandas, Polars or Arrow, a `datasets.Dataset`, or split → frame.
        rule: the rule to try, its name, or a JSON file: see `prefdata.recipe.as_rule`.
        columns: role → name of the column, where it is not the usual one.
        length: the unit of length of a rule that is named; without it, characters.
        config: name of the configuration, where the dataset has several and no default one.
        split: name of the split; without it, `train` or the only one.
        quirks: pair like the published scripts (see `docs/replay.md`): first index on ties, and a pair also where
            texts are identical or scores equal.
        examples: number of examples of each class.
        allow_code: run a rule that is Python code.

    Raises:
        InputError: the table can't be read as a dataset with answers, or `quirks` doesn't apply to the rule.
    """
    with allowing_code(allow_code, folder_of(rule)):
        return _replayed(table, as_rule(rule, length), columns, config, split, quirks, examples)


def _replayed(
    table: TableLike,
    rule: PairRule,
    columns: Mapping[str, str] | None,
    config: str | None,
    split: str | None,
    quirks: bool,
    examples: int,
) -> Replay:
    if quirks and (isinstance(rule, PythonRule) or rule.take() != PairLimits()):
        raise InputError(
            f"the rule {rule.dump()['kind']!r} is not an argmax and an argmin, so it has no published quirks",
            valid="a rule that picks one chosen and one rejected answer by keys",
            hint="leave --quirks out",
        )
    tables = find_tables(table, config=config, split=split, one_split=True)
    report = Replay(name_of(table), str(rule.identity()["kind"]), quirks, config=tables.config)
    if len(tables.all_splits) > 1:
        report.split = next(iter(tables.splits))
        report.other_splits = tuple(name for name in tables.all_splits if name != report.split)
    rows = read_published(tables, columns=columns)
    while block := list(islice(rows, _BLOCK)):
        for wave in _waves(block):
            picks, drops = _pair_with_quirks(rule, wave) if quirks else _pair(rule, wave)
            for published in wave:
                _classify(report, rule, published, picks, drops, examples)
    report.classes = dict(sorted(report.classes.items()))
    report.dropped = dict(sorted(report.dropped.items()))
    report.examples = dict(sorted(report.examples.items()))
    return report


def _waves(block: Sequence[PublishedPair]) -> list[list[PublishedPair]]:
    """Cuts rows into waves, none of which has a prompt twice."""
    waves: list[list[PublishedPair]] = []
    seen: Counter[str] = Counter()
    for published in block:
        number = seen[published.prompt_id]
        seen[published.prompt_id] += 1
        if number == len(waves):
            waves.append([])
        waves[number].append(published)
    return waves


def _frame(wave: Sequence[PublishedPair]) -> pl.DataFrame:
    answers = [
        (published.prompt_id, "", index, text, score)
        for published in wave
        if not published.misaligned
        for index, (text, score) in enumerate(zip(published.answers, published.scores, strict=True))
    ]
    schema: dict[str, Any] = {
        "prompt_id": pl.String,
        "source": pl.String,
        "index": pl.Int64,
        "response": pl.String,
        "score": pl.Float64,
    }
    return pl.DataFrame(answers, schema, orient="row")


def _pair(rule: PairRule, wave: Sequence[PublishedPair]) -> tuple[_Picks, dict[str, str]]:
    """Returns the rule's pairs by prompt, and the reasons of prompts without a pair."""
    paired = rule.pair(_frame(wave), [published.prompt_id for published in wave])
    picks: dict[str, list[tuple[_Pick, _Pick]]] = {}
    for row in paired.pairs.iter_rows(named=True):
        chosen, rejected = (_Pick(row[f"response_{side}"], row[f"score_{side}"]) for side in SIDES)
        picks.setdefault(row["prompt_id"], []).append((chosen, rejected))
    return picks, dict(paired.drops.select("prompt_id", "reason").iter_rows())


def _pair_with_quirks(rule: PairRule, wave: Sequence[PublishedPair]) -> tuple[_Picks, dict[str, str]]:
    """Returns the pairs of the rule's selections if the first index wins ties and no condition drops a pair.

    Sources: argmax and argmin over `all_rm_scores` in SimPO's on_policy_data_gen/reward_model_annotate.py and over
    `rm_scores` in SPPO's scripts/compute_prob.py; NumPy and PyTorch give the first index on ties, neither script
    compares texts, and with all scores equal both sides are index 0.
    """
    chosen_by, rejected_by = rule.selections()
    frame = _frame(wave).filter(pl.col("score").is_not_null() & pl.col("response").is_not_null())
    lengths = pl.Series([answer_length(text, rule.length) for text in frame["response"]], dtype=pl.Int64)
    scores = pl.col("score")
    frame = frame.with_columns(
        length=lengths,
        quantile=scores.rank("max").over("prompt_id") / pl.len().over("prompt_id"),
        model=pl.lit(None, pl.String),
        finish_reason=pl.lit("unknown"),
    ).sort("prompt_id", "index")
    chosen = _first(frame, chosen_by)
    chosen_columns = [pl.col(name).alias(f"chosen_{name}") for name in ("score", "length", "response", "source")]
    chosen_of_prompt = chosen.select("prompt_id", *chosen_columns)
    rejected = _first(frame.join(chosen_of_prompt, on="prompt_id", how="inner", maintain_order="left"), rejected_by)
    both = chosen.join(rejected, on="prompt_id", how="inner", suffix="_rejected")
    picks = {
        row["prompt_id"]: [
            (_Pick(row["response"], row["score"]), _Pick(row["response_rejected"], row["score_rejected"]))
        ]
        for row in both.iter_rows(named=True)
    }
    return picks, {published.prompt_id: "no_candidate" for published in wave if published.prompt_id not in picks}


def _first(pool: pl.DataFrame, selection: Selection) -> pl.DataFrame:
    for admission in selection.among:
        pool = pool.filter(admission.admits(pool))
    for key in selection.by:
        pool = pool.with_columns(key=key.values(pool)).filter(pl.col("key") == pl.col("key").min().over("prompt_id"))
    return pool.unique("prompt_id", keep="first", maintain_order=True)


def _classify(
    report: Replay, rule: PairRule, published: PublishedPair, picks: _Picks, drops: Mapping[str, str], examples: int
) -> None:
    report.pairs += 1
    rule_pairs = picks.get(published.prompt_id, ())
    published_pair = (published.chosen, published.rejected)
    if any((chosen.text, rejected.text) == published_pair for chosen, rejected in rule_pairs):
        report.reproduced += 1
        return
    reason = "misaligned_scores" if published.misaligned else drops.get(published.prompt_id, "no_candidate")
    cause = _class_of(rule, published, rule_pairs[0] if rule_pairs else None, report.quirks or "blank" in rule.admit)
    report.classes[cause] = report.classes.get(cause, 0) + 1
    if cause == "rule_drops":
        report.dropped[reason] = report.dropped.get(reason, 0) + 1
    kept = report.examples.setdefault(cause, [])
    if len(kept) < examples:
        kept.append(_example(rule, published, rule_pairs[0] if rule_pairs else None, reason))


def _class_of(
    rule: PairRule, published: PublishedPair, rule_pair: tuple[_Pick, _Pick] | None, admit_blank: bool
) -> str:
    answers = {text for text in published.answers if text is not None}
    if published.chosen not in answers or published.rejected not in answers:
        return "not_in_candidates"
    if published.chosen == published.rejected:
        return "identical_text"
    if rule_pair is None:
        return "rule_drops"
    if isinstance(rule, PythonRule):
        return "other"
    causes = [
        f"{cause}_{side}"
        for side, selection, text, pick in zip(
            SIDES, rule.selections(), (published.chosen, published.rejected), rule_pair, strict=True
        )
        if pick.text != text
        and (cause := _cause(rule, published, selection, text, pick, chosen=rule_pair[0], admit_blank=admit_blank))
    ]
    return "other" if any(name.startswith("other") for name in causes) else "+".join(causes)


def _cause(
    rule: PairRule,
    published: PublishedPair,
    selection: Selection,
    text: str,
    pick: _Pick,
    *,
    chosen: _Pick,
    admit_blank: bool,
) -> str:
    """Returns `ineligible`, or the cause of the first key by which the published answer differs from the picked one."""
    scores = [score for answer, score in zip(published.answers, published.scores, strict=True) if answer == text]
    if all(score is None for score in scores) or (not answer_of(text).strip() and not admit_blank):
        return "ineligible"
    length = answer_length(text, rule.length)
    for key in selection.by:
        if key.kind in ("highest", "lowest"):
            if pick.score not in scores:
                return "other"
        elif key.kind in ("shortest", "longest"):
            if length != answer_length(pick.text, rule.length):
                return "length_key"
        elif key.kind == "nearest_length":
            target = answer_length(chosen.text, rule.length)
            if abs(length - target) != abs(answer_length(pick.text, rule.length) - target):
                return "length_key"
        elif key.kind == "random":
            return "random"
    return "tie"


def _example(rule: PairRule, published: PublishedPair, rule_pair: tuple[_Pick, _Pick] | None, reason: str) -> JSON:
    example: dict[str, JSON] = {"prompt_id": published.prompt_id, "row": published.row}
    for position, (side, text) in enumerate(zip(SIDES, (published.chosen, published.rejected), strict=True)):
        scores = [
            score
            for answer, score in zip(published.answers, published.scores, strict=False)
            if answer is not None and answer == text
        ]
        example[f"published_{side}"] = {
            "scores": scores,
            "length": None if text is None else answer_length(text, rule.length),
        }
        if rule_pair is not None:
            example[f"rule_{side}"] = {
                "scores": [rule_pair[position].score],
                "length": answer_length(rule_pair[position].text, rule.length),
            }
    return example if rule_pair is not None else {**example, "reason": reason}
