"""How a rule is carried out on a Polars frame: eligibility, the two selections, the reason for every drop."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from prefdata.errors import InputError, closest
from prefdata.pairing.algebra import Selection
from prefdata.pairing.base import Paired, PairRule

BLANK_CHARACTERS = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())
"""Everything Python calls white space; Polars' default leaves out U+001C to U+001F."""
REQUIRED = ("prompt_id", "source", "index", "response", "score")
OPTIONAL = {"model": pl.String, "finish_reason": pl.String, "unscored": pl.String}

_LENGTHS = {
    "characters": pl.col("response").str.len_chars(),
    "words": pl.col("response").str.count_matches(r"[^\s\x1c-\x1f]+"),
    "bytes": pl.col("response").str.len_bytes(),
}


def decide(rule: PairRule, candidates: pl.DataFrame, prompt_ids: Iterable[str] | None) -> Paired:
    """Pairs and drops of `candidates` under `rule`; see `PairRule.pair`."""
    _check(candidates)
    frame = _ordered(rule, candidates)
    everybody = frame.select("prompt_id").unique() if prompt_ids is None else _ids(prompt_ids, frame)
    eligible = frame.filter(pl.col("ineligible").is_null()).with_row_index("row")
    chosen_by, rejected_by = rule.selections()

    chosen = _with_candidate(_select(eligible, chosen_by), eligible, "chosen")
    against = chosen.select(
        "prompt_id",
        pl.col("score_chosen").alias("chosen_score"),
        pl.col("length_chosen").alias("chosen_length"),
        pl.col("response_chosen").alias("chosen_response"),
    )
    lower = eligible.join(against, on="prompt_id", how="inner", maintain_order="left").filter(
        pl.col("score") < pl.col("chosen_score")
    )
    pool = lower.filter(pl.col("response") != pl.col("chosen_response"))
    rejected = _with_candidate(_select(pool, rejected_by), eligible, "rejected")

    prompts = (
        everybody.join(frame.group_by("prompt_id").agg(n_candidates=pl.len()), on="prompt_id", how="left")
        .join(eligible.group_by("prompt_id").agg(n_eligible=pl.len()), on="prompt_id", how="left")
        .with_columns(pl.col("n_candidates", "n_eligible").fill_null(0).cast(pl.Int64))
        .sort("prompt_id")
    )
    pairs = prompts.join(chosen, on="prompt_id", how="inner", maintain_order="left").join(
        rejected, on="prompt_id", how="inner", maintain_order="left"
    )
    dropped = prompts.join(pairs.select("prompt_id"), on="prompt_id", how="anti", maintain_order="left")
    return Paired(
        pairs.with_columns(score_margin=pl.col("score_chosen") - pl.col("score_rejected")),
        _drop_columns(dropped, frame, chosen, lower, pool),
        _ineligible_columns(frame),
    )


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
            hint="`prefdata.scores.parse_score` reads texts",
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
    ).with_columns(_unsigned_zero(pl.col("score").cast(pl.Float64)))
    order = ["prompt_id", "source", "index"]
    if not frame.select(order).is_unique().all():
        # All that is left, so that rows which share even their text are told apart by content, not by place.
        order = [*order, "response", "score", *OPTIONAL]
    frame = frame.sort(order, maintain_order=True)
    blank = pl.col("response").str.strip_chars(BLANK_CHARACTERS) == ""
    reason = (
        pl.when(pl.col("response").is_null())
        .then(pl.lit("missing_response"))
        .when(blank if "blank" not in rule.admit else False)
        .then(pl.lit("blank"))
        .when(pl.col("score").is_null())
        .then(pl.lit("unscored"))
        .when(pl.col("finish_reason") == "length" if "cut_off" not in rule.admit else False)
        .then(pl.lit("cut_off"))
    )
    length = _LENGTHS[rule.length].cast(pl.Int64)
    return frame.with_columns(length=length, ineligible=reason)


def _unsigned_zero(score: pl.Expr) -> pl.Expr:
    """0.0 for -0.0: the two are equal, so which of two tied rows wins would show in the bytes."""
    return score.replace(-0.0, 0.0)


def _select(pool: pl.DataFrame, selection: Selection) -> pl.DataFrame:
    """One row for each prompt with an admitted candidate: prompt_id, row, n_tied, decided.

    `n_tied` counts the candidates that share the winner's first key, `decided` names the key after which the winner
    stood alone, or `order`.
    """
    for admission in selection.among:
        pool = pool.filter(admission.admits(pool))
    tied = pool
    winners = pool.select(pl.col("prompt_id").unique(maintain_order=True))
    decided = pl.lit("order")
    for place, key in enumerate(selection.by):
        tied = tied.with_columns(key=key.values(tied))
        tied = tied.filter(pl.col("key") == pl.col("key").min().over("prompt_id"))
        count = tied.group_by("prompt_id").agg(pl.len().cast(pl.Int64).alias(f"n_{place}"))
        winners = winners.join(count, on="prompt_id", how="left", maintain_order="left")
    for place, key in reversed(list(enumerate(selection.by))):
        decided = pl.when(pl.col(f"n_{place}") == 1).then(pl.lit(key.kind)).otherwise(decided)
    first = tied.unique("prompt_id", keep="first", maintain_order=True).select("prompt_id", "row")
    return winners.join(first, on="prompt_id", how="left", maintain_order="left").select(
        "prompt_id", "row", pl.col("n_0").alias("n_tied"), decided.alias("decided")
    )


def _with_candidate(winners: pl.DataFrame, eligible: pl.DataFrame, side: str) -> pl.DataFrame:
    """The winners with their candidate's columns, all but `prompt_id` named by side."""
    columns = ["row", "source", "index", "model", "score", "length", "response"]
    joined = winners.join(eligible.select(columns), on="row", how="left", maintain_order="left").drop("row")
    return joined.rename({name: f"{name}_{side}" for name in joined.columns if name != "prompt_id"})


def _drop_columns(
    dropped: pl.DataFrame, frame: pl.DataFrame, chosen: pl.DataFrame, lower: pl.DataFrame, pool: pl.DataFrame
) -> pl.DataFrame:
    """The reason for each prompt without a pair, in the order in which `PairRule` lists them."""
    reasons = ["missing_response", "blank", "unscored", "cut_off"]
    facts = frame.group_by("prompt_id").agg(
        eligible_low=pl.col("score").filter(pl.col("ineligible").is_null()).min(),
        eligible_high=pl.col("score").filter(pl.col("ineligible").is_null()).max(),
        **{reason: (pl.col("ineligible") == reason).sum() for reason in reasons},
    )
    for name, part in (("has_chosen", chosen), ("has_lower", lower), ("has_pool", pool)):
        facts = facts.with_columns(pl.col("prompt_id").is_in(part["prompt_id"].unique().to_list()).alias(name))
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
