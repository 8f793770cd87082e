"""How a rule is carried out on facts: eligibility, the two selections, the reason for every drop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from prefdata.errors import InputError
from prefdata.lazy import pl
from prefdata.pairing._select import Admission, Steps, places, select
from prefdata.pairing.algebra import PairLimits
from prefdata.pairing.comparisons import checked_comparisons, preferences
from prefdata.pairing.facts import ENDINGS, FACTS, unsigned_zero
from prefdata.pairing.paired import Paired, Proposal

if TYPE_CHECKING:
    from prefdata.pairing._rule import Rule

__all__ = ["decide", "proposed", "proposed_rows"]

_KEY = ("prompt_id", "source", "index", "digest")
_CANDIDATE = ("prompt_id", "source", "index")
_TRACE = ("n_tied", "decided", "source", "index", "model", "score", "length")
_CARRIED = ("response", "at")
"""Columns of facts that a pair has for both sides where they are there."""
_FLAWS = ("missing_response", "only_reasoning", "blank", "unscored", *ENDINGS.values())


def decide(
    rule: Rule, facts: pl.DataFrame, prompt_ids: Iterable[str] | None, comparisons: pl.DataFrame | None
) -> Paired:
    """Makes pairs and drops of facts; see `PairRule.pair`."""
    carried = [name for name in _CARRIED if name in facts.columns]
    frame, compared = _ordered(facts.select(*FACTS, *carried)), None
    if rule.needs_comparisons():
        frame, compared = _compared(rule, frame, comparisons)
    frame = _with_eligibility(rule, frame)
    eligible = frame.filter(pl.col("ineligible").is_null()).with_row_index("row")
    proposal = rule.proposal(eligible)
    prompts = _prompts(frame, prompt_ids)
    pairs = proposal.pairs.join(prompts, on="unit", how="left", maintain_order="left")
    pairs = pairs.with_columns(pair_index=places(pairs["unit"].to_numpy()))
    dropped = prompts.filter(~pl.col("unit").is_in(proposal.pairs["unit"].implode()).fill_null(value=False))
    return Paired(
        _pair_columns(rule, pairs, eligible, compared),
        _drop_columns(dropped, frame, proposal),
        _ineligible_columns(frame),
    )


def proposed(
    eligible: pl.DataFrame, chosen_by: Steps, rejected_by: Steps, limits: PairLimits, same_text: str
) -> Proposal:
    """Picks by two selections: the chosen candidates, then for each the rejected ones below it.

    Args:
        eligible: the eligible candidates.
        chosen_by: picks the chosen ones.
        rejected_by: picks the rejected ones.
        limits: how many of each.
        same_text: the column that is equal for candidates of one text.
    """
    chosen = select(eligible, "unit", chosen_by, limits.chosen)
    lower, pool = _below(eligible, chosen, same_text)
    rejected = select(pool, "row_chosen", rejected_by, limits.rejected)
    names = ("row", "place", "n_tied", "decided")
    pairs = chosen.rename({name: f"{name}_chosen" for name in names}).join(
        rejected.drop("unit").rename({name: f"{name}_rejected" for name in names}),
        on="row_chosen",
        how="inner",
        maintain_order="left_right",
    )
    if limits.matched:
        pairs = pairs.filter(pl.col("place_chosen") == pl.col("place_rejected"))
    return Proposal(pairs, chosen["unit"].unique(), lower["unit"].unique(), pool["unit"].unique())


def proposed_rows(
    eligible: pl.DataFrame, rows: pl.DataFrame, same_text: str, conditions: Sequence[Admission] = ()
) -> Proposal:
    """Takes the pairs that somebody else picked, in total order, where the conditions of every pair hold.

    Args:
        eligible: the eligible candidates.
        rows: `chosen` and `rejected`, row numbers of `eligible`.
        same_text: the column that is equal for candidates of one text.
        conditions: what the rejected ones must meet.
    """
    named = rows.sort("chosen", "rejected").select(row_chosen="chosen", row_rejected="rejected")
    place = pl.int_range(pl.len(), dtype=pl.Int64)
    named = named.with_columns(
        unit=eligible["unit"].gather(named["row_chosen"]),
        **{f"place_{side}": place for side in ("chosen", "rejected")},
        **{f"n_tied_{side}": pl.lit(1, pl.Int64) for side in ("chosen", "rejected")},
        **{f"decided_{side}": pl.lit("python") for side in ("chosen", "rejected")},
    )
    sides = [eligible.select("score", same_text)[named[f"row_{side}"]] for side in ("chosen", "rejected")]
    lower = named.filter(sides[1]["score"] < sides[0]["score"])
    pool = named.filter((sides[1]["score"] < sides[0]["score"]) & (sides[1][same_text] != sides[0][same_text]))
    met = pool
    for condition in conditions:
        sides = [eligible.select("score", "length")[met[f"row_{side}"]] for side in ("rejected", "chosen")]
        against = sides[1].select(chosen_score="score", chosen_length="length")
        met = met.filter(condition.admits(pl.concat([sides[0], against], how="horizontal")))
    return Proposal(met.sort("unit", maintain_order=True), named["unit"], lower["unit"], pool["unit"])


def _below(eligible: pl.DataFrame, chosen: pl.DataFrame, same_text: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """For each chosen candidate those of its prompt with a lower score, and those of them with another text."""
    names = [name for name in ("score", "length", same_text, "source", "response") if name in eligible.columns]
    of_chosen = eligible.select(pl.col(name).alias(f"chosen_{name}") for name in names)[chosen["row"]]
    against = pl.concat([chosen.select("unit", row_chosen="row"), of_chosen], how="horizontal")
    lower = eligible.join(against, on="unit", how="inner", maintain_order="right_left").filter(
        pl.col("score") < pl.col("chosen_score")
    )
    return lower, lower.filter(pl.col(same_text) != pl.col(f"chosen_{same_text}"))


def _ordered(facts: pl.DataFrame) -> pl.DataFrame:
    """The facts in total order, with the number of their prompt as `unit`."""
    if not _in_order(facts):
        order = [*_CANDIDATE]
        if not facts.select(order).is_unique().all():
            # All that is left, so that rows which share even their text are told apart by content, not by place.
            order = [*_KEY, "score", "model", "finish_reason", "unscored"]
        facts = facts.sort(order, maintain_order=True)
    return facts.with_columns(unit=pl.col("prompt_id").rle_id())


def _in_order(facts: pl.DataFrame) -> bool:
    """Whether each row is after the one before it, by the prompt, source and index, in Polars' order."""
    after = pl.lit(value=False)
    for name in reversed(_CANDIDATE):
        own, last = pl.col(name), pl.col(name).shift()
        less = (last < own).fill_null(value=False) | (last.is_null() & own.is_not_null())
        after = less | (own.eq_missing(last) & after)
    return bool(facts.select(after)[1:].to_series().all())


def _prompts(frame: pl.DataFrame, prompt_ids: Iterable[str] | None) -> pl.DataFrame:
    """One row for each prompt, sorted: prompt_id, unit (null without a candidate), n_candidates, n_eligible."""
    counts = frame.group_by("unit", maintain_order=True).agg(
        pl.col("prompt_id").first(),
        n_candidates=pl.len().cast(pl.Int64),
        n_eligible=pl.col("ineligible").is_null().sum().cast(pl.Int64),
    )
    if prompt_ids is None:
        return counts.select("prompt_id", "unit", "n_candidates", "n_eligible")
    named = prompt_ids if isinstance(prompt_ids, pl.Series) else pl.Series(list(prompt_ids), dtype=pl.String)
    ids = named.alias("prompt_id").to_frame().unique()
    if (strangers := counts.join(ids, on="prompt_id", how="anti")).height:
        n_rows = strangers["n_candidates"].sum()
        raise InputError(
            f"{n_rows} candidates are of prompts that are not among `prompt_ids`, the first of "
            f"{strangers['prompt_id'][0]!r}",
            hint="leave `prompt_ids` out, or filter the candidates by it first",
        )
    return (
        ids.join(counts, on="prompt_id", how="left")
        .with_columns(pl.col("n_candidates", "n_eligible").fill_null(0))
        .sort("prompt_id")
        .select("prompt_id", "unit", "n_candidates", "n_eligible")
    )


def _pair_columns(
    rule: Rule, pairs: pl.DataFrame, eligible: pl.DataFrame, compared: pl.DataFrame | None
) -> pl.DataFrame:
    """The pairs with the columns of `prefdata.tables.schemas.pairs_schema`."""
    carried = [name for name in _CARRIED if name in eligible.columns]
    of_candidate = [*(name for name in _TRACE if name not in ("n_tied", "decided")), *carried]
    sides = [
        eligible.select(pl.col(name).alias(f"{name}_{side}") for name in of_candidate)[pairs[f"row_{side}"]]
        for side in ("chosen", "rejected")
    ]
    pairs = pl.concat([pairs, *sides], how="horizontal").with_columns(
        score_margin=pl.col("score_chosen") - pl.col("score_rejected")
    )
    if alike := ["white_space_only"] if "at" in carried and rule.identical == "exact" else []:
        # Without texts in hand nobody could compare them later; no other rule makes such pairs.
        chosen, rejected = (eligible["bare"].gather(pairs[f"row_{side}"]) for side in ("chosen", "rejected"))
        pairs = pairs.with_columns(white_space_only=chosen == rejected)
    if compared is not None:
        of_pair = compared.select(
            "prompt_id",
            pl.col("source").alias("source_chosen"),
            pl.col("index").alias("index_chosen"),
            pl.col("other_source").alias("source_rejected"),
            pl.col("other_index").alias("index_rejected"),
            "p",
            "log_odds",
        )
        keys = ["prompt_id", "source_chosen", "index_chosen", "source_rejected", "index_rejected"]
        pairs = pairs.join(of_pair, on=keys, how="left", maintain_order="left", nulls_equal=True)
    trace = [f"{name}_{side}" for side in ("chosen", "rejected") for name in (*_TRACE, *carried)]
    columns = ["prompt_id", "pair_index", "n_candidates", "n_eligible", *trace, "score_margin", *rule.extra_columns()]
    columns += alike
    return rule.with_extras(pairs, eligible).select(columns)


def _compared(rule: Rule, frame: pl.DataFrame, comparisons: pl.DataFrame | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The candidates, scored by comparisons where the rule does so, and both directions of the comparisons."""
    if comparisons is None:
        raise InputError(
            f"the pair rule {rule.dump()['kind']!r} needs comparisons with these options, but none were given",
            hint="take a pairwise scorer in a recipe, `comparisons=` in Python, or an option that works on scores",
        )
    keys = list(_CANDIDATE)
    if (twice := frame.filter(pl.struct(keys).is_duplicated())).height:
        raise InputError(f"two candidates are named {twice.select(keys).row(0)!r}, so no comparison can name one")
    comparisons = checked_comparisons(comparisons)
    names = {"a": {"source": "source_a", "index": "index_a"}, "b": {"source": "source_b", "index": "index_b"}}
    strangers = comparisons
    for side in names.values():
        there = frame.select("prompt_id", *(pl.col(name).alias(own) for name, own in side.items()))
        if (lost := strangers.join(there, on=there.columns, how="anti")).height:
            raise InputError(
                f"a comparison names a candidate that is not in the table: {lost.select(there.columns).row(0)!r}"
            )
    fit = frame.filter(pl.col("unfit").is_null())
    for side in names.values():
        there = fit.select("prompt_id", *(pl.col(name).alias(own) for name, own in side.items()))
        comparisons = comparisons.join(there, on=there.columns, how="semi")
    scores = rule.scores_of(comparisons)
    if scores is not None:
        frame = frame.drop("score", "unscored").join(
            scores.with_columns(unsigned_zero(pl.col("score")).alias("score")),
            on=keys,
            how="left",
            maintain_order="left",
        )
        lacking = pl.col("score").is_null() & pl.col("unscored").is_null()
        frame = frame.with_columns(unscored=pl.when(lacking).then(pl.lit("not_compared")).otherwise("unscored"))
    return frame, preferences(comparisons)


def _with_eligibility(rule: Rule, frame: pl.DataFrame) -> pl.DataFrame:
    """The candidates with the reason why one is not eligible, and the place of its score among the eligible ones."""
    unfit = pl.col("unfit")
    unscored = pl.col("score").is_null() & (unfit.is_null() | unfit.is_in([*ENDINGS.values()]))
    frame = frame.with_columns(ineligible=pl.when(unscored).then(pl.lit("unscored")).otherwise(unfit))
    if not rule.needs_quantiles():
        return frame.with_columns(quantile=pl.lit(None, pl.Float64))
    score = pl.when(pl.col("ineligible").is_null()).then("score")
    at_or_below = score.rank("max").over("unit")
    return frame.with_columns(quantile=at_or_below / score.count().over("unit"))


def _drop_columns(dropped: pl.DataFrame, frame: pl.DataFrame, proposal: Proposal) -> pl.DataFrame:
    """The reason for each prompt without a pair, in the order in which `PairRule` lists them."""
    of_dropped = frame.filter(pl.col("unit").is_in(dropped["unit"].implode()))
    score = pl.col("score").filter(pl.col("ineligible").is_null())
    counts = of_dropped.group_by("unit").agg(
        low=score.min(), high=score.max(), **{flaw: (pl.col("ineligible") == flaw).sum() for flaw in _FLAWS}
    )
    reached = {"has_chosen": proposal.chosen, "has_lower": proposal.lower, "has_pool": proposal.pool}
    why = dropped.join(counts, on="unit", how="left", maintain_order="left").with_columns(
        pl.col("unit").is_in(units.implode()).fill_null(value=False).alias(name) for name, units in reached.items()
    )
    reason = (
        pl.when(pl.col("n_eligible") < 2)
        .then(pl.lit("too_few_candidates"))
        .when(pl.col("low") == pl.col("high"))
        .then(pl.lit("no_contrast"))
        .when(~pl.col("has_chosen"))
        .then(pl.lit("no_chosen"))
        .when(pl.col("has_pool"))
        .then(pl.lit("no_rejected"))
        .when(pl.col("has_lower"))
        .then(pl.lit("identical_texts"))
        .otherwise(pl.lit("no_contrast"))
    )
    detail = pl.concat_str(
        pl.format("{} of {} candidates eligible", pl.col("n_eligible"), pl.col("n_candidates")),
        *(pl.when(pl.col(flaw) > 0).then(pl.format("{} {}", pl.col(flaw), pl.lit(flaw))) for flaw in _FLAWS),
        _missing(reason),
        separator=", ",
        ignore_nulls=True,
    )
    return why.select("prompt_id", pl.lit("pairs").alias("stage"), reason.alias("reason"), detail.alias("detail"))


def _missing(reason: pl.Expr) -> pl.Expr:
    """What would have had to be otherwise for a pair, where a number says it."""
    scores = pl.format("scores from {} to {}", "low", "high")
    margin = pl.format("largest difference {}", pl.col("high") - pl.col("low"))
    return (
        pl.when(reason == "no_chosen")
        .then(scores)
        .when(reason == "no_rejected")
        .then(pl.concat_str(scores, margin, separator=", "))
        .when((reason == "no_contrast") & (pl.col("low") == pl.col("high")))
        .then(pl.format("all scores {}", "low"))
    )


def _ineligible_columns(frame: pl.DataFrame) -> pl.DataFrame:
    detail = (
        pl.when(pl.col("ineligible") == "unscored")
        .then(pl.col("unscored"))
        .when(pl.col("ineligible").is_in([ENDINGS["failed"], ENDINGS["unknown"]]))
        .then(pl.col("finish_reason"))
        .fill_null("")
    )
    return frame.filter(pl.col("ineligible").is_not_null()).select(
        "prompt_id",
        pl.lit("pairs").alias("stage"),
        pl.col("ineligible").alias("reason"),
        detail.alias("detail"),
        "source",
        "index",
    )
