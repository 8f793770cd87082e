"""How a rule is carried out on a Polars frame: eligibility, the two selections, the reason for every drop."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from prefdata.errors import InputError, closest
from prefdata.lazy import pl
from prefdata.pairing._select import Steps, select
from prefdata.pairing.algebra import PairLimits
from prefdata.pairing.base import Paired, PairRule
from prefdata.pairing.comparisons import checked_comparisons, preferences
from prefdata.pairing.filters import Quantile
from prefdata.pairing.python_rule import PythonRule

BLANK_CHARACTERS = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())
"""Everything Python calls white space; Polars' default leaves out U+001C to U+001F."""
REQUIRED = ("prompt_id", "source", "index", "response", "score")
OPTIONAL = {"model": pl.String, "finish_reason": pl.String, "unscored": pl.String}
_TRACE = ("n_tied", "decided", "source", "index", "model", "score", "length", "response")

_LENGTHS = {
    "characters": pl.col("response").str.len_chars(),
    "words": pl.col("response").str.count_matches(r"[^\s\x1c-\x1f]+"),
    "bytes": pl.col("response").str.len_bytes(),
}


def decide(
    rule: PairRule, candidates: pl.DataFrame, prompt_ids: Iterable[str] | None, comparisons: pl.DataFrame | None
) -> Paired:
    """Pairs and drops of `candidates` under `rule`; see `PairRule.pair`."""
    _check(candidates)
    frame = _ordered(rule, candidates)
    known = None
    if rule.needs_comparisons():
        frame, known = _compared(rule, frame, comparisons)
    frame = _judged(rule, rule.rescored(frame))
    everybody = frame.select("prompt_id").unique() if prompt_ids is None else _ids(prompt_ids, frame)
    eligible = frame.filter(pl.col("ineligible").is_null()).with_row_index("row")
    proposed = _proposed(rule, eligible)

    prompts = (
        everybody.join(frame.group_by("prompt_id").agg(n_candidates=pl.len()), on="prompt_id", how="left")
        .join(eligible.group_by("prompt_id").agg(n_eligible=pl.len()), on="prompt_id", how="left")
        .with_columns(pl.col("n_candidates", "n_eligible").fill_null(0).cast(pl.Int64))
        .sort("prompt_id")
    )
    pairs = (
        prompts.join(proposed.pairs, on="prompt_id", how="inner")
        .sort("prompt_id", "place_chosen", "place_rejected")
        .with_columns(
            pair_index=pl.int_range(pl.len(), dtype=pl.Int64).over("prompt_id"),
            score_margin=pl.col("score_chosen") - pl.col("score_rejected"),
        )
    )
    dropped = prompts.join(pairs.select("prompt_id"), on="prompt_id", how="anti", maintain_order="left")
    return Paired(
        _pair_columns(rule, pairs, eligible, known),
        _drop_columns(dropped, frame, proposed),
        _ineligible_columns(frame),
    )


@dataclass(frozen=True)
class _Proposed:
    """What a rule picks, and how far each prompt came: candidates in these frames have their `prompt_id`."""

    pairs: pl.DataFrame
    chosen: pl.DataFrame
    lower: pl.DataFrame
    """With a lower score than their chosen candidate."""
    pool: pl.DataFrame
    """And with another text."""


def _proposed(rule: PairRule, eligible: pl.DataFrame) -> _Proposed:
    """The pairs of a rule, before they are numbered."""
    if isinstance(rule, PythonRule):
        told = rule.ask(eligible)
        if isinstance(told, pl.DataFrame):
            return _as_told(told, eligible)
        chosen_by, rejected_by, take = *told, PairLimits()
    else:
        chosen_by, rejected_by = (Steps(selection.among, selection.by) for selection in rule.selections())
        take = rule.take()
    picked = select(eligible, "prompt_id", chosen_by, take.chosen)
    chosen = _with_candidate(picked, eligible, "chosen")
    lower, pool = _below(eligible, chosen)
    rejected = _with_candidate(select(pool, "row_chosen", rejected_by, take.rejected), eligible, "rejected")
    pairs = chosen.join(rejected.drop("prompt_id"), on="row_chosen", how="inner")
    if take.matched:
        pairs = pairs.filter(pl.col("place_chosen") == pl.col("place_rejected"))
    return _Proposed(pairs, chosen, lower, pool)


def _as_told(told: pl.DataFrame, eligible: pl.DataFrame) -> _Proposed:
    """The pairs that a user's function named by `chosen` and `rejected` rows, in total order, under our conditions."""
    alone = {"n_tied": pl.lit(1, pl.Int64), "decided": pl.lit("python")}
    named = told.sort("chosen", "rejected").with_columns(place=pl.int_range(pl.len(), dtype=pl.Int64), **alone)
    rows = eligible.select("row", "prompt_id")
    chosen = named.select(pl.col("chosen").alias("row"), "n_tied", "decided", "place", "rejected")
    sides = _with_candidate(chosen.join(rows, on="row", maintain_order="left"), eligible, "chosen")
    rejected = named.select(pl.col("rejected").alias("row"), "n_tied", "decided", "place")
    both = pl.concat([sides.drop("rejected"), _with_candidate(rejected, eligible, "rejected")], how="horizontal")
    lower = both.filter(pl.col("score_rejected") < pl.col("score_chosen"))
    pool = lower.filter(pl.col("response_rejected") != pl.col("response_chosen"))
    return _Proposed(pool, both, lower, pool)


def _below(eligible: pl.DataFrame, chosen: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """For each chosen candidate those of its prompt with a lower score, and those of them with another text."""
    against = chosen.select(
        "prompt_id",
        "row_chosen",
        *(pl.col(f"{name}_chosen").alias(f"chosen_{name}") for name in ("score", "length", "response", "source")),
    )
    lower = eligible.join(against, on="prompt_id", how="inner", maintain_order="left").filter(
        pl.col("score") < pl.col("chosen_score")
    )
    return lower, lower.filter(pl.col("response") != pl.col("chosen_response"))


def _pair_columns(
    rule: PairRule, pairs: pl.DataFrame, eligible: pl.DataFrame, known: pl.DataFrame | None
) -> pl.DataFrame:
    """The pairs with the columns of `prefdata.tables.schemas.pairs_schema`."""
    if known is not None:
        of_pair = known.select(
            "prompt_id",
            pl.col("source").alias("source_chosen"),
            pl.col("index").alias("index_chosen"),
            pl.col("other_source").alias("source_rejected"),
            pl.col("other_index").alias("index_rejected"),
            "p",
            "log_odds",
        )
        keys = ["prompt_id", "source_chosen", "index_chosen", "source_rejected", "index_rejected"]
        pairs = pairs.join(of_pair, on=keys, how="left", maintain_order="left")
    sides = [f"{name}_{side}" for side in ("chosen", "rejected") for name in _TRACE]
    columns = ["prompt_id", "pair_index", "n_candidates", "n_eligible", *sides, "score_margin", *rule.extra_columns()]
    return rule.with_extras(pairs, eligible).select(columns)


def _compared(
    rule: PairRule, frame: pl.DataFrame, comparisons: pl.DataFrame | None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The candidates, scored by comparisons where the rule does so, and both directions of the comparisons."""
    if comparisons is None:
        raise InputError(
            f"the pair rule {rule.dump()['kind']!r} as it is set needs comparisons, and there are none",
            hint="take a pairwise scorer in a recipe, `comparisons=` in Python, or an option that works on scores",
        )
    keys = ["prompt_id", "source", "index"]
    if (twice := frame.filter(pl.struct(keys).is_duplicated())).height:
        raise InputError(f"two candidates are named {twice.select(keys).row(0)!r}, so no comparison can name one")
    comparisons = checked_comparisons(comparisons)
    names = {"a": {"source": "source_a", "index": "index_a"}, "b": {"source": "source_b", "index": "index_b"}}
    strangers = comparisons
    for side in names.values():
        there = frame.select("prompt_id", *(pl.col(name).alias(own) for name, own in side.items()))
        if (lost := strangers.join(there, on=there.columns, how="anti")).height:
            raise InputError(
                f"a comparison names the candidate {lost.select(there.columns).row(0)!r}, who is not there"
            )
    fit = frame.filter(_unfit(rule).is_null())
    for side in names.values():
        there = fit.select("prompt_id", *(pl.col(name).alias(own) for name, own in side.items()))
        comparisons = comparisons.join(there, on=there.columns, how="semi")
    scores = rule.scores_of(comparisons)
    if scores is not None:
        frame = frame.drop("score", "unscored").join(
            scores.select(*keys, _unsigned_zero(pl.col("score")), "unscored"),
            on=keys,
            how="left",
            maintain_order="left",
        )
        lacking = pl.col("score").is_null() & pl.col("unscored").is_null()
        frame = frame.with_columns(unscored=pl.when(lacking).then(pl.lit("not_compared")).otherwise("unscored"))
    return frame, preferences(comparisons)


def _ids(prompt_ids: Iterable[str], frame: pl.DataFrame) -> pl.DataFrame:
    ids = pl.DataFrame({"prompt_id": pl.Series(list(prompt_ids), dtype=pl.String)}).unique()
    if (strangers := frame.join(ids, on="prompt_id", how="anti")).height:
        raise InputError(
            f"{strangers.height} candidates are of prompts that are not among `prompt_ids`, the first of "
            f"{strangers['prompt_id'][0]!r}",
            hint="leave `prompt_ids` out, or filter the candidates by it first",
        )
    return ids


def _check(candidates: pl.DataFrame) -> None:
    """Refuses a frame whose rows would be lost or misread further on."""
    if missing := [name for name in REQUIRED if name not in candidates.columns]:
        raise InputError(f"the candidates have no column {missing[0]!r}", valid=closest(missing[0], candidates.columns))
    if not (candidates["score"].dtype.is_numeric() or candidates["score"].dtype == pl.Null):
        raise InputError(
            f"the column 'score' is of type {candidates['score'].dtype}",
            valid="numbers, and null for unscored",
            hint="`prefdata.tables.cells.parse_score` reads texts",
        )
    if candidates["prompt_id"].null_count():
        raise InputError(f"{candidates['prompt_id'].null_count()} candidates have no prompt_id")
    score = candidates["score"].cast(pl.Float64)
    unusable = candidates.filter(score.is_nan() | score.is_infinite())
    if unusable.height:
        raise InputError(
            f"{unusable.height} candidates have a score that is no finite number, the first of prompt "
            f"{unusable['prompt_id'][0]!r}",
            valid="finite numbers, and null for unscored",
            hint="turn such scores into null with a reason in `unscored`",
        )


def _ordered(rule: PairRule, candidates: pl.DataFrame) -> pl.DataFrame:
    """The candidates in total order, with their length and the reason why one is not eligible."""
    frame = candidates.with_columns(
        [pl.lit(None, dtype).alias(name) for name, dtype in OPTIONAL.items() if name not in candidates.columns]
    ).select(*REQUIRED[:-1], _unsigned_zero(pl.col("score").cast(pl.Float64)), *OPTIONAL)
    order = ["prompt_id", "source", "index"]
    if not frame.select(order).is_unique().all():
        # All that is left, so that rows which share even their text are told apart by content, not by place.
        order = [*order, "response", "score", *OPTIONAL]
    frame = frame.sort(order, maintain_order=True)
    return frame.with_columns(length=_LENGTHS[rule.length].cast(pl.Int64))


def _unfit(rule: PairRule) -> pl.Expr:
    """Why a candidate can't be picked whatever its score."""
    blank = pl.col("response").str.strip_chars(BLANK_CHARACTERS) == ""
    return (
        pl.when(pl.col("response").is_null())
        .then(pl.lit("missing_response"))
        .when(blank if "blank" not in rule.admit else False)
        .then(pl.lit("blank"))
        .when(pl.col("finish_reason") == "length" if "cut_off" not in rule.admit else False)
        .then(pl.lit("cut_off"))
    )


def _judged(rule: PairRule, frame: pl.DataFrame) -> pl.DataFrame:
    """The candidates with the reason why one is not eligible, and the place of its score among the eligible ones."""
    unfit = _unfit(rule)
    unscored = pl.col("score").is_null() & (unfit.is_null() | (unfit == "cut_off"))
    frame = frame.with_columns(ineligible=pl.when(unscored).then(pl.lit("unscored")).otherwise(unfit))
    if not _ranks(rule):
        return frame.with_columns(quantile=pl.lit(None, pl.Float64))
    score = pl.when(pl.col("ineligible").is_null()).then("score")
    at_or_below = score.rank("max").over("prompt_id")
    return frame.with_columns(quantile=at_or_below / score.count().over("prompt_id"))


def _ranks(rule: PairRule) -> bool:
    """Whether a selection looks at quantiles, which cost a sort."""
    selections = () if isinstance(rule, PythonRule) else rule.selections()
    return any(isinstance(step, Quantile) for selection in selections for step in selection.among)


def _unsigned_zero(score: pl.Expr) -> pl.Expr:
    """0.0 for -0.0: the two are equal, so which of two tied rows wins would show in the bytes."""
    return score.replace(-0.0, 0.0)


def _with_candidate(picked: pl.DataFrame, eligible: pl.DataFrame, side: str) -> pl.DataFrame:
    """The picks with their candidate's columns, named by side; `row` becomes `row_chosen` or `row_rejected`."""
    columns = ["row", "source", "index", "model", "score", "length", "response"]
    joined = picked.join(eligible.select(columns), on="row", how="left", maintain_order="left")
    return joined.rename({name: f"{name}_{side}" for name in [*columns, "place", "n_tied", "decided"]})


def _drop_columns(dropped: pl.DataFrame, frame: pl.DataFrame, proposed: _Proposed) -> pl.DataFrame:
    """The reason for each prompt without a pair, in the order in which `PairRule` lists them."""
    reasons = ["missing_response", "blank", "unscored", "cut_off"]
    facts = frame.group_by("prompt_id").agg(
        eligible_low=pl.col("score").filter(pl.col("ineligible").is_null()).min(),
        eligible_high=pl.col("score").filter(pl.col("ineligible").is_null()).max(),
        **{reason: (pl.col("ineligible") == reason).sum() for reason in reasons},
    )
    parts = {"has_chosen": proposed.chosen, "has_lower": proposed.lower, "has_pool": proposed.pool}
    facts = facts.with_columns(
        **{name: pl.col("prompt_id").is_in(part["prompt_id"].unique().implode()) for name, part in parts.items()}
    )
    why = dropped.join(facts, on="prompt_id", how="left", maintain_order="left")
    reason = (
        pl.when(pl.col("n_eligible") < 2)
        .then(pl.lit("too_few_candidates"))
        .when(pl.col("eligible_low") == pl.col("eligible_high"))
        .then(pl.lit("no_contrast"))
        .when(~pl.col("has_chosen"))
        .then(pl.lit("no_chosen"))
        .when(pl.col("has_pool"))
        .then(pl.lit("no_rejected"))
        .when(pl.col("has_lower"))
        .then(pl.lit("identical_texts"))
        .otherwise(pl.lit("no_contrast"))
    )
    counted = [pl.when(pl.col(name) > 0).then(pl.format("{} {}", pl.col(name), pl.lit(name))) for name in reasons]
    detail = pl.concat_str(
        pl.format("{} of {} candidates eligible", pl.col("n_eligible"), pl.col("n_candidates")),
        *counted,
        separator=", ",
        ignore_nulls=True,
    )
    return why.select("prompt_id", pl.lit("pairs").alias("stage"), reason.alias("reason"), detail.alias("detail"))


def _ineligible_columns(frame: pl.DataFrame) -> pl.DataFrame:
    detail = pl.when(pl.col("ineligible") == "unscored").then(pl.col("unscored")).fill_null("")
    return frame.filter(pl.col("ineligible").is_not_null()).select(
        "prompt_id",
        pl.lit("pairs").alias("stage"),
        pl.col("ineligible").alias("reason"),
        detail.alias("detail"),
        "source",
        "index",
    )
