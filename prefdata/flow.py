"""The flow: prompts → candidates → scores → pairs → dataset. The only file that knows the order of the stages."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prefdata.dataset import held_out
from prefdata.errors import StoreError
from prefdata.lock import make_lock
from prefdata.progress import say
from prefdata.publish.answers import answer_rows
from prefdata.publish.card import CardFacts
from prefdata.publish.folder import DatasetFolder, write_dataset_folder
from prefdata.recipe import Recipe
from prefdata.spec import JSON, Context, Part
from prefdata.stages import Run, read_prompts
from prefdata.store import BuildFolder, check_replaceable, replace_folder, write_json
from prefdata.tables import CANDIDATE_DROPS, DROPS, read_parquet

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

__all__ = ["SHARD_SIZE", "Build", "Plan", "StagePlan", "build", "describe", "describe_steps", "plan", "write_dataset"]

SHARD_SIZE = 256
"""Prompts a shard."""


@dataclass(frozen=True)
class Build:
    """A finished build."""

    folder: Path
    """The build folder."""

    @property
    def dataset(self) -> Path:
        """The dataset folder, in the layout of the Hub."""
        return BuildFolder(self.folder).dataset

    @property
    def ledger(self) -> JSON:
        """What became of every row: see `docs/concepts.md`."""
        return json.loads((self.dataset / "ledger.json").read_text(encoding="utf-8"))

    @property
    def pairs(self) -> pl.DataFrame:
        """All pairs, train before test."""
        import polars as pl

        files = [*sorted(self.dataset.glob("data/train-*")), *sorted(self.dataset.glob("data/test-*"))]
        return pl.read_parquet(files, glob=False)

    @property
    def drops(self) -> pl.DataFrame:
        """All dropped prompts: prompt_id, stage, reason, detail."""
        import polars as pl

        return pl.read_parquet(self.dataset / "drops.parquet", glob=False)


@dataclass(frozen=True)
class StagePlan:
    """What a build would do for one stage."""

    stage: str
    state: str
    """`done`, `partly done` or `to do`."""
    asks: int
    """How much the whole stage is asked, in `unit`."""
    unit: str
    """`rows`, `answers` or `prompts`."""
    words: str
    """How, in words."""


@dataclass(frozen=True)
class Plan:
    """What a build would do."""

    folder: Path
    prompts: int
    """Prompts after merging duplicates."""
    drops: dict[str, int]
    """Prompts that the prompts stage drops: reason → count."""
    stages: tuple[StagePlan, ...]
    problems: tuple[str, ...]
    """What would stop the build: missing packages, keys that are not set."""


def build(
    recipe: Recipe, out: str | Path | None = None, *, relock: bool = False, shard_size: int = SHARD_SIZE
) -> Build:
    """Builds the dataset of a recipe; what an earlier run of the same recipe finished is taken, not made again.

    Args:
        recipe: with its profile applied (`Recipe.with_profile`).
        out: the build folder; left out, `builds/<name of the recipe>`.
        relock: resolve branches and tags anew instead of keeping what the folder's lock pinned.
        shard_size: prompts a shard. Changing it makes the stages anew; it never changes the dataset.

    Returns:
        The build, whose `dataset` folder `datasets.load_dataset` reads.

    Raises:
        UserError: something that the user can mend; what was finished so far is kept.
        ConservationError: rows went missing between two stages, which is a bug.
    """
    folder = _folder(recipe, out)
    with folder.writing():
        lock = make_lock(recipe, None if relock else _read_lock(folder))
        run = Run(recipe, folder, lock, shard_size)
        for problem in run.problems():
            raise problem
        check_replaceable(folder.dataset)
        write_json(folder.lock_file, lock.content)
        run.prompts()
        for sampler in recipe.samplers:
            run.candidates(sampler)
        run.scores()
        run.pairs()
        write_dataset(run)
    return Build(folder.root)


def write_dataset(run: Run) -> None:
    """The last stage: pairs become the dataset folder, which appears at once."""
    prompt_ids = [prompt_id for shard in run.shards for prompt_id in run.prompt_ids(shard)]
    audit = run.audit()
    for warning in run.recipe.audit.crossed(audit):
        say(f"audit: {warning}")
    dataset = DatasetFolder(
        rows=_dataset_rows(run),
        answers=_answer_rows(run),
        test_ids=held_out(prompt_ids, run.recipe.dataset.test_size, run.recipe.seed),
        drops=run.all_drops("drops", DROPS),
        candidate_drops=run.all_drops("candidate_drops", CANDIDATE_DROPS),
        ledger=run.ledger(),
        recipe=run.recipe.dump(),
        lock=run.lock.content,
        card=_card_facts(run),
        audit=run.recipe.audit.judged(audit),
    )
    replace_folder(run.folder.dataset, lambda folder: write_dataset_folder(folder, dataset))
    splits = ", ".join(f"{name} {rows:,}" for name, rows in dataset.split_rows.items())
    say(f"dataset: {dataset.ledger['pairs']:,} pairs → {splits}")


def _dataset_rows(run: Run) -> Iterator[object]:
    for shard in run.shards:
        prompts = read_parquet(run.stage(run.lock.prompts).shard(shard))
        yield run.recipe.dataset.rows(read_parquet(run.stage(run.lock.pairs).shard(shard)), prompts)


def _answer_rows(run: Run) -> Iterator[pa.Table]:
    for shard in run.shards:
        yield answer_rows(run.scored(shard), read_parquet(run.stage(run.lock.prompts).shard(shard)))


def _folder(recipe: Recipe, out: str | Path | None) -> BuildFolder:
    return BuildFolder(Path(out) if out is not None else Path("builds") / recipe.name)


def _read_lock(folder: BuildFolder) -> JSON | None:
    try:
        return json.loads(folder.lock_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StoreError(
            f"the lock {str(folder.lock_file)!r} is not JSON: {error}",
            hint="put it back as it was; without it, branches and tags are resolved anew (--relock)",
        ) from error


def plan(recipe: Recipe, out: str | Path | None = None, *, shard_size: int = SHARD_SIZE) -> Plan:
    """What `build` would do, without spending anything: reads the prompts, starts no model, asks nobody.

    Raises:
        UserError: an input can't be found.
    """
    folder = _folder(recipe, out)
    lock = make_lock(recipe, _read_lock(folder))
    run = Run(recipe, folder, lock, shard_size)
    prompts, drops, rows = read_prompts(recipe, Context(seed=recipe.seed, pins=lock.prompts.pins))
    words = describe_steps(recipe)
    asks = [
        rows,
        *(len(prompts) * sampler.tasks_per_prompt for sampler in recipe.samplers),
        len(prompts),
        len(prompts),
    ]
    units = ["rows", *("answers" for _ in recipe.samplers), "prompts", "prompts"]
    keys = [lock.prompts, *lock.candidates, lock.scores, lock.pairs]
    stages = [
        StagePlan(key.name, run.state(key), ask, unit, words[key.name])
        for key, ask, unit in zip(keys, asks, units, strict=True)
    ]
    reasons = dict(sorted(Counter(drop.reason for drop in drops).items()))
    problems = tuple(str(problem) for problem in run.problems())
    return Plan(folder.root, len(prompts), reasons, tuple(stages), problems)


def describe(part: Part) -> str:
    """A part in words: its kind, and the fields that differ from their defaults."""
    told = []
    for name, field in type(part).model_fields.items():
        value = getattr(part, name)
        if name != "kind" and value != field.get_default(call_default_factory=True):
            shown = describe(value) if isinstance(value, Part) else value.name if isinstance(value, Path) else value
            told.append(f"{name} {shown}")
    kind = part.identity()["kind"]
    return f"{kind} ({', '.join(told)})" if told else str(kind)


def describe_steps(recipe: Recipe) -> dict[str, str]:
    """Every stage of a recipe in words."""
    rule = (type(recipe.pairs).__doc__ or "").partition("\n")[0]
    return {
        "prompts": describe(recipe.prompts),
        **{f"candidates-{sampler.name}": describe(sampler) for sampler in recipe.samplers},
        "scores": describe(recipe.scores),
        "pairs": f"{describe(recipe.pairs)}: {rule}",
    }


def _card_facts(run: Run) -> CardFacts:
    recipe, lock = run.recipe, run.lock
    stages = [lock.prompts, *lock.candidates, lock.scores, lock.pairs]
    return CardFacts(
        name=recipe.name,
        description=recipe.description,
        publish=recipe.publish,
        steps=describe_steps(recipe),
        fingerprints={"recipe": recipe.fingerprint(), **{key.name: key.key for key in stages}},
        command="prefdata build recipe.json",
    )
