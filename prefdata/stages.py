"""The stages of one build: how each maps shards of prompts to shards, and what it counts.

`Run` holds one build under way. Every method is a stage; it does nothing where an earlier run has finished, and
leaves a report whose rows balance: in = out + drops.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

import polars as pl
import pyarrow as pa

from prefdata.audit.measures import Auditor
from prefdata.engines.local import Work, run_stage
from prefdata.errors import ConservationError, InputError, UserError
from prefdata.lock import Lock, StageKey
from prefdata.pairing import pair_with_backfill
from prefdata.progress import Progress, say
from prefdata.recipe import Recipe
from prefdata.records import Answers, Candidate, Drop, Prompt, Score, as_messages
from prefdata.sampling import Drawn, Sampler, Task
from prefdata.spec import JSON, Context, Part
from prefdata.store import BuildFolder, StageFolder, write_atomically
from prefdata.tables import (
    CANDIDATE_DROPS,
    CANDIDATES,
    DROPS,
    PAIR_KEY,
    PROMPTS,
    SCORES,
    checked,
    pairs_schema,
    read_parquet,
    write_parquet,
)

__all__ = ["CANDIDATE_KEY", "Run", "read_prompts"]

CANDIDATE_KEY = ("prompt_id", "source", "index")


class Run:
    """One build under way."""

    def __init__(self, recipe: Recipe, folder: BuildFolder, lock: Lock, shard_size: int) -> None:
        self.recipe, self.folder, self.lock, self.shard_size = recipe, folder, lock, shard_size
        self.counters: dict[str, Counter[str]] = defaultdict(Counter)
        """Stage → what its part counted in this run: retries, truncated texts. They depend on where runs were cut."""

    def stage(self, key: StageKey) -> StageFolder:
        """The folder of a stage."""
        return self.folder.stage(key.name, key.key, self.shard_size)

    @cached_property
    def shards(self) -> range:
        """Numbers of all shards; known once the prompts stage is finished."""
        return range(self._report(self.lock.prompts)["shards"])

    def prompt_ids(self, shard: int) -> list[str]:
        """The ids of a shard's prompts, sorted."""
        return _column(read_parquet(self.stage(self.lock.prompts).shard(shard), ["prompt_id"]), "prompt_id")

    def prompts(self) -> None:
        """Reads all prompts, merges duplicates, sorts by id and cuts into shards."""
        stage = self.stage(self.lock.prompts)
        if stage.report is None:
            stage.create()
            prompts, drops, rows = read_prompts(self.recipe, self._context(self.lock.prompts))
            for number, start in enumerate(range(0, len(prompts), self.shard_size)):
                shard = prompts[start : start + self.shard_size]
                _write(stage.shard(number), [asdict(prompt) for prompt in shard], PROMPTS, ["prompt_id"], "prompts")
            _write(stage.beside("drops", 0), [_prompt_drop(drop) for drop in drops], DROPS, [], "prompts")
            report = _balanced("prompts", rows, len(prompts), Counter(drop.reason for drop in drops))
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
            work: Work[Task, Drawn] = Work(
                tasks=lambda shard: [
                    Task(prompt, index) for prompt in self._prompts(shard) for index in range(sampler.tasks_per_prompt)
                ],
                key_of_task=lambda task: task.key,
                run=lambda tasks: sampler.sample(tasks, context),
                key_of_result=lambda drawn: drawn.key,
                dump=asdict,
                load=_drawn,
                write=lambda shard, results: _write_drawn(stage, shard, results),
                check=_check_drawn,
            )
            with Progress.of(key.name, total, "answers") as progress:
                run_stage(work, stage, self.shards, progress)
            kept = self._count(stage, "shard")
            drops = self._reasons(stage, "candidate_drops")
            stage.finish(_balanced(key.name, kept + drops.total(), kept, drops))
        self._tell(key)

    def scores(self) -> None:
        """Scores every candidate."""
        key = self.lock.scores
        stage = self.stage(key)
        if stage.report is None:
            stage.create()
            context = self._context(key)
            work: Work[Answers, tuple[Score, ...]] = Work(
                tasks=self._answers,
                key_of_task=lambda answers: answers.prompt.prompt_id,
                run=lambda tasks: self.recipe.scores.score(tasks, context),
                key_of_result=_prompt_of,
                dump=lambda scores: [asdict(score) for score in scores],
                load=lambda records: tuple(Score(**record) for record in records),
                write=lambda shard, results: self._write_scores(stage, shard, results),
                check=_check_scores,
            )
            with Progress.of("scores", self._report(self.lock.prompts)["out"], "prompts") as progress:
                run_stage(work, stage, self.shards, progress)
            unscored = Counter[str]()
            for shard in self.shards:
                unscored.update(filter(None, _column(read_parquet(stage.shard(shard), ["unscored"]), "unscored")))
            asked = self._count(stage, "shard")
            stage.finish(_balanced("scores", asked, asked - unscored.total(), unscored))
        self._tell(key)

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
                len(set(_column(read_parquet(stage.shard(shard), ["prompt_id"]), "prompt_id"))) for shard in self.shards
            )
            drops = self._reasons(stage, "drops")
            report = _balanced("pairs", self._report(self.lock.prompts)["out"], paired, drops)
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
        parts: list[tuple[StageKey, Part]] = [(lock.prompts, recipe.prompts)]
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
        return [Prompt(row["prompt_id"], as_messages(row["messages"]), row["origin"]) for row in rows]

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

    def _answers(self, shard: int) -> list[Answers]:
        by_prompt: dict[str, list[Candidate]] = {}
        for row in self._candidates(shard).to_pylist():
            by_prompt.setdefault(row["prompt_id"], []).append(Candidate(**row))
        return [
            Answers(prompt, tuple(by_prompt[prompt.prompt_id]))
            for prompt in self._prompts(shard)
            if prompt.prompt_id in by_prompt
        ]

    def _write_scores(self, stage: StageFolder, shard: int, results: Sequence[tuple[Score, ...]]) -> None:
        rows = [asdict(score) for scores in results for score in scores]
        table = checked(pa.Table.from_pylist(rows, SCORES), SCORES, CANDIDATE_KEY, "scores")
        asked = self._candidates(shard).select(list(CANDIDATE_KEY))
        missing = asked.join(table, list(CANDIDATE_KEY), join_type="left anti").num_rows
        if missing or table.num_rows != asked.num_rows:
            raise ConservationError(f"scores: {asked.num_rows} candidates in, {table.num_rows} scores out")
        write_atomically(stage.shard(shard), lambda path: write_parquet(path, table))

    def judged(self, shard: int) -> pl.DataFrame:
        """The candidates with their scores, in total order."""
        candidates, scores = self._candidates(shard), read_parquet(self.stage(self.lock.scores).shard(shard))
        given = _frame(scores).select(*CANDIDATE_KEY, "score", "unscored")
        return _frame(candidates).join(given, on=CANDIDATE_KEY, how="left", validate="1:1", maintain_order="left")

    def scored(self, shard: int) -> pl.DataFrame:
        """The candidates with their scores and the backfill's answers with theirs, in total order."""
        judged = self.judged(shard)
        if self.recipe.backfill is None:
            return judged
        published = _frame(read_parquet(self.stage(self.lock.candidates[-1]).shard(shard))).with_columns(
            score=pl.col("given_score"), unscored=pl.when(pl.col("given_score").is_null()).then(pl.lit("missing"))
        )
        return pl.concat([judged, published]).sort(CANDIDATE_KEY)

    def audit(self) -> dict[str, JSON]:
        """The biases of all pairs and of the scores behind them."""
        auditor, context = Auditor(), self._context(self.lock.scores)
        for shard in self.shards:
            frame = self.judged(shard)
            shown = [self.recipe.scores.shown(answers, context) for answers in self._answers(shard)]
            places = [
                (answer.prompt_id, answer.source, answer.index, place)
                for answers in shown
                for place, answer in enumerate(answers or ())
            ]
            if places:
                known = pl.DataFrame(places, [*CANDIDATE_KEY, "place"], orient="row")
                frame = frame.join(known, on=CANDIDATE_KEY, how="left")
            auditor.add(frame, _frame(read_parquet(self.stage(self.lock.pairs).shard(shard))))
        return auditor.result()

    def _pair_shard(self, stage: StageFolder, shard: int) -> None:
        frame = self.scored(shard)
        backfill = self.recipe.backfill
        paired = pair_with_backfill(
            self.recipe.pairs, frame, self.prompt_ids(shard), None if backfill is None else backfill.name
        )
        schema = pairs_schema(self.recipe.pairs.extra_columns())
        pairs = checked(paired.pairs.to_arrow(), schema, PAIR_KEY, "pairs")
        drops = checked(paired.drops.to_arrow(), DROPS, ["prompt_id"], "pairs")
        ineligible = checked(paired.ineligible.to_arrow(), CANDIDATE_DROPS, CANDIDATE_KEY, "pairs")
        paired_prompts = paired.pairs["prompt_id"].n_unique()
        _balanced("pairs", len(self.prompt_ids(shard)), paired_prompts, Counter(_column(drops, "reason")))
        write_atomically(stage.beside("drops", shard), lambda path: write_parquet(path, drops))
        write_atomically(stage.beside("candidate_drops", shard), lambda path: write_parquet(path, ineligible))
        write_atomically(stage.shard(shard), lambda path: write_parquet(path, pairs))

    def _context(self, key: StageKey) -> Context:
        def counted(what: str, count: int) -> None:
            self.counters[key.name][what] += count

        return Context(seed=self.recipe.seed, pins=key.pins, log=say, counted=counted)

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
        import pyarrow.parquet as pq

        return sum(int(pq.read_metadata(stage.beside(kind, shard)).num_rows) for shard in self.shards)

    def _reasons(self, stage: StageFolder, kind: str) -> Counter[str]:
        reasons = Counter[str]()
        for shard in self.shards:
            reasons.update(_column(read_parquet(stage.beside(kind, shard), ["reason"]), "reason"))
        return reasons


def read_prompts(recipe: Recipe, context: Context) -> tuple[list[Prompt], list[Drop], int]:
    """The prompts of a recipe without duplicates, sorted by id; the drops; the number of rows read.

    Raises:
        InputError: there is not a single prompt.
    """
    prompts: dict[str, Prompt] = {}
    drops: list[Drop] = []
    rows = 0
    for record in recipe.prompts.read(context):
        rows += 1
        if isinstance(record, Drop):
            drops.append(record)
        elif record.prompt_id in prompts:
            first = prompts[record.prompt_id].origin
            drops.append(Drop(record.prompt_id, "prompts", "duplicate", f"{record.origin} repeats {first}"))
        else:
            prompts[record.prompt_id] = record
            if len(prompts) == recipe.limit:
                break
    if not prompts:
        reasons = ", ".join(f"{count} {reason}" for reason, count in Counter(drop.reason for drop in drops).items())
        raise InputError(f"the prompts of recipe {recipe.name!r} hold no prompt: {rows} rows read ({reasons})")
    return sorted(prompts.values(), key=lambda prompt: prompt.prompt_id), drops, rows


def _balanced(stage: str, rows_in: int, rows_out: int, drops: Counter[str]) -> dict[str, Any]:
    """The report of a stage.

    Raises:
        ConservationError: rows in ≠ rows out + drops.
    """
    if rows_in != rows_out + drops.total():
        raise ConservationError(f"{stage}: {rows_in} in, but {rows_out} out and {drops.total()} drops")
    return {"stage": stage, "in": rows_in, "out": rows_out, "drops": dict(sorted(drops.items()))}


def _write(path: Any, rows: Iterable[dict[str, Any]], schema: pa.Schema, key: Sequence[str], stage: str) -> None:
    table = checked(pa.Table.from_pylist(list(rows), schema), schema, key, stage)
    write_atomically(path, lambda beside: write_parquet(beside, table))


def _write_drawn(stage: StageFolder, shard: int, results: Sequence[Drawn]) -> None:
    candidates = [asdict(candidate) for drawn in results for candidate in drawn.candidates]
    drops = [asdict(drop) for drawn in results for drop in drawn.drops]
    _write(stage.beside("candidate_drops", shard), drops, CANDIDATE_DROPS, [], "candidates")
    _write(stage.shard(shard), candidates, CANDIDATES, CANDIDATE_KEY, "candidates")


def _check_drawn(task: Task, drawn: Drawn) -> None:
    found = {record.prompt_id for records in (drawn.candidates, drawn.drops) for record in records}
    if found != {task.prompt.prompt_id}:
        raise ConservationError(f"candidates: {task.key!r} came back with neither an answer to its prompt nor a drop")


def _prompt_of(scores: Sequence[Score]) -> str:
    if not scores:
        raise ConservationError("scores: a prompt came back without a single score")
    return scores[0].prompt_id


def _check_scores(answers: Answers, scores: Sequence[Score]) -> None:
    asked = [(found.prompt_id, found.source, found.index) for found in answers.candidates]
    given = [(score.prompt_id, score.source, score.index) for score in scores]
    if sorted(asked) != sorted(given):
        raise ConservationError(f"scores: the candidates {sorted(asked)} came back as {sorted(given)}")
    for score in scores:
        if (score.score is None) == (score.unscored is None) or not math.isfinite(score.score or 0):
            raise ConservationError(f"scores: {score} is neither a finite number nor unscored with a reason")


def _drawn(record: JSON) -> Drawn:
    candidates = tuple(Candidate(**candidate) for candidate in record["candidates"])
    return Drawn(record["key"], candidates, tuple(Drop(**drop) for drop in record["drops"]))


def _prompt_drop(drop: Drop) -> dict[str, str]:
    return {"prompt_id": drop.prompt_id, "stage": drop.stage, "reason": drop.reason, "detail": drop.detail}


def _column(table: pa.Table, name: str) -> list[Any]:
    values: list[Any] = table[name].to_pylist()
    return values


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame
