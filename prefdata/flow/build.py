"""The flow: prompts → candidates → scores → pairs → dataset. The only file that knows the order of the stages."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prefdata.dataset import Layout, held_out, rows_of
from prefdata.errors import StoreError
from prefdata.flow.estimate import COUNTED, Estimate, estimate_run
from prefdata.flow.lock import make_lock, score_parts
from prefdata.flow.progress import say
from prefdata.flow.rows import read_prompts
from prefdata.flow.run import Run
from prefdata.flow.store import BuildFolder, check_replaceable, replace_folder, write_json
from prefdata.lazy import pa, pl
from prefdata.publish.card.text import CardFacts
from prefdata.publish.folder import DatasetFolder, OtherLayout, write_dataset_folder
from prefdata.publish.pushing import Pushed
from prefdata.recipe import Recipe
from prefdata.spec import JSON, Context, Operational, Part
from prefdata.tables.schemas import CANDIDATE_DROPS, DROPS, trace_of

__all__ = ["SHARD_SIZE", "Build", "Plan", "StagePlan", "build", "describe", "describe_steps", "plan", "write_dataset"]

SHARD_SIZE = 256
"""Prompts a shard."""


@dataclass(frozen=True)
class Build:
    """A finished build."""

    folder: Path
    """The build folder."""
    pushed: Pushed | None = None
    """What was published, where the build was to be."""

    def __fspath__(self) -> str:
        """The build folder, so that a build stands for its path."""
        return str(self.folder)

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
        found = self.dataset.glob("data/*.parquet")
        files = sorted(found, key=lambda file: (not file.name.startswith("train"), file.name))
        return pl.read_parquet(files, glob=False)

    @property
    def drops(self) -> pl.DataFrame:
        """All dropped prompts: prompt_id, stage, reason, detail."""
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

    recipe: Recipe
    """With its profile and limit applied."""
    folder: Path
    prompts: int
    """Prompts after merging duplicates."""
    drops: dict[str, int]
    """Prompts that the prompts stage drops: reason → count."""
    stages: tuple[StagePlan, ...]
    problems: tuple[str, ...]
    """What would stop the build: missing packages, keys that are not set."""
    estimate: Estimate
    """What language models are still to be asked: requests, tokens, money, hours."""


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
        try:
            run.prompts()
            for sampler in recipe.samplers:
                run.candidates(sampler)
            run.scores()
            run.pairs()
            write_dataset(run)
        finally:
            run.tell_spending()
    return Build(folder.root)


def write_dataset(run: Run) -> None:
    """The last stage: pairs become the dataset folder, which appears at once."""
    audit = run.audit()
    for warning in run.recipe.audit.crossed(audit):
        say(f"audit: {warning}")
    layout, given = run.recipe.dataset, run.given_splits()
    told = dict(zip(given["prompt_id"].to_pylist(), given["split"].to_pylist(), strict=True))
    compares, scoring = run.recipe.scores.compares, run.scoring()
    dataset = DatasetFolder(
        rows=_layout_rows(run, layout),
        rows_per_pair=layout.rows_per_pair,
        also={other.config_name: _other_layout(run, other) for other in run.recipe.also},
        answers=(run.answers(shard) for shard in run.shards),
        comparisons=(run.comparisons(shard) for shard in run.shards) if compares else None,
        trace=None if layout.traced else (trace_of(run.paired(shard)) for shard in run.shards),
        scoring=scoring or None,
        given_splits=given if given.num_rows else None,
        split_names=(layout.train_split, layout.test_split),
        test_ids=held_out(run.all_prompt_ids(), layout.test_size, run.recipe.seed, told),
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


def _layout_rows(run: Run, layout: Layout) -> Iterator[pa.Table]:
    """The rows of a layout, shard by shard."""
    for shard in run.shards:
        answers = run.answers(shard) if layout.needs_answers else None
        yield rows_of(layout, run.paired(shard), run.prompt_table(shard), answers)


def _other_layout(run: Run, layout: Layout) -> OtherLayout:
    return OtherLayout(
        rows=_layout_rows(run, layout),
        rows_per_pair=layout.rows_per_pair,
        split_names=(layout.train_split, layout.test_split),
        documents=lambda splits: layout.documents(run.recipe.name, splits),
    )


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


def plan(
    recipe: Recipe,
    out: str | Path | None = None,
    *,
    shard_size: int = SHARD_SIZE,
    answer_tokens: int | None = None,
    counted: int = COUNTED,
) -> Plan:
    """What `build` would do, without spending anything: reads the prompts, starts no model, asks nobody.

    Args:
        recipe: with its profile applied.
        out: as for `build`.
        shard_size: as for `build`.
        answer_tokens: how long answers are expected to be; None goes by those that the build has.
        counted: most prompts to count for the estimate; what they need is scaled to all.

    Raises:
        UserError: an input can't be found.
    """
    folder = _folder(recipe, out)
    lock = make_lock(recipe, _read_lock(folder))
    run = Run(recipe, folder, lock, shard_size)
    contexts = [Context(seed=recipe.seed, pins=key.pins) for key in (lock.prompts, *lock.filters)]
    prompts, drops, rows = read_prompts(recipe, contexts[0], contexts[1:])
    words = describe_steps(recipe)
    members = {name: len(prompts) for name in lock.members}
    asks = {"prompts": rows, **members, "scores": len(prompts), "pairs": len(prompts)}
    asks |= {f"candidates-{sampler.name}": len(prompts) * sampler.tasks_per_prompt for sampler in recipe.samplers}
    units = {"prompts": "rows", **{key.name: "answers" for key in lock.candidates}}
    stages = [
        StagePlan(key.name, run.state(key), asks[key.name], units.get(key.name, "prompts"), words[key.name])
        for key in lock.keys[len(lock.filters) :]
    ]
    reasons = dict(sorted(Counter(drop.reason for drop in drops).items()))
    problems = tuple(str(problem) for problem in run.problems())
    estimated = estimate_run(run, prompts, answer_tokens=answer_tokens, counted=counted)
    return Plan(recipe, folder.root, len(prompts), reasons, tuple(stages), problems, estimated)


def describe(part: Part) -> str:
    """A part in words: its kind, and the fields that can change a result and differ from their defaults."""
    told = []
    for name, field in type(part).model_fields.items():
        value = getattr(part, name)
        said = name == "kind" or Operational in field.metadata
        if not said and value != field.get_default(call_default_factory=True):
            told.append(f"{name} {_shown(value)}")
    identity = part.identity()
    kind = identity["path"] if part.is_own() else identity["kind"]
    return f"{kind} ({', '.join(told)})" if told else str(kind)


def _shown(value: object) -> object:
    if isinstance(value, Part):
        return describe(value)
    if isinstance(value, tuple):
        return ", ".join(str(_shown(item)) for item in value)
    if isinstance(value, str) and not (value.isprintable() and value.strip() == value != ""):
        return repr(value)
    return value.name if isinstance(value, Path) else value


def describe_steps(recipe: Recipe) -> dict[str, str]:
    """Every stage of a recipe in words."""
    rule = (type(recipe.pairs).__doc__ or "").partition("\n")[0]
    return {
        "prompts": ", then ".join(map(describe, (recipe.prompts, *recipe.filters))),
        **{f"candidates-{sampler.name}": describe(sampler) for sampler in recipe.samplers},
        **{name: describe(scorer) for name, scorer in score_parts(recipe.scores)},
        "pairs": f"{describe(recipe.pairs)}: {rule}",
    }


def _card_facts(run: Run) -> CardFacts:
    recipe, lock = run.recipe, run.lock
    return CardFacts(
        name=recipe.name,
        description=recipe.description,
        publish=recipe.publish,
        steps=describe_steps(recipe),
        fingerprints={"recipe": recipe.fingerprint(), **{key.name: key.key for key in lock.keys}},
        command="prefdata build recipe.json",
    )
