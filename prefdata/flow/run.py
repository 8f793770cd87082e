"""The stages of one build: how each maps shards of prompts to shards, and what it counts.

`Run` holds one build under way. Every method is a stage; it does nothing where an earlier run has finished, and
leaves a report whose rows balance: in = out + drops.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict
from functools import cached_property

from prefdata.dataset.measures import Auditor
from prefdata.errors import ConservationError, InputError, UserError
from prefdata.flow.disk import write_atomically
from prefdata.flow.engines.local import Work, run_stage
from prefdata.flow.lock import Lock, StageKey
from prefdata.flow.progress import Progress, say
from prefdata.flow.rows import (
    balanced,
    check_sample_result,
    load_sample_result,
    prompt_drop,
    read_prompts,
    write_rows,
    write_sample_results,
)
from prefdata.flow.score_stage import ScoreStage
from prefdata.flow.store import BuildFolder, StageFolder
from prefdata.lazy import pa, pc, pl, pq
from prefdata.models.endpoint.spending import Spending
from prefdata.pairing import pair_with_backfill
from prefdata.pairing.comparisons import comparisons_for_a_rule
from prefdata.recipe import Recipe
from prefdata.records import Answers, Candidate, Prompt, as_messages
from prefdata.sampling import Sampler, SampleResult, SampleTask
from prefdata.scoring import CompositeScorer, Scorer
from prefdata.spec import JSON, Context, Part
from prefdata.tables.answers import answer_rows
from prefdata.tables.schemas import (
    CANDIDATE_DROPS,
    CANDIDATE_KEY,
    CANDIDATES,
    DROPS,
    PAIR_KEY,
    PROMPTS,
    SPLITS,
    checked,
    column,
    frame_of,
    pairs_schema,
    read_parquet,
    write_parquet,
)

__all__ = ["Run"]


class Run:
    """One build under way."""

    def __init__(self, recipe: Recipe, folder: BuildFolder, lock: Lock, shard_size: int) -> None:
        self.recipe, self.folder, self.lock, self.shard_size = recipe, folder, lock, shard_size
        self.counters: dict[str, Counter[str]] = defaultdict(Counter)
        """Stage → what its part counted in this run: retries, truncated texts. They depend on where runs were cut."""
        self.spending = Spending(folder.spending_file)
        """What endpoints were paid, in this run and in earlier ones."""

    def stage(self, key: StageKey) -> StageFolder:
        """The folder of a stage."""
        return self.folder.stage(key.name, key.key, self.shard_size)

    @cached_property
    def shards(self) -> range:
        """Numbers of all shards; known once the prompts stage is finished."""
        return range(self._report(self.lock.prompts)["shards"])

    def prompt_ids(self, shard: int) -> list[str]:
        """The ids of a shard's prompts, sorted."""
        return column(read_parquet(self.stage(self.lock.prompts).shard(shard), ["prompt_id"]), "prompt_id")

    def prompts(self) -> None:
        """Reads all prompts, merges duplicates, sorts by id and cuts into shards."""
        stage = self.stage(self.lock.prompts)
        if stage.report is None:
            stage.create()
            filters = [self._context(key) for key in self.lock.filters]
            prompts, drops, rows = read_prompts(self.recipe, self._context(self.lock.prompts), filters)
            for number, start in enumerate(range(0, len(prompts), self.shard_size)):
                shard = prompts[start : start + self.shard_size]
                rows_of_it = [asdict(prompt) for prompt in shard]
                write_rows(stage.shard(number), rows_of_it, PROMPTS, ["prompt_id"], "prompts")
            write_rows(stage.side_table("drops", 0), [prompt_drop(drop) for drop in drops], DROPS, [], "prompts")
            report = balanced("prompts", rows, len(prompts), Counter(drop.reason for drop in drops))
            stage.finish({**report, "shards": -(-len(prompts) // self.shard_size)})
        self._tell(self.lock.prompts)

    def candidates(self, sampler: Sampler) -> None:
        """Asks one sampler for all its candidates."""
        key = self.lock.candidates[self.recipe.samplers.index(sampler)]
        stage = self.stage(key)
        if stage.report is None:
            stage.create()
            total = self._report(self.lock.prompts)["out"] * sampler.tasks_per_prompt
            context = self._context(key)
            work: Work[SampleTask, SampleResult] = Work(
                tasks=lambda shard: [
                    SampleTask(prompt, index)
                    for prompt in self._prompts(shard)
                    for index in range(sampler.tasks_per_prompt)
                ],
                key_of_task=lambda task: task.key,
                run=lambda tasks: sampler.sample(tasks, context),
                key_of_result=lambda drawn: drawn.key,
                dump=asdict,
                load=load_sample_result,
                write=lambda shard, results: write_sample_results(stage, shard, results),
                check=check_sample_result,
            )
            with Progress.of(key.name, total, "answers") as progress:
                run_stage(work, stage, self.shards, progress)
            kept = self._count(stage, "shard")
            drops = self._reasons(stage, "candidate_drops")
            stage.finish(balanced(key.name, kept + drops.total(), kept, drops))
        self._tell(key)

    def scores(self) -> None:
        """Scores every candidate; the members of a composite scorer first."""
        for name, stage in self.score_stages.items():
            if stage.folder.report is None:
                stage.run(self._report(self.lock.prompts)["out"])
            self._tell(self.lock.scores if name == "scores" else self.lock.members[name])

    @cached_property
    def score_stages(self) -> dict[str, ScoreStage]:
        """Every stage of scores by name, in the order in which they run; the last one is `scores`."""
        stages: dict[str, ScoreStage] = {}

        def add(name: str, scorer: Scorer) -> ScoreStage:
            inner = scorer.members() if isinstance(scorer, CompositeScorer) else {}
            members = {member: add(f"{name}-{member}", part) for member, part in inner.items()}
            key = self.lock.scores if name == "scores" else self.lock.members[name]
            context = self._context(key)
            stages[name] = ScoreStage(
                name=name,
                scorer=scorer,
                folder=self.stage(key),
                context=context,
                shards=self.shards,
                shard_size=self.shard_size,
                prompt_ids=self.prompt_ids,
                answers=self._tasks,
                members=members,
            )
            return stages[name]

        add("scores", self.recipe.scores)
        return stages

    def pairs(self) -> None:
        """Applies the pair rule, shard by shard."""
        key = self.lock.pairs
        stage = self.stage(key)
        if stage.report is None:
            stage.create()
            for shard in self.shards:
                if not stage.shard(shard).exists():
                    self._pair_shard(stage, shard)
            paired = sum(
                len(set(column(read_parquet(stage.shard(shard), ["prompt_id"]), "prompt_id"))) for shard in self.shards
            )
            drops = self._reasons(stage, "drops")
            report = balanced("pairs", self._report(self.lock.prompts)["out"], paired, drops)
            stage.finish({**report, "pairs": self._count(stage, "shard")})
        self._tell(key)

    def ledger(self) -> JSON:
        """What became of every row, over all stages."""
        keys = [self.lock.prompts, *self.lock.candidates, self.lock.scores, self.lock.pairs]
        stages = [{name: self._report(key)[name] for name in ("stage", "in", "out", "drops")} for key in keys]
        drops = Counter(stages[0]["drops"]) + Counter(stages[-1]["drops"])
        ineligible = self._reasons(self.stage(self.lock.pairs), "candidate_drops")
        return {
            "prompts": stages[0]["in"],
            "pairs": self._report(self.lock.pairs)["pairs"],
            "paired_prompts": stages[-1]["out"],
            "drops": dict(sorted(drops.items())),
            "ineligible": dict(sorted(ineligible.items())),
            "stages": stages,
        }

    def all_drops(self, kind: str, schema: pa.Schema) -> pa.Table:
        """All drops of a kind (`drops` of prompts, `candidate_drops`), in an order that shards don't influence."""
        keys = [self.lock.prompts, *self.lock.candidates, self.lock.pairs]
        files = [file for key in keys for file in sorted(self.stage(key).path.glob(f"{kind}-*.parquet"))]
        table = pa.concat_tables([schema.empty_table(), *(read_parquet(file).cast(schema) for file in files)])
        return table.sort_by([(name, "ascending") for name in schema.names])

    def problems(self) -> list[UserError]:
        """What would stop a stage that is not finished yet; each problem once."""
        recipe, lock = self.recipe, self.lock
        parts: list[tuple[StageKey, Part]] = [(lock.prompts, part) for part in (recipe.prompts, *recipe.filters)]
        parts += zip(lock.candidates, recipe.samplers, strict=True)
        parts += [(lock.scores, recipe.scores), (lock.pairs, recipe.pairs)]
        found = [problem for key, part in parts if self.stage(key).report is None for problem in part.problems()]
        return list({str(problem): problem for problem in found}.values())

    def state(self, key: StageKey) -> str:
        """`done`, `partly done` or `to do`."""
        stage = self.stage(key)
        if stage.report is not None:
            return "done"
        return "partly done" if stage.path.exists() and any(stage.path.glob("*-*")) else "to do"

    def _prompts(self, shard: int) -> list[Prompt]:
        rows = read_parquet(self.stage(self.lock.prompts).shard(shard)).to_pylist()
        return [Prompt(row["prompt_id"], as_messages(row["messages"]), row["origin"], row["split"]) for row in rows]

    def _candidates(self, shard: int) -> pa.Table:
        """The candidates that are scored, in total order."""
        judged = self.lock.candidates[: len(self.recipe.candidates)]
        tables = [read_parquet(self.stage(key).shard(shard)) for key in judged]
        order = [(name, "ascending") for name in (*CANDIDATE_KEY, "response")]
        table = pa.concat_tables(tables).sort_by(order)
        if table.group_by(list(CANDIDATE_KEY)).aggregate([]).num_rows != table.num_rows:
            raise InputError(
                f"two samplers of recipe {self.recipe.name!r} gave candidates of one source with one index",
                valid="sources that differ: a sampler's name, or the models that its table names",
                hint='give the table\'s sampler `source="name"`, or leave one of the two out',
            )
        return checked(table, CANDIDATES, CANDIDATE_KEY, "candidates")

    def _tasks(self, shard: int) -> list[Answers]:
        by_prompt: dict[str, list[Candidate]] = {}
        for row in self._candidates(shard).to_pylist():
            by_prompt.setdefault(row["prompt_id"], []).append(Candidate(**row))
        return [
            Answers(prompt, tuple(by_prompt[prompt.prompt_id]))
            for prompt in self._prompts(shard)
            if prompt.prompt_id in by_prompt
        ]

    def judged(self, shard: int) -> pl.DataFrame:
        """The candidates with their scores, in total order."""
        candidates, scores = self._candidates(shard), read_parquet(self.stage(self.lock.scores).shard(shard))
        given = frame_of(scores).select(*CANDIDATE_KEY, "score", "unscored")
        return frame_of(candidates).join(given, on=CANDIDATE_KEY, how="left", validate="1:1", maintain_order="left")

    def scored(self, shard: int) -> pl.DataFrame:
        """The candidates with their scores and the backfill's answers with theirs, in total order."""
        judged = self.judged(shard)
        if self.recipe.backfill is None:
            return judged
        published = frame_of(read_parquet(self.stage(self.lock.candidates[-1]).shard(shard))).with_columns(
            score=pl.col("given_score"), unscored=pl.when(pl.col("given_score").is_null()).then(pl.lit("missing"))
        )
        return pl.concat([judged, published]).sort(CANDIDATE_KEY)

    def comparisons(self, shard: int) -> pa.Table:
        """The scorer's comparisons of a shard, schema `prefdata.tables.schemas.COMPARISONS`."""
        return self.score_stages["scores"].comparisons(shard)

    def prompt_table(self, shard: int) -> pa.Table:
        """The prompts of a shard, schema `prefdata.tables.schemas.PROMPTS`."""
        return read_parquet(self.stage(self.lock.prompts).shard(shard))

    def paired(self, shard: int) -> pa.Table:
        """The pairs of a shard."""
        return read_parquet(self.stage(self.lock.pairs).shard(shard))

    def answers(self, shard: int) -> pa.Table:
        """Every answer of a shard with its score, as it is published, schema `prefdata.tables.schemas.ANSWERS`."""
        return answer_rows(self.scored(shard), self.prompt_table(shard))

    def all_prompt_ids(self) -> list[str]:
        """The ids of all prompts, sorted."""
        return [prompt_id for shard in self.shards for prompt_id in self.prompt_ids(shard)]

    def given_splits(self) -> pa.Table:
        """The prompts whose source says which split they belong to, schema `prefdata.tables.schemas.SPLITS`."""
        tables = [self.prompt_table(shard).select(SPLITS.names) for shard in self.shards]
        table = pa.concat_tables([SPLITS.empty_table(), *tables])
        return table.filter(pc.is_valid(table["split"]))

    def scoring(self) -> dict[str, JSON]:
        """What the stages of scores found of all prompts at once, by stage; those that found nothing are left out."""
        found: dict[str, JSON] = {}
        for name, stage in self.score_stages.items():
            report: JSON = stage.folder.report
            known = {what: report[what] for what in ("comparisons", "fitted") if what in report}
            found |= {name: known} if known else {}
        return found

    def tell_spending(self) -> None:
        """Says what endpoints were paid over all runs of this build."""
        for line in self.spending.summary():
            say(line)

    def audit(self) -> dict[str, JSON]:
        """The biases of all pairs and of the scores behind them."""
        auditor, context = Auditor(), self._context(self.lock.scores)
        for shard in self.shards:
            frame = self.judged(shard)
            shown = [self.recipe.scores.shown_order(answers, context) for answers in self._tasks(shard)]
            places = [
                (answer.prompt_id, answer.source, answer.index, place)
                for answers in shown
                for place, answer in enumerate(answers or ())
            ]
            if places:
                known = pl.DataFrame(places, [*CANDIDATE_KEY, "place"], orient="row")
                frame = frame.join(known, on=CANDIDATE_KEY, how="left")
            auditor.add(frame, frame_of(read_parquet(self.stage(self.lock.pairs).shard(shard))))
        return auditor.result()

    def _pair_shard(self, stage: StageFolder, shard: int) -> None:
        frame = self.scored(shard)
        backfill, comparisons = self.recipe.backfill, None
        if self.recipe.pairs.needs_comparisons():
            comparisons = comparisons_for_a_rule(self.comparisons(shard), self.recipe.scores.compares)
        paired = pair_with_backfill(
            self.recipe.pairs,
            frame,
            self.prompt_ids(shard),
            None if backfill is None else backfill.name,
            comparisons,
        )
        schema = pairs_schema(self.recipe.pairs.extra_columns())
        pairs = checked(paired.pairs.to_arrow(), schema, PAIR_KEY, "pairs")
        drops = checked(paired.drops.to_arrow(), DROPS, ["prompt_id"], "pairs")
        ineligible = checked(paired.ineligible.to_arrow(), CANDIDATE_DROPS, CANDIDATE_KEY, "pairs")
        paired_prompts = paired.pairs["prompt_id"].n_unique()
        balanced("pairs", len(self.prompt_ids(shard)), paired_prompts, Counter(column(drops, "reason")))
        write_atomically(stage.side_table("drops", shard), lambda path: write_parquet(path, drops))
        write_atomically(stage.side_table("candidate_drops", shard), lambda path: write_parquet(path, ineligible))
        write_atomically(stage.shard(shard), lambda path: write_parquet(path, pairs))

    def _context(self, key: StageKey) -> Context:
        def counted(what: str, count: int) -> None:
            self.counters[key.name][what] += count

        return Context(self.recipe.seed, key.pins, log=say, counted=counted, spending=self.spending)

    def _report(self, key: StageKey) -> JSON:
        report = self.stage(key).report
        if report is None:
            raise ConservationError(f"{key.name} is not finished")
        return report

    def _tell(self, key: StageKey) -> None:
        report = self._report(key)
        drops = ", ".join(f"{reason} {count:,}" for reason, count in report["drops"].items())
        counted = "".join(f"; {what} {count:,}" for what, count in sorted(self.counters[key.name].items()))
        told = f"; {drops}" if drops else ""
        say(f"{report['stage']}: {report['in']:,} in → {report['out']:,} out{told}{counted}")

    def _count(self, stage: StageFolder, kind: str) -> int:

        return sum(int(pq.read_metadata(stage.side_table(kind, shard)).num_rows) for shard in self.shards)

    def _reasons(self, stage: StageFolder, kind: str) -> Counter[str]:
        reasons = Counter[str]()
        for shard in self.shards:
            reasons.update(column(read_parquet(stage.side_table(kind, shard), ["reason"]), "reason"))
        return reasons
