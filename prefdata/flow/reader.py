"""`BuildReader`: opens a finished or half-finished build from its folder alone, and reads its tables."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from prefdata.errors import InputError, RecipeError
from prefdata.flow.balance import count_reasons
from prefdata.flow.graph import FORMAT, Stage, StageGraph, graph_of
from prefdata.flow.lock import read_lock
from prefdata.flow.stage_files import read_files, read_table
from prefdata.flow.stage_tables import COMPARED, ScoreTables, StageTables
from prefdata.flow.store import SHARD_SIZE, BuildFolder, StageFolder
from prefdata.lazy import pa, pc, pl
from prefdata.models.endpoint.spending import Spending
from prefdata.recipe import Recipe, read_recipe
from prefdata.scoring import Scorer
from prefdata.spec import JSON
from prefdata.tables.kept import Kept
from prefdata.tables.schemas import SPLITS

__all__ = ["BuildReader", "BuildRecord"]


@dataclass(frozen=True)
class BuildRecord:
    """What a build is made from."""

    recipe: Recipe
    """With its profile applied."""
    graph: StageGraph
    """Every stage, with its pins and its key."""
    shard_size: int
    """Prompts of a shard; the last one may have fewer."""


class BuildReader:
    """Reads one build. Tables are read shard by shard, each sorted by prompt id.

    Args:
        folder: the build folder.
        record: what the build is made from; None reads it from the folder. Of several shard sizes that the folder has
            stages for, the one with the most finished stages is read.

    Raises:
        InputError: the folder holds no build, or one that another version of prefdata has made.
        RecipeError: its recipe can't be read, or does not belong to its lock.
        StoreError: its lock is damaged.
    """

    def __init__(self, folder: str | Path, record: BuildRecord | None = None) -> None:
        self.folder = BuildFolder(Path(folder))
        record = record or _read_record(self.folder)
        self.recipe, self.graph, self.shard_size = record.recipe, record.graph, record.shard_size
        self.tables = self._stage_tables()
        """The tables of the stages, without recipe and graph: what a stage job holds."""

    def _stage_tables(self) -> StageTables:
        backfill = [self.stage(stage.name) for stage in self.graph.of_kind("backfill")]
        return StageTables(
            recipe=self.recipe.name,
            prompt_folder=self.stage("prompts"),
            candidate_folders=tuple(self.stage(stage.name) for stage in self.graph.of_kind("candidates")),
            backfill_folder=backfill[0] if backfill else None,
            score_tables={
                stage.name: ScoreTables(stage.name, self.stage(stage.name), bool(stage.part.compares))
                for stage in self.graph.of_kind("member", "scores")
                if isinstance(stage.part, Scorer)
            },
            pair_folder=self.stage("pairs"),
        )

    def stage(self, name: str) -> StageFolder:
        """Gives the folder of a stage."""
        return _stage_folder(self.folder, self.graph[name], self.shard_size)

    def state(self, name: str) -> str:
        """Says whether a stage is `done`, `partly done` or `to do`."""
        folder = self.stage(name)
        if folder.report is not None:
            return "done"
        return "partly done" if folder.path.exists() and any(folder.path.glob("*-*")) else "to do"

    def report(self, name: str) -> JSON:
        """Gives what a finished stage has counted.

        Raises:
            InputError: the stage is not finished.
        """
        report = self.stage(name).report
        if report is None:
            raise InputError(
                f"the stage {name!r} of the build in {str(self.folder.root)!r} is not finished",
                valid="the reports of finished stages",
                hint="run the build again: it goes on where it stopped",
            )
        return report

    def made_with(self) -> dict[str, list[dict[str, str]]]:
        """Gives the versions that made each finished stage, as far as they are on record; filters as their prompts."""
        of_stages = {stage.name: read_files(self.stage(stage.name).path).packages for stage in self.graph.stages}
        return {stage.name: of_stages.get(stage.name, of_stages["prompts"]) for stage in self.graph.parts}

    @property
    def shards(self) -> range:
        """Numbers of all shards.

        Raises:
            InputError: the prompts stage is not finished.
        """
        return self.tables.shards

    def prompt_ids(self, shard: int) -> list[str]:
        """Reads the ids of a shard's prompts."""
        return self.tables.prompt_ids(shard)

    def all_prompt_ids(self) -> list[str]:
        """Reads the ids of all prompts, sorted."""
        return [prompt_id for shard in self.shards for prompt_id in self.prompt_ids(shard)]

    def prompts(self, shard: int) -> pa.Table:
        """Reads the prompts of a shard, schema `prefdata.tables.schemas.PROMPTS`."""
        return self.tables.prompts(shard)

    def candidates(self, shard: int) -> pa.Table:
        """Reads the candidates of a shard that are scored, schema `prefdata.tables.schemas.CANDIDATES`."""
        return self.tables.candidates(shard)

    def reasoning(self, shard: int) -> pa.Table:
        """Reads what models wrote before their answers, schema `prefdata.tables.schemas.REASONING`; not published."""
        return self.tables.reasoning(shard)

    def scores(self, shard: int) -> pa.Table:
        """Reads the scores of a shard, schema `prefdata.tables.schemas.SCORES`."""
        return self.tables.scores(shard)

    def scored_candidates(self, shard: int) -> pl.DataFrame:
        """Reads the candidates of a shard with their `score` and `unscored`; the backfill's are not among them."""
        return self.tables.scored_candidates(shard)

    def comparisons(self, shard: int) -> pa.Table:
        """Reads the comparisons of a shard, schema `prefdata.tables.schemas.COMPARISONS`; empty without any."""
        return self.tables.comparisons(shard)

    def pairs(self, shard: int) -> pa.Table:
        """Reads the pairs of a shard, schema `prefdata.tables.schemas.pairs_schema`."""
        return self.tables.pairs(shard)

    def answers(self, shard: int) -> pa.Table:
        """Reads every answer of a shard with its score, as published: schema `prefdata.tables.schemas.ANSWERS`."""
        return self.tables.answers(shard)

    def kept(self) -> Kept | None:
        """Reads the columns that travel along; None where the recipe keeps none."""
        names = self.recipe.kept_columns()
        return Kept.of(names, self.tables.kept()) if names else None

    def given_splits(self) -> pa.Table:
        """Reads the prompts whose source gives their split, schema `prefdata.tables.schemas.SPLITS`."""
        tables = [self.prompts(shard).select(SPLITS.names) for shard in self.shards]
        table = pa.concat_tables([SPLITS.empty_table(), *tables])
        return table.filter(pc.is_valid(table["split"]))

    def all_drops(self, kind: str, schema: pa.Schema) -> pa.Table:
        """Reads all drops so far, in an order that does not depend on shards.

        Args:
            kind: `drops` of prompts, or `candidate_drops`.
            schema: of that kind.
        """
        folders = [self.stage(stage.name).path for stage in self.graph.stages]
        files = [file for folder in folders for file in sorted(folder.glob(f"{kind}-*.parquet"))]
        table = pa.concat_tables([schema.empty_table(), *(read_table(file).cast(schema) for file in files)])
        return table.sort_by([(name, "ascending") for name in schema.names])

    def ledger(self) -> JSON:
        """Counts what became of every row, over all stages.

        Raises:
            InputError: a stage is not finished.
        """
        names = [stage.name for stage in self.graph.stages if stage.in_ledger]
        stages = [{name: self.report(stage)[name] for name in ("stage", "in", "out", "drops")} for stage in names]
        prompts, pairs = stages[0], stages[-1]
        drops = Counter(prompts["drops"]) + Counter(pairs["drops"])
        ineligible = self.all_ineligible()
        return {
            "prompts": prompts["in"],
            "pairs": self.report("pairs")["pairs"],
            "paired_prompts": pairs["out"],
            "drops": dict(sorted(drops.items())),
            "ineligible": dict(sorted(ineligible.items())),
            "stages": stages,
        }

    def all_ineligible(self) -> Counter[str]:
        """Counts the candidates that the pair rule never saw, by reason."""
        folder = self.stage("pairs")
        return count_reasons(folder.side_table("candidate_drops", shard) for shard in self.shards)

    def scoring(self) -> dict[str, JSON]:
        """Gives what each stage of scores found of all prompts at once; stages that found nothing are left out."""
        facts: dict[str, JSON] = {}
        for stage in self.graph.of_kind("member", "scores"):
            report = self.report(stage.name)
            of_stage = {what: report[what] for what in (COMPARED, "fitted") if what in report}
            facts |= {stage.name: of_stage} if of_stage else {}
        return facts

    @cached_property
    def spending(self) -> Spending:
        """What endpoints were paid, in all runs so far; new payments are added to the same file."""
        return Spending(self.folder.spending_file)


def _stage_folder(folder: BuildFolder, stage: Stage, shard_size: int) -> StageFolder:
    return folder.stage(stage.name, stage.key, shard_size)


def _read_record(folder: BuildFolder) -> BuildRecord:
    lock = read_lock(folder)
    if not isinstance(lock, dict):
        raise InputError(f"{str(folder.root)!r} holds no build", valid="the folder of a build", hint="check the path")
    if lock.get("format") != FORMAT:
        raise InputError(
            f"the build in {str(folder.root)!r} has format {lock.get('format')!r}, and this prefdata reads {FORMAT}",
            valid=f"a build of format {FORMAT}",
            hint="read it with the version of prefdata that made it, or build the recipe again",
        )
    if "parts" not in lock:
        raise InputError(
            f"the build in {str(folder.root)!r} has not begun: its lock pins commits only",
            hint="run the build",
        )
    recipe = _recorded_recipe(folder, lock)
    try:
        graph = graph_of(recipe).locked(lock["parts"])
    except (KeyError, TypeError) as error:
        raise InputError(
            f"the lock in {str(folder.root)!r} does not have pins and key of every stage", hint="run the build again"
        ) from error
    return BuildRecord(recipe, graph, _shard_size(folder, graph))


def _recorded_recipe(folder: BuildFolder, lock: dict[str, JSON]) -> Recipe:
    # Builds of earlier versions have the recipe in their dataset only.
    files = [file for file in (folder.recipe_file, folder.dataset / "recipe.json") if file.is_file()]
    for file in files:
        recipe = read_recipe(file)
        if recipe.fingerprint() == lock.get("recipe"):
            return recipe
    problem = "another recipe than its lock" if files else "no recipe"
    raise RecipeError(f"the build in {str(folder.root)!r} holds {problem}", hint="run the build again")


def _shard_size(folder: BuildFolder, graph: StageGraph) -> int:
    """Gives the shard size with the most finished stages; of several, the smallest."""
    prompts = graph["prompts"]
    made = (folder.root / "stages").glob(f"{prompts.name}-{prompts.key[:16]}-*")
    sizes = sorted(int(size) for path in made if (size := path.name.rpartition("-")[2]).isdigit())

    def finished(size: int) -> int:
        return sum(_stage_folder(folder, stage, size).report is not None for stage in graph.stages)

    return max(sizes, key=finished, default=SHARD_SIZE)
