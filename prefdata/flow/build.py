"""`build`: a recipe becomes a dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from prefdata.dataset import Layout, held_out, rows_of
from prefdata.dataset.measures import Auditor
from prefdata.flow.answer_store import open_store
from prefdata.flow.damage import find_damage, refuse, repair_documents
from prefdata.flow.damage import repair as repair_files
from prefdata.flow.disk import check_replaceable, replace_folder, write_json
from prefdata.flow.documents import read_object, write_document
from prefdata.flow.engines.local import Engine, Local
from prefdata.flow.lock import make_lock, read_lock, with_versions
from prefdata.flow.plan import describe_steps
from prefdata.flow.progress import say
from prefdata.flow.reader import BuildReader, BuildRecord
from prefdata.flow.replacing import check_same_size, written_documents
from prefdata.flow.run import BuildRunner, problems_of
from prefdata.flow.store import SHARD_SIZE, BuildFolder, build_folder
from prefdata.lazy import pa, pl
from prefdata.publish.card.text import CardFacts
from prefdata.publish.folder import DatasetFolder, OtherLayout, write_dataset_folder
from prefdata.publish.pushing import Pushed
from prefdata.recipe import Recipe
from prefdata.scoring.places import with_places
from prefdata.spec import JSON, Context
from prefdata.tables.schemas import CANDIDATE_DROPS, DROPS, frame_of, trace_of

__all__ = ["Build", "build", "write_dataset"]


@dataclass(frozen=True)
class Build:
    """A finished build."""

    folder: Path
    """The build folder; of one on an object store, its working folder on this machine."""
    pushed: Pushed | None = None
    """What was published, where the build was to be."""

    def __fspath__(self) -> str:
        """Gives the build folder, so that a build can be given wherever a path can."""
        return str(self.folder)

    @property
    def dataset(self) -> Path:
        """The dataset folder, in the layout of the Hub."""
        return BuildFolder(self.folder).dataset

    @property
    def recipe(self) -> Recipe:
        """The recipe, with its profile and limit applied."""
        return Recipe.model_validate(read_object(BuildFolder(self.folder).recipe_file, "the recipe"))

    @property
    def ledger(self) -> JSON:
        """What became of every row: see `docs/concepts.md`."""
        return read_object(self.dataset / "ledger.json", "the counts of the dataset") or {}

    @property
    def pairs(self) -> pl.DataFrame:
        """All pairs, train before test."""
        files = self.dataset.glob("data/*.parquet")
        ordered = sorted(files, key=lambda file: (not file.name.startswith("train"), file.name))
        return pl.read_parquet(ordered, glob=False)

    @property
    def drops(self) -> pl.DataFrame:
        """All dropped prompts: prompt_id, stage, reason, detail."""
        return pl.read_parquet(self.dataset / "drops.parquet", glob=False)


def build(
    recipe: Recipe,
    out: str | Path | None = None,
    *,
    relock: bool = False,
    check: bool = False,
    repair: bool = False,
    replace: bool = False,
    reuse: str | Path | bool = True,
    shard_size: int = SHARD_SIZE,
    engine: Engine | None = None,
) -> Build:
    """Builds the dataset of a recipe. What an earlier run of the same recipe finished is kept.

    Args:
        recipe: with its profile applied (`Recipe.with_profile`).
        out: the build folder, or one of an object store (`s3://bucket/folder`); left out,
            `builds/<name of the recipe>`.
        relock: resolve branches and tags anew instead of keeping what the folder's lock pinned.
        check: compare the SHA-256 of every file of the stages; otherwise only of those whose size or time have changed.
        repair: set damaged files aside, and make their shards again; checks every file.
        replace: put the dataset in place of a finished one of another limit or profile that has another number of
            prompts; refused otherwise, before anything is spent.
        reuse: where answers and scores of other builds are looked up before anything is asked, and those of this one
            kept: True takes the folder `.cache` beside the build folder, False asks everything anew and keeps nothing.
        shard_size: prompts of a shard. Changing it reruns the stages; it never changes the dataset.
        engine: the machines that carry it out; left out, this one. It never changes the dataset.

    Returns:
        The build, whose `dataset` folder `datasets.load_dataset` reads.

    Raises:
        UserError: something that the user can fix; what was finished so far is kept.
        ConservationError: rows went missing between two stages, which is a bug.
    """
    folder = build_folder(recipe.name, out)
    store = open_store(folder.root, reuse)
    with folder.writing():
        if repair:
            repair_documents(folder)
        lock = make_lock(recipe, None if relock else read_lock(folder))
        reader = BuildReader(folder.root, BuildRecord(recipe, lock.graph, shard_size))
        _check_damage(reader, check, repair)
        for problem in problems_of(reader):
            raise problem
        check_replaceable(folder.dataset)
        undo = written_documents(folder)
        write_json(folder.recipe_file, recipe.dump())
        write_document(folder.lock_file, lock.content)
        with _engine_of(reader, engine).opened(folder.root) as machines:
            before = (lambda: None) if replace else partial(check_same_size, reader, undo)
            _carry_out(BuildRunner(reader, store, machines), lock.content, before)
    return Build(folder.root)


def _carry_out(runner: BuildRunner, lock: JSON, after_prompts: Callable[[], None]) -> None:
    """Carries out the stages, and writes the dataset of what they gave."""
    try:
        runner.run(after_prompts)
        content = with_versions(lock, runner.build.made_with())
        if content != lock:
            write_document(runner.build.folder.lock_file, content)
        write_dataset(runner.build, content)
    finally:
        runner.report_spending()


def _engine_of(reader: BuildReader, engine: Engine | None) -> Engine:
    # Nobody waits for a cluster that would have nothing to do.
    if engine is None or all(reader.stage(stage.name).report is not None for stage in reader.graph.stages):
        return Local()
    return engine


def _check_damage(reader: BuildReader, check: bool, repair: bool) -> None:
    if damages := find_damage(reader, full=check or repair):
        if not repair:
            raise refuse(reader, damages)
        repair_files(reader, damages)


def write_dataset(build: BuildReader, lock: JSON) -> None:
    """Makes the dataset folder of the finished stages; it appears at once.

    Args:
        build: all its stages are finished.
        lock: what `prefdata.lock.json` says.

    Raises:
        AuditError: the pairs cross a limit of the recipe's audit.
        ConservationError: rows went missing between the pairs and a layout.
        StoreError: the folder can't be written.
    """
    audit = _audit(build)
    for warning in build.recipe.audit.warnings(audit):
        say(f"audit: {warning}")
    layout, splits = build.recipe.dataset, build.given_splits()
    split_of = dict(zip(splits["prompt_id"].to_pylist(), splits["split"].to_pylist(), strict=True))
    dataset = DatasetFolder(
        rows=_layout_rows(build, layout),
        rows_per_pair=layout.rows_per_pair,
        also={other.config_name: _other_layout(build, other) for other in build.recipe.also},
        answers=(build.answers(shard) for shard in build.shards),
        comparisons=(build.comparisons(shard) for shard in build.shards) if build.recipe.scores.compares else None,
        trace=None if layout.traced else (trace_of(build.pairs(shard)) for shard in build.shards),
        scoring=build.scoring() or None,
        given_splits=splits if splits.num_rows else None,
        split_names=(layout.train_split, layout.test_split),
        test_ids=held_out(build.all_prompt_ids(), layout.test_size, build.recipe.seed, split_of),
        drops=build.all_drops("drops", DROPS),
        candidate_drops=build.all_drops("candidate_drops", CANDIDATE_DROPS),
        ledger=build.ledger(),
        recipe=build.recipe.dump(),
        lock=lock,
        card=_card_facts(build),
        audit=build.recipe.audit.with_outcomes(audit),
        kept=build.kept(),
    )
    replace_folder(build.folder.dataset, lambda folder: write_dataset_folder(folder, dataset))
    sizes = ", ".join(f"{name} {rows:,}" for name, rows in dataset.split_rows.items())
    say(f"dataset: {dataset.ledger['pairs']:,} pairs → {sizes}")


def _layout_rows(build: BuildReader, layout: Layout) -> Iterator[pa.Table]:
    """Yields the rows of a layout, shard by shard."""
    for shard in build.shards:
        answers = build.answers(shard) if layout.needs_answers else None
        yield rows_of(layout, build.pairs(shard), build.prompts(shard), answers)


def _other_layout(build: BuildReader, layout: Layout) -> OtherLayout:
    return OtherLayout(
        rows=_layout_rows(build, layout),
        rows_per_pair=layout.rows_per_pair,
        split_names=(layout.train_split, layout.test_split),
        documents=lambda splits: layout.documents(build.recipe.name, splits),
    )


def _audit(build: BuildReader) -> dict[str, JSON]:
    """Measures the biases of all pairs and of the scores behind them."""
    auditor, scorer = Auditor(), build.recipe.scores
    context = Context(build.recipe.seed, build.graph["scores"].pins)
    for shard in build.shards:
        prompts = partial(build.tables.scorer_tasks, shard)
        frame = with_places(build.scored_candidates(shard), scorer, prompts, context)
        auditor.add(frame, frame_of(build.pairs(shard)))
    return auditor.result()


def _card_facts(build: BuildReader) -> CardFacts:
    recipe = build.recipe
    return CardFacts(
        name=recipe.name,
        description=recipe.description,
        publish=recipe.publish,
        steps=describe_steps(recipe),
        fingerprints={"recipe": recipe.fingerprint(), **{stage.name: stage.key for stage in build.graph.parts}},
        command="prefdata build recipe.json",
    )
