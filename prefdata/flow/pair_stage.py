"""The pairs stage: applies the pair rule, shard by shard."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from prefdata.flow.balance import balanced, count_reasons, count_rows
from prefdata.flow.jobs import ShardJob
from prefdata.flow.rows import write_table
from prefdata.flow.stage_files import read_table
from prefdata.pairing import PairRule, pair_with_backfill
from prefdata.pairing.comparisons import comparisons_for_a_rule
from prefdata.spec import JSON
from prefdata.tables.schemas import CANDIDATE_DROPS, CANDIDATE_KEY, DROPS, PAIR_KEY, column, pairs_schema

__all__ = ["PairJob"]


@dataclass(frozen=True, kw_only=True)
class PairJob(ShardJob):
    """Pairs the candidates of every prompt."""

    rule: PairRule
    compares: str
    """What the scorer's comparisons hold: `Scorer.compares`."""
    backfill: str | None = None
    """Source of the published answers that fill gaps."""

    def make(self, shard: int) -> None:
        """Pairs the prompts of a shard; writes the drops, then the pairs."""
        ids, comparisons = self.tables.prompt_ids(shard), None
        if self.rule.needs_comparisons():
            comparisons = comparisons_for_a_rule(self.tables.comparisons(shard), self.compares)
        paired = pair_with_backfill(self.rule, self.tables.all_candidates(shard), ids, self.backfill, comparisons)
        reasons = Counter(paired.drops["reason"].to_list())
        balanced(self.name, len(ids), paired.pairs["prompt_id"].n_unique(), reasons)
        lost, ineligible = (self.folder.side_table(kind, shard) for kind in ("drops", "candidate_drops"))
        write_table(lost, paired.drops.to_arrow(), DROPS, ["prompt_id"], self.name)
        write_table(ineligible, paired.ineligible.to_arrow(), CANDIDATE_DROPS, CANDIDATE_KEY, self.name)
        schema = pairs_schema(self.rule.extra_columns())
        write_table(self.folder.shard(shard), paired.pairs.to_arrow(), schema, PAIR_KEY, self.name)

    def report(self) -> JSON:
        """Counts prompts with a pair, drops and pairs."""
        shards = [self.folder.shard(shard) for shard in self.tables.shards]
        paired = sum(len(set(column(read_table(path, ["prompt_id"]), "prompt_id"))) for path in shards)
        drops = count_reasons(self.folder.side_table("drops", shard) for shard in self.tables.shards)
        return {**balanced(self.name, self.tables.n_prompts, paired, drops), "pairs": count_rows(shards)}
