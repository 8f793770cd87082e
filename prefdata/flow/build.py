"""The flow: prompts → candidates → scores → pairs → dataset. The only file that knows the order of the stages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prefdata.dataset import Layout, held_out
from prefdata.flow.disk import check_replaceable, replace_folder, write_json
from prefdata.flow.lock import make_lock, read_lock
from prefdata.flow.plan import describe_steps
from prefdata.flow.progress import say
from prefdata.flow.run import Run
from prefdata.flow.store import SHARD_SIZE, BuildFolder, build_folder
from prefdata.lazy import pa, pl
from prefdata.publish.card.text import CardFacts
from prefdata.publish.folder import DatasetFolder, OtherLayout, write_dataset_folder
from prefdata.recipe import Recipe
from prefdata.spec import JSON
from prefdata.tables.schemas import CANDIDATE_DROPS, DROPS, trace_of

__all__ = ["Build", "build", "write_dataset"]


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
        found = self.dataset.glob("data/*.parquet")
        files = sorted(found, key=lambda file: (not file.name.startswith("train"), file.name))
        return pl.read_parquet(files, glob=False)

    @property
    def drops(self) -> pl.DataFrame:
        """All dropped prompts: prompt_id, stage, reason, detail."""
        return pl.read_parquet(self.dataset / "drops.parquet", glob=False)


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
    folder = build_folder(recipe.name, out)
    with folder.writing():
        lock = make_lock(recipe, None if relock else read_lock(folder))
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
        also={other.kind: _other_layout(run, other) for other in run.recipe.also},
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
        yield layout.rows(run.paired(shard), run.prompt_table(shard), answers)


def _other_layout(run: Run, layout: Layout) -> OtherLayout:
    return OtherLayout(
        rows=_layout_rows(run, layout),
        rows_per_pair=layout.rows_per_pair,
        split_names=(layout.train_split, layout.test_split),
        documents=lambda splits: layout.documents(run.recipe.name, splits),
    )


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
