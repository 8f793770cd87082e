"""`pair_with_backfill`: prompts that give no pair take the pair of another dataset, WPO's third type of data."""

from __future__ import annotations

from collections.abc import Iterable

from prefdata.lazy import pl
from prefdata.pairing.base import PairRule
from prefdata.pairing.named import BestVsWorst
from prefdata.pairing.paired import Paired

__all__ = ["pair_with_backfill"]


def _like(rule: PairRule) -> BestVsWorst:
    """Best against worst, under what the rule says of every pair."""
    # A label may need comparisons, which published answers don't have.
    shared = PairRule.model_fields.keys() - {"label"}
    return BestVsWorst.model_validate({name: getattr(rule, name) for name in shared})


def pair_with_backfill(
    rule: PairRule,
    candidates: pl.DataFrame,
    prompt_ids: Iterable[str],
    source: str | None,
    comparisons: pl.DataFrame | None = None,
) -> Paired:
    """Applies a rule, and gives the prompts that it drops the pair that another dataset has for them.

    The published answers are candidates of their own source, with the scores that came with them. The rule never sees
    them. A filled pair meets the conditions of every pair: other texts, a strictly higher score, both eligible; it is
    marked by its source.

    Source: WPO paper, arXiv 2406.11827 ("+Ultrafeedback": prompts without a pair are put back with the original one).

    Args:
        rule: the pair rule.
        candidates: as `PairRule.pair` takes them, those of `source` included.
        prompt_ids: all prompts that must be accounted for.
        source: source of the published answers; None fills nothing.
        comparisons: of the other candidates, for rules that need them.

    Returns:
        Pairs, sorted by prompt; the drops that are left, whose detail says why they could not be filled; candidates
        that neither rule saw, of the published answers only those of prompts that asked for them.
    """
    ids = list(prompt_ids)
    if source is None:
        return rule.pair(candidates, ids, comparisons)
    published = pl.col("source") == source
    paired = rule.pair(candidates.filter(~published), ids, comparisons)
    dropped = paired.drops["prompt_id"]
    asked = candidates.filter(published & pl.col("prompt_id").is_in(dropped.to_list()))
    filled = _like(rule).pair(asked, dropped)
    extra = [pl.lit(None, pl.Float64).alias(name) for name in rule.extra_columns()]
    why = filled.drops.select("prompt_id", pl.format("; {}: {}", pl.lit(source), "reason").alias("unfilled"))
    left = paired.drops.join(why, on="prompt_id", how="inner", maintain_order="left")
    return Paired(
        pl.concat([paired.pairs, filled.pairs.with_columns(extra)]).sort("prompt_id", "pair_index"),
        left.with_columns(detail=pl.col("detail") + pl.col("unfilled")).drop("unfilled"),
        pl.concat([paired.ineligible, filled.ineligible]).sort("prompt_id", "source", "index"),
    )
