"""Reads what the stages of a build have written, shard by shard. Plain data, so that a stage job can hold it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from prefdata.errors import InputError
from prefdata.flow.balance import count_rows
from prefdata.flow.stage_files import read_table, unfinished
from prefdata.flow.store import StageFolder
from prefdata.lazy import pa, pl
from prefdata.records import Answers, Candidate, Comparison, Prompt, Score, Scored, as_messages
from prefdata.spec import JSON
from prefdata.tables.answers import answer_rows
from prefdata.tables.schemas import CANDIDATE_KEY, CANDIDATES, COMPARISONS, REASONING, checked, column, frame_of

__all__ = ["COMPARED", "KEPT_ROWS", "REASONED", "ScoreTables", "StageTables"]

COMPARED = "comparisons"
"""Name of the side table that holds a scorer's comparisons."""
REASONED = "reasoning"
"""Name of the side table that holds what models wrote before their answers; a shard without any has none."""

KEPT_ROWS = "kept"
"""Name of the side table that holds the columns that travel along with prompts, where any do."""


@dataclass(frozen=True)
class ScoreTables:
    """The tables of one stage of scores."""

    name: str
    """The stage's name."""
    folder: StageFolder
    compares: bool
    """Whether the scorer makes comparisons."""

    def scores(self, shard: int) -> pa.Table:
        """Reads the scores of a shard, schema `prefdata.tables.schemas.SCORES`."""
        return read_table(self.folder.shard(shard))

    def comparisons(self, shard: int) -> pa.Table:
        """Reads the comparisons of a shard, schema `prefdata.tables.schemas.COMPARISONS`, in total order."""
        return read_table(self.folder.side_table(COMPARED, shard)) if self.compares else COMPARISONS.empty_table()

    def scored(self, shard: int) -> dict[str, Scored]:
        """Reads the scores and comparisons of a shard as records, by prompt id."""
        scores: dict[str, list[Score]] = {}
        for row in self.scores(shard).to_pylist():
            scores.setdefault(row["prompt_id"], []).append(Score(**row))
        compared: dict[str, list[Comparison]] = {}
        for row in self.comparisons(shard).to_pylist():
            compared.setdefault(row["prompt_id"], []).append(Comparison(**row))
        return {key: Scored(key, tuple(rows), tuple(compared.get(key, ()))) for key, rows in scores.items()}


@dataclass(frozen=True)
class StageTables:
    """The tables of all stages of one build, in shards of one size."""

    recipe: str
    """The recipe's name, for messages."""
    prompt_folder: StageFolder
    candidate_folders: tuple[StageFolder, ...]
    """Of the candidates that are scored, one for each sampler."""
    backfill_folder: StageFolder | None
    """Of the published answers that fill gaps; no scorer sees them."""
    score_tables: Mapping[str, ScoreTables]
    """By the name of the stage: the members of composite scorers, then `scores`."""
    pair_folder: StageFolder

    @cached_property
    def shards(self) -> range:
        """Numbers of all shards; known once the prompts stage is finished."""
        return range(self._prompt_report["shards"])

    @property
    def n_prompts(self) -> int:
        """Number of prompts that the prompts stage let through."""
        return int(self._prompt_report["out"])

    @cached_property
    def _prompt_report(self) -> JSON:
        report = self.prompt_folder.report
        if report is None:
            raise unfinished(self.prompt_folder.path)
        return report

    def prompt_ids(self, shard: int) -> list[str]:
        """Reads the ids of a shard's prompts, sorted."""
        return column(read_table(self.prompt_folder.shard(shard), ["prompt_id"]), "prompt_id")

    def prompts(self, shard: int) -> pa.Table:
        """Reads the prompts of a shard, schema `prefdata.tables.schemas.PROMPTS`, sorted by id."""
        return read_table(self.prompt_folder.shard(shard))

    def prompt_records(self, shard: int) -> list[Prompt]:
        """Reads the prompts of a shard as records, sorted by id."""
        rows = self.prompts(shard).to_pylist()
        return [Prompt(row["prompt_id"], as_messages(row["messages"]), row["origin"], row["split"]) for row in rows]

    def candidates(self, shard: int) -> pa.Table:
        """Reads the candidates of a shard that are scored, in total order.

        Returns:
            Schema `prefdata.tables.schemas.CANDIDATES`.

        Raises:
            InputError: two candidates of one prompt have the same source and index.
        """
        tables = [read_table(folder.shard(shard)) for folder in self.candidate_folders]
        order = [(name, "ascending") for name in (*CANDIDATE_KEY, "response")]
        table = pa.concat_tables(tables).sort_by(order)
        if table.group_by(list(CANDIDATE_KEY)).aggregate([]).num_rows != table.num_rows:
            raise InputError(
                f"two samplers of recipe {self.recipe!r} gave candidates of one source with one index",
                valid="sources that differ: a sampler's name, or the models that its table names",
                hint='give the table\'s sampler `source="name"`, or leave one of the two out',
            )
        return checked(table, CANDIDATES, CANDIDATE_KEY, "candidates")

    def reasoning(self, shard: int) -> pa.Table:
        """Reads what models wrote before the answers of a shard, of those that have any, in total order.

        Returns:
            Schema `prefdata.tables.schemas.REASONING`.
        """
        paths = [folder.side_table(REASONED, shard) for folder in self.candidate_folders]
        tables = [read_table(path) for path in paths if path.exists()]
        return pa.concat_tables([REASONING.empty_table(), *tables]).sort_by([(n, "ascending") for n in CANDIDATE_KEY])

    def kept(self) -> dict[str, dict[str, JSON]]:
        """Reads the columns that travel along with prompts, of all stages that have any: prompt id → values."""
        values: dict[str, dict[str, JSON]] = {}
        for folder in (self.prompt_folder, *self.candidate_folders):
            for path in sorted(folder.path.glob(f"{KEPT_ROWS}-*.parquet")):
                for row in read_table(path).to_pylist():
                    values.setdefault(row["prompt_id"], {}).update(json.loads(row["kept"]))
        return values

    def n_candidates(self, shard: int) -> int:
        """Counts the candidates of a shard that are scored, without reading them."""
        return count_rows(folder.shard(shard) for folder in self.candidate_folders)

    def scorer_tasks(self, shard: int) -> list[Answers]:
        """Reads the prompts of a shard that have candidates, with these, as a scorer takes them."""
        by_prompt: dict[str, list[Candidate]] = {}
        for row in self.candidates(shard).to_pylist():
            by_prompt.setdefault(row["prompt_id"], []).append(Candidate(**row))
        return [
            Answers(prompt, tuple(by_prompt[prompt.prompt_id]))
            for prompt in self.prompt_records(shard)
            if prompt.prompt_id in by_prompt
        ]

    def scores(self, shard: int) -> pa.Table:
        """Reads the scores of a shard, schema `prefdata.tables.schemas.SCORES`."""
        return self.score_tables["scores"].scores(shard)

    def comparisons(self, shard: int) -> pa.Table:
        """Reads the scorer's comparisons of a shard, schema `prefdata.tables.schemas.COMPARISONS`."""
        return self.score_tables["scores"].comparisons(shard)

    def scored_candidates(self, shard: int) -> pl.DataFrame:
        """Reads the candidates of a shard with their `score` and `unscored`, in total order; without the backfill."""
        scores = frame_of(self.scores(shard)).select(*CANDIDATE_KEY, "score", "unscored")
        candidates = frame_of(self.candidates(shard))
        return candidates.join(scores, on=CANDIDATE_KEY, how="left", validate="1:1", maintain_order="left")

    def all_candidates(self, shard: int) -> pl.DataFrame:
        """Reads the scored candidates of a shard, and the backfill's answers with their own scores, in total order."""
        scored = self.scored_candidates(shard)
        if self.backfill_folder is None:
            return scored
        published = frame_of(read_table(self.backfill_folder.shard(shard))).with_columns(
            score=pl.col("given_score"), unscored=pl.when(pl.col("given_score").is_null()).then(pl.lit("missing"))
        )
        return pl.concat([scored, published]).sort(CANDIDATE_KEY)

    def pairs(self, shard: int) -> pa.Table:
        """Reads the pairs of a shard, schema `prefdata.tables.schemas.pairs_schema`."""
        return read_table(self.pair_folder.shard(shard))

    def answers(self, shard: int) -> pa.Table:
        """Reads every answer of a shard with its score, as published: schema `prefdata.tables.schemas.ANSWERS`."""
        return answer_rows(self.all_candidates(shard), self.prompts(shard))
