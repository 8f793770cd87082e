"""Comparisons of a prompt's candidates, and what makes one score a candidate of them. Pure Polars.

A frame of comparisons has one row for each time that candidate a was compared with candidate b: `prompt_id`,
`source_a`, `index_a`, `source_b`, `index_b`, and either `probability`, P(a beats b), or `score`, its log-odds (the raw
preference score: positive when a is better). In whichever order a pair was compared, and how often, what counts is the
mean: P(i beats j) is the mean of p over the rows (i, j) and of 1 - p over the rows (j, i). A candidate's comparison
with itself says nothing and is left out.

Every function gives `prompt_id`, `source`, `index`, `score`, `unscored`, sorted, one row for each candidate that was
compared with another one; numbers are rounded to 12 decimals, so that the last bits of an exponential, which differ
between machines, don't show.
"""

from __future__ import annotations

import math
from typing import Literal

from prefdata.errors import InputError, closest
from prefdata.lazy import pa, pl

__all__ = [
    "DECIMALS",
    "borda_counts",
    "bradley_terry",
    "checked_comparisons",
    "comparisons_for_a_rule",
    "comparisons_of_tables",
    "mean_scores",
    "preferences",
    "twice_as_sure",
    "win_rates",
]

DECIMALS = 12
"""Decimals that are kept of what comes from an exponential."""
_KEY = ("prompt_id", "source", "index")
_OTHER = ("prompt_id", "other_source", "other_index")
_COLUMNS = ("prompt_id", "source_a", "index_a", "source_b", "index_b")


def comparisons_of_tables(tables: pl.DataFrame, *, of: Literal["probability", "score"], source: str) -> pl.DataFrame:
    """Comparisons from square tables, one a prompt, as SPPO and GPO store them.

    Args:
        tables: `prompt_id` and `table`, a list of K lists of K numbers; row i, column j says how i fares against j. A
            null is no comparison.
        of: what the numbers are.
        source: the source of all candidates; their index is their place in the table.

    Raises:
        InputError: a table is not square.
    """
    _need(tables, ["prompt_id", "table"])
    rows = pl.col("table").list.len()
    cells = pl.col("table").list.eval(pl.element().list.len().cast(pl.Int64).fill_null(-1))
    square = (cells.list.min() == rows) & (cells.list.max() == rows)
    if (bent := tables.filter(~square.fill_null(value=False))).height:
        raise InputError(f"the table of prompt {bent['prompt_id'][0]!r} is not square", valid="K lists of K numbers")
    place = pl.int_ranges(pl.col("table").list.len())
    return (
        tables.with_columns(index_a=place)
        .explode("table", "index_a")
        .with_columns(index_b=place)
        .explode("table", "index_b")
        .filter(pl.col("table").is_not_null() & (pl.col("index_a") != pl.col("index_b")))
        .select(
            "prompt_id",
            pl.lit(source).alias("source_a"),
            "index_a",
            pl.lit(source).alias("source_b"),
            "index_b",
            pl.col("table").cast(pl.Float64).alias(of),
        )
    )


def comparisons_for_a_rule(table: pa.Table, compares: str) -> pl.DataFrame:
    """Makes the frame that `PairRule.pair` takes of the decided comparisons of a table.

    Args:
        table: schema `prefdata.tables.schemas.COMPARISONS`.
        compares: `Scorer.compares`: with `log_odds` they become the column `score`, else there is `probability`.
    """
    frame = pl.DataFrame(table).filter(pl.col("undecided").is_null())
    if compares == "log_odds":
        return frame.select(*_COLUMNS, score="log_odds")
    return frame.select(*_COLUMNS, "probability")


def preferences(comparisons: pl.DataFrame) -> pl.DataFrame:
    """Both directions of every compared pair: prompt_id, source, index, other_source, other_index, p, log_odds, n.

    `p` is P(the candidate beats the other one), `log_odds` its logit (the mean of the scores where scores were given),
    `n` how often the two were compared. p(i, j) + p(j, i) = 1 and log_odds(i, j) = -log_odds(j, i).

    Raises:
        InputError: a column is missing, a name is null, or a number is none or out of range.
    """
    sound = checked_comparisons(comparisons)
    value = sound.columns[-1]
    there = sound.rename({value: "value"})
    flipped = (1 - pl.col("value")) if value == "probability" else -pl.col("value")
    back = there.select(
        "prompt_id",
        pl.col("source_b").alias("source_a"),
        pl.col("index_b").alias("index_a"),
        pl.col("source_a").alias("source_b"),
        pl.col("index_a").alias("index_b"),
        value=flipped,
    )
    # Sorted before they are added up, as a sum of floats depends on its order.
    both = pl.concat([there, back]).sort(pl.all())
    mean = (
        both.filter((pl.col("source_a") != pl.col("source_b")) | (pl.col("index_a") != pl.col("index_b")))
        .group_by(*_COLUMNS, maintain_order=True)
        .agg("value")
        .with_columns(value=pl.col("value").list.sum() / pl.col("value").list.len(), n=pl.col("value").list.len())
    )
    given = pl.col("value")
    if value == "probability":
        p, log_odds = given, (given / (1 - given)).log()
    else:
        p, log_odds = 1 / (1 + (-given).exp()), given
    return mean.select(
        "prompt_id",
        pl.col("source_a").alias("source"),
        pl.col("index_a").alias("index"),
        pl.col("source_b").alias("other_source"),
        pl.col("index_b").alias("other_index"),
        p.round(DECIMALS).alias("p"),
        log_odds.round(DECIMALS).alias("log_odds"),
        pl.col("n").cast(pl.Float64),
    )


def win_rates(comparisons: pl.DataFrame, *, self_term: bool = True, doubled: bool = False) -> pl.DataFrame:
    """The mean of P(the candidate beats j) over the prompt's candidates j.

    Args:
        comparisons: see the module.
        self_term: count the candidate itself with its 0.5, as compute_prob.py of github.com/uclaml/SPPO does: with K
            candidates the best rate is then (K - 0.5) / K.
        doubled: of the sigmoid of twice the log-odds, in place of P.
    """
    known = preferences(comparisons)
    if doubled:
        _need_finite(known)
    value = twice_as_sure(pl.col("log_odds")) if doubled else pl.col("p")
    return _sums(known, value, own=0.5 if self_term else None)


def twice_as_sure(log_odds: pl.Expr) -> pl.Expr:
    """The sigmoid of twice some log-odds.

    Source: compute_prob_from_raw.py of github.com/general-preference/general-preference-model takes that of
    s_ij - s_ji = 2 s_ij.
    """
    return (1 / (1 + (-2 * log_odds).exp())).round(DECIMALS)


def mean_scores(comparisons: pl.DataFrame, *, self_term: bool = True, doubled: bool = False) -> pl.DataFrame:
    """The mean log-odds of the candidate over the prompt's candidates j.

    Source: GPO (arXiv 2410.02197) takes the mean over the K samples, the zero against itself included.

    Args:
        comparisons: see the module.
        self_term: count the candidate itself with its 0.
        doubled: twice that. rank.py of github.com/uclaml/SPPO and rank_gp.py of
            github.com/general-preference/general-preference-model take the mean of s_ij - s_ji = 2 s_ij.
    """
    known = preferences(comparisons)
    _need_finite(known)
    return _sums(known, pl.col("log_odds") * (2 if doubled else 1), own=0.0 if self_term else None)


def borda_counts(comparisons: pl.DataFrame) -> pl.DataFrame:
    """How many candidates of the prompt the candidate beats (P > 0.5); a draw (P = 0.5) counts one half."""
    won = pl.when(pl.col("p") > 0.5).then(1.0).when(pl.col("p") == 0.5).then(0.5).otherwise(0.0)
    known = preferences(comparisons)
    return _scored(_candidates(known), known.group_by(_KEY, maintain_order=True).agg(score=won.sum()))


def bradley_terry(comparisons: pl.DataFrame, *, tolerance: float = 1e-9, max_iterations: int = 10_000) -> pl.DataFrame:
    """Log-strengths of the Bradley-Terry model, by maximum likelihood; their mean over a prompt is 0.

    A comparison with probability p counts as p wins and 1 - p losses, a draw as half of each. Source of the algorithm:
    D. R. Hunter, "MM algorithms for generalized Bradley-Terry models", Annals of Statistics 32 (2004).

    The maximum exists only where every candidate can be reached from every other one along wins (Ford's condition).
    Candidates of other prompts are unscored: `disconnected`. A prompt that is not done after `max_iterations` is
    unscored: `not_converged`.

    Args:
        comparisons: see the module.
        tolerance: done when no log-strength of the prompt moves by more than this.
        max_iterations: after so many rounds, give up.
    """
    known = preferences(comparisons)
    everybody = _candidates(known).with_row_index("a")
    edges = known.join(everybody, on=_KEY, maintain_order="left").join(
        everybody.select(pl.exclude("a"), pl.col("a").alias("b")),
        left_on=_OTHER,
        right_on=_KEY,
        maintain_order="left",
    )
    reason = pl.when(~pl.col("prompt_id").is_in(_connected(edges).implode())).then(pl.lit("disconnected"))
    candidates = everybody.with_columns(unscored=reason)
    open_now = candidates.filter(pl.col("unscored").is_null())
    strengths = _ones(candidates.height)
    for _ in range(max_iterations):
        if open_now.is_empty():
            break
        edges = edges.join(open_now.select("a"), on="a", how="semi", maintain_order="left")
        strengths, moved = _step(edges, open_now, strengths)
        still = moved.filter(pl.col("moved") > tolerance)["prompt_id"]
        open_now = open_now.filter(pl.col("prompt_id").is_in(still.implode()))
    late = pl.col("a").is_in(open_now["a"].implode())
    unscored = pl.when(late).then(pl.lit("not_converged")).otherwise("unscored")
    return candidates.with_columns(unscored=unscored, score=strengths.log()).select(
        *_KEY, score=pl.when(pl.col("unscored").is_null()).then(pl.col("score").round(DECIMALS)), unscored="unscored"
    )


def _step(edges: pl.DataFrame, candidates: pl.DataFrame, strengths: pl.Series) -> tuple[pl.Series, pl.DataFrame]:
    """One round of minorisation and maximisation: the new strengths, and how far each prompt moved."""
    shares = edges.select(
        "a",
        won=pl.col("p") * pl.col("n"),
        met=pl.col("n") / (strengths.gather(edges["a"]) + strengths.gather(edges["b"])),
    )
    sums = shares.group_by("a", maintain_order=True).agg("won", "met").with_columns(pl.col("won", "met").list.sum())
    new = candidates.join(sums, on="a", maintain_order="left").with_columns(new=(pl.col("won") / pl.col("met")).log())
    centred = (
        new.group_by("prompt_id", maintain_order=True)
        .agg("a", "new")
        .with_columns(new=pl.col("new") - pl.col("new").list.mean())
    )
    placed = centred.explode("a", "new").with_columns(old=strengths.gather(centred.explode("a", "new")["a"]).log())
    moved = placed.group_by("prompt_id").agg(moved=(pl.col("new") - pl.col("old")).abs().max())
    updated = strengths.scatter(placed["a"], placed["new"].exp())
    return updated, moved


def _connected(edges: pl.DataFrame) -> pl.Series:
    """The prompts in which every candidate reaches every other one along wins."""
    steps = edges.filter(pl.col("p") > 0).select("prompt_id", "a", "b")
    reach = steps
    n = edges.group_by("prompt_id").agg(n=pl.col("a").n_unique())
    for _ in range(max(1, math.ceil(math.log2(float(str(n["n"].max() or 1)))) + 1)):
        onward = reach.select("prompt_id", pl.col("a").alias("b"), pl.col("b").alias("c"))
        further = reach.join(onward, on=["prompt_id", "b"]).select("prompt_id", "a", pl.col("c").alias("b"))
        reach = pl.concat([reach, further]).unique()
    met = reach.filter(pl.col("a") != pl.col("b")).group_by("prompt_id").agg(met=pl.len())
    return n.join(met, on="prompt_id").filter(pl.col("met") == pl.col("n") * (pl.col("n") - 1))["prompt_id"]


def _ones(n: int) -> pl.Series:

    return pl.Series([1.0] * n, dtype=pl.Float64)


def _candidates(known: pl.DataFrame) -> pl.DataFrame:
    return known.select(_KEY).unique().sort(_KEY)


def _sums(known: pl.DataFrame, value: pl.Expr, own: float | None) -> pl.DataFrame:
    """The mean of `value` over a candidate's opponents, itself among them with `own` unless that is None."""
    grouped = known.select(*_KEY, value=value).group_by(_KEY, maintain_order=True).agg("value")
    total = pl.col("value").list.sum() + (own or 0.0)
    mean = total / (pl.col("value").list.len() + (own is not None))
    return _scored(_candidates(known), grouped.select(*_KEY, score=mean.round(DECIMALS)))


def _scored(candidates: pl.DataFrame, scores: pl.DataFrame) -> pl.DataFrame:

    joined = candidates.join(scores, on=_KEY, how="left", maintain_order="left")
    return joined.with_columns(unscored=pl.lit(None, pl.String))


def checked_comparisons(comparisons: pl.DataFrame) -> pl.DataFrame:
    """The frame with the columns it must have, in one order and of one type each, `probability` or `score` the last.

    Raises:
        InputError: a column is missing, a name is null, or a number is none or out of range.
    """
    _need(comparisons, _COLUMNS)
    values = [name for name in ("probability", "score") if name in comparisons.columns]
    if len(values) != 1:
        found = " and ".join(values) or "neither"
        raise InputError(f"the comparisons have {found}", valid="one of the columns 'probability' and 'score'")
    [value] = values
    if not (comparisons[value].dtype.is_numeric() or comparisons[value].dtype == pl.Null):
        raise InputError(f"the column {value!r} of the comparisons is of type {comparisons[value].dtype}")
    number = pl.col(value).cast(pl.Float64)
    sound = number.is_finite() & (number.is_between(0, 1) if value == "probability" else pl.lit(value=True))
    unsound = comparisons.filter(~sound.fill_null(value=False) | pl.any_horizontal(pl.col(_COLUMNS).is_null()))
    if unsound.height:
        row = unsound.select(*_COLUMNS, value).row(0)
        limits = "between 0 and 1" if value == "probability" else "finite"
        raise InputError(
            f"{unsound.height} comparisons can't be used, the first one is {row!r}",
            valid=f"no null, and a {value} that is {limits}",
            hint="leave out comparisons that failed",
        )
    texts, numbers = pl.col("prompt_id", "source_a", "source_b"), pl.col("index_a", "index_b")
    return comparisons.select(*_COLUMNS, value).with_columns(
        texts.cast(pl.String), numbers.cast(pl.Int64), pl.col(value).cast(pl.Float64)
    )


def _need(frame: pl.DataFrame, names: tuple[str, ...] | list[str]) -> None:
    if missing := [name for name in names if name not in frame.columns]:
        raise InputError(f"the comparisons have no column {missing[0]!r}", valid=closest(missing[0], frame.columns))


def _need_finite(known: pl.DataFrame) -> None:

    if (certain := known.filter(pl.col("log_odds").is_infinite())).height:
        raise InputError(
            f"a comparison of prompt {certain['prompt_id'][0]!r} is certain: its probability is 0 or 1, so its "
            "log-odds are infinite",
            valid="probabilities above 0 and below 1, or the column 'score'",
        )
