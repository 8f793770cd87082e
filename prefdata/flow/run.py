"""`BuildRunner`: carries out the stages of one build, in the order of the stage graph."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from prefdata.errors import UserError
from prefdata.flow.answer_store import AnswerStore
from prefdata.flow.candidate_stage import SampleJob
from prefdata.flow.damage import set_aside_dependants
from prefdata.flow.engines.local import Machines, carry_out
from prefdata.flow.graph import Stage
from prefdata.flow.jobs import StageJob
from prefdata.flow.pair_stage import PairJob
from prefdata.flow.progress import say
from prefdata.flow.prompt_stage import PromptJob
from prefdata.flow.reader import BuildReader
from prefdata.flow.score_groups import GroupScoreJob
from prefdata.flow.score_stage import CombineJob, ScoreJob
from prefdata.flow.stage_files import note_reused, tidy_stage
from prefdata.models.hosted.base import HostedModel
from prefdata.models.worker import KeptWorkers
from prefdata.pairing import PairRule
from prefdata.prompts import PromptSource
from prefdata.sampling import Sampler, Samples
from prefdata.scoring import CompositeScorer, GroupScorer, Scorer
from prefdata.spec import Engines, fingerprint

__all__ = ["BuildRunner", "problems_of", "prompt_job", "stage_job"]


class BuildRunner:
    """Carries out the stages of one build. A stage that an earlier run has finished is left as it is.

    Args:
        build: the build, whose lock is made.
        store: where results of other builds are looked up, and those of this one kept.
        machines: where models run and shards are made; None takes this one.
    """

    def __init__(self, build: BuildReader, store: AnswerStore | None = None, machines: Machines | None = None) -> None:
        self.build, self.store, self.machines = build, store, machines or Machines()
        self.counters: dict[str, Counter[str]] = defaultdict(Counter)
        """Counters of each stage in this run only (retries, truncated texts); a run that went before had its own."""
        self._noted: Counter[str] = Counter()
        """How many reused results of each stage are on record."""

    def run(self, after_prompts: Callable[[], None] = lambda: None) -> None:
        """Carries out every stage. Samplers of one engine follow each other, and it is started once for all of them.

        Args:
            after_prompts: called when the prompts are known and nothing is spent yet.
        """
        waiting = list(self.build.graph.stages)
        engines = KeptWorkers(self.machines.start)
        try:
            while waiting:
                stage = waiting.pop(0)
                engine = self._engine_of(stage)
                following = [other for other in waiting if engine is not None and self._engine_of(other) == engine]
                waiting.sort(key=lambda other: other not in following)
                self.run_stage(stage, engines)
                if not following:
                    engines.close()
                if stage.kind == "prompts":
                    after_prompts()
        finally:
            engines.close()

    def _engine_of(self, stage: Stage) -> str | None:
        """Names the local engine that a sampler of an unfinished stage needs; None where it needs none."""
        generator = stage.part.generator if isinstance(stage.part, Samples) else None
        if not isinstance(generator, HostedModel) or self.build.stage(stage.name).report is not None:
            return None
        options = {name: value for name, value in generator.dump().items() if name != "thinking"}
        return fingerprint([options, stage.pins])

    def run_stage(self, stage: Stage, engines: Engines | None = None) -> None:
        """Carries out one stage, whose inputs are finished, and prints what it counted.

        Args:
            stage: one of the build's.
            engines: starts the workers of its model, or gives those of a stage before; they are kept there.
        """
        folder = self.build.stage(stage.name)
        if folder.report is not None:
            folder.create()
            tidy_stage(folder.path)
        else:
            job = stage_job(self.build, stage)

            def counted(what: str, count: int) -> None:
                self.counters[stage.name][what] += count

            def complete() -> None:
                self._note_reused(stage)
                set_aside_dependants(self.build, stage)

            store = None if self.store is None else self.store.of_stage(folder.path)
            context = job.context(say, counted, self.build.spending, store, engines)
            try:
                carry_out(job, context, complete=complete, make_shards=self.machines.make_shards)
            finally:
                self._note_reused(stage)
                if store is not None:
                    store.close()
        say(self._line(stage))

    def _note_reused(self, stage: Stage) -> None:
        count = self.counters[stage.name]["reused"] - self._noted[stage.name]
        if count:
            note_reused(self.build.stage(stage.name).path, count)
            self._noted[stage.name] += count

    def report_spending(self) -> None:
        """Prints what endpoints were paid over all runs of this build."""
        for line in self.build.spending.summary():
            say(line)

    def _line(self, stage: Stage) -> str:
        report = self.build.report(stage.name)
        drops = ", ".join(f"{reason} {count:,}" for reason, count in report["drops"].items())
        counters = "".join(f"; {what} {count:,}" for what, count in sorted(self.counters[stage.name].items()))
        lost = f"; {drops}" if drops else ""
        return f"{report['stage']}: {report['in']:,} in → {report['out']:,} out{lost}{counters}"


def problems_of(build: BuildReader) -> list[UserError]:
    """Lists what would stop a stage that is not finished yet; each problem once."""
    unfinished = {stage.name for stage in build.graph.stages if build.stage(stage.name).report is None}
    problems: dict[str, UserError] = {}
    for stage in build.graph.parts:
        carried_out_by = stage.name if stage.has_folder else "prompts"
        if carried_out_by in unfinished:
            problems |= {str(problem): problem for problem in stage.part.problems()}
    return list(problems.values())


def stage_job(build: BuildReader, stage: Stage) -> StageJob:
    """Makes the job of a stage.

    Args:
        build: gives the stage's inputs.
        stage: one of the build's stages that has a folder.
    """
    tables = build.tables
    common: dict[str, Any] = {**_common(build, stage), "tables": tables}
    match stage.part:
        case PromptSource():
            return prompt_job(build)
        case Sampler() as sampler:
            return SampleJob(sampler=sampler, **common)
        case CompositeScorer() as scorer:
            members = {member: tables.score_tables[f"{stage.name}-{member}"] for member in scorer.members()}
            return CombineJob(scorer=scorer, members=members, **common)
        case GroupScorer() as scorer:
            return GroupScoreJob(scorer=scorer, shard_size=build.shard_size, **common)
        case Scorer() as scorer:
            return ScoreJob(scorer=scorer, **common)
        case PairRule() as rule:
            backfill = None if build.recipe.backfill is None else build.recipe.backfill.name
            return PairJob(rule=rule, compares=build.recipe.scores.compares, backfill=backfill, **common)
    raise TypeError(f"the stage {stage.name!r} has no job of its own")


def prompt_job(build: BuildReader) -> PromptJob:
    """Makes the job of the prompts stage, which carries out the filters, too."""
    recipe, filters = build.recipe, build.graph.of_kind("filter")
    return PromptJob(
        recipe=recipe.name,
        source=recipe.prompts,
        filters=tuple(zip(recipe.filters, (stage.pins for stage in filters), strict=True)),
        limit=recipe.limit,
        shard_size=build.shard_size,
        **_common(build, build.graph["prompts"]),
    )


def _common(build: BuildReader, stage: Stage) -> dict[str, Any]:
    return {
        "name": stage.name,
        "folder": build.stage(stage.name),
        "seed": build.recipe.seed,
        "pins": stage.pins,
    }
