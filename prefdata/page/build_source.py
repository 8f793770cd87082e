"""A build, finished or under way: its stages hold more than its dataset, such as seeds and what judges said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefdata.flow.reader import BuildReader
from prefdata.flow.stage_files import read_table
from prefdata.flow.store import StageFolder
from prefdata.lazy import pa
from prefdata.page.answers import PromptRows
from prefdata.page.dataset_source import split_files
from prefdata.page.described import described_dataset, document, models_of, rule_in_words
from prefdata.page.flags import DISAGREEMENT, Scores, duplicates_of, members_disagree
from prefdata.page.flows import answer_flow, prompt_flow
from prefdata.page.rows import Answer, Match, PageRow
from prefdata.page.sources import Overview, turns_of
from prefdata.page.streams import Rows, file_rows
from prefdata.scoring import Ensemble
from prefdata.tables.reasoning import answer_length
from prefdata.tables.schemas import DROPS

__all__ = ["BuildSource"]

_WAITING = "not yet paired"


class BuildSource:
    """Reads the tables of the stages, shard by shard; those that are not there yet are left out.

    Args:
        folder: the build folder.

    Raises:
        UserError: it holds no build that this version reads, or one without prompts.
    """

    kind = "build"
    sides = ("chosen", "rejected")
    titles: Mapping[str, str] = {}

    def __init__(self, folder: Path) -> None:
        self._build = BuildReader(folder)
        self.title = self._build.recipe.name
        self._shards = self._build.shards
        dataset = self._build.folder.dataset
        self._dataset = dataset if (dataset / "ledger.json").is_file() else None
        self._made = PromptRows(_WAITING)

    def text_bytes(self) -> int:
        """Says about how many bytes of text there are."""
        tables = self._build.tables
        folders = [tables.prompt_folder, *tables.candidate_folders]
        paths = [folder.shard(shard) for folder in folders for shard in self._shards]
        # Texts of models take about a third of their size in a stage's tables.
        return 3 * sum(path.stat().st_size for path in paths if path.exists())

    def rows(self) -> Iterator[PageRow]:
        """Yields every pair and prompt of the build, by id; prompts that the first stage dropped come first."""
        drops = self._build.all_drops("drops", DROPS).to_pylist()
        self._made = PromptRows(_WAITING, duplicates_of(drops))
        splits = _splits_of(self._dataset)
        for drop in drops:
            if drop["stage"] == "prompts":
                yield from self._made.make(drop["prompt_id"], [], [], [], [drop])
        for shard in self._shards:
            yield from self._shard_rows(shard, splits)

    def _shard_rows(self, shard: int, splits: Mapping[str, str]) -> Iterator[PageRow]:
        tables, build = self._build.tables, self._build
        answers, places = self._answers(shard)
        pairs = _grouped(tables.pair_folder, shard)
        drops = _grouped(build.stage("pairs"), shard, "drops")
        matches = _grouped(build.stage("scores"), shard, "comparisons")
        panels = self._panels(shard)
        default = splits.get("", "")
        for prompt in build.prompts(shard).to_pylist():
            key = prompt["prompt_id"]
            paired = [{**row, "split": splits.get(key, default) or None} for row in pairs.get(key, ())]
            made = self._made.make(key, turns_of(prompt["messages"]), answers.get(key, ()), paired, drops.get(key, ()))
            for row in made:
                row.matches = _matches(matches.get(key, ()), places.get(key, {}))
                row.flags += [DISAGREEMENT] if any(members_disagree(row, panel) for panel in panels) else []
                yield row

    def _panels(self, shard: int) -> list[list[Scores]]:
        """Reads the scores of each member of each ensemble."""
        folders = self._build.tables.score_tables
        return [
            [_scores(folders[f"{stage.name}-{name}"].folder, shard) for name in stage.part.members()]
            for stage in self._build.graph.stages
            if isinstance(stage.part, Ensemble)
        ]

    def _answers(self, shard: int) -> tuple[dict[str, list[Answer]], dict[str, dict[tuple[str, int], int]]]:
        """Gives the answers of each prompt, and the place of each."""
        tables = self._build.tables
        scores = _keyed(tables.score_tables["scores"].folder, shard)
        notes = _keyed(tables.pair_folder, shard, "candidate_drops")
        folders = [*tables.candidate_folders, *([tables.backfill_folder] if tables.backfill_folder else [])]
        thoughts: dict[tuple[str, str, int], dict[str, Any]] = {}
        rows: Rows = []
        for folder in folders:
            thoughts |= _keyed(folder, shard, "reasoning")
            rows += _read(folder.shard(shard))
        answers: dict[str, list[Answer]] = {}
        places: dict[str, dict[tuple[str, int], int]] = {}
        for row in sorted(rows, key=_key):
            score, key = scores.get(_key(row), {}), row["prompt_id"]
            places.setdefault(key, {})[row["source"], row["index"]] = len(answers.setdefault(key, []))
            answers[key].append(_answer(row, score, notes.get(_key(row), {}), thoughts.get(_key(row), {})))
        return answers, places

    def overview(self) -> Overview:
        """Describes the build from its documents, and where it stands."""
        if self._dataset is not None:
            return described_dataset(self._dataset, self.title, None, self._made)
        recipe = self._build.recipe
        states = [[stage.name, self._build.state(stage.name)] for stage in self._build.graph.stages]
        facts = [("Build", recipe.name), ("Fingerprint", recipe.fingerprint()[:16])]
        overview = Overview(facts, rule_in_words(recipe.dump()))
        overview.verdict = ("open", "The build is under way: this page shows what its stages hold so far.")
        overview.flows = [prompt_flow(self._made.outcomes)]
        overview.flows += [answer_flow(self._made.sources)] if self._made.sources else []
        overview.tables = [{"title": "Stages", "head": ["stage", "state"], "rows": states}]
        overview.models = models_of(document(self._build.folder.root, "prefdata.lock.json"))
        return overview


def _answer(
    row: Mapping[str, Any], score: Mapping[str, Any], note: Mapping[str, Any], thought: Mapping[str, Any]
) -> Answer:
    value = score.get("score") if score else row.get("given_score")
    unscored = score.get("unscored")
    return Answer(
        row["source"],
        row["index"],
        row["model"],
        row["response"],
        value,
        None if row["response"] is None else answer_length(row["response"], "characters"),
        row["finish_reason"],
        note.get("reason") or unscored,
        score.get("detail") or None,
        thought.get("reasoning") or None,
        row["seed"],
    )


def _matches(rows: Sequence[Mapping[str, Any]], places: Mapping[tuple[str, int], int]) -> list[Match]:
    found = []
    for row in rows:
        first, second = (places.get((row[f"source_{side}"], row[f"index_{side}"])) for side in ("a", "b"))
        if first is not None and second is not None:
            found.append(Match(first, second, row["probability"], row["undecided"], row["detail"] or None))
    return found


def _key(row: Mapping[str, Any]) -> tuple[str, str, int]:
    return row["prompt_id"], row["source"] or "", row["index"] if row["index"] is not None else -1


def _keyed(folder: StageFolder, shard: int, side: str | None = None) -> dict[tuple[str, str, int], dict[str, Any]]:
    path = folder.shard(shard) if side is None else folder.side_table(side, shard)
    return {_key(row): row for row in _read(path)}


def _scores(folder: StageFolder, shard: int) -> Scores:
    rows = _read(folder.shard(shard), ("prompt_id", "source", "index", "score"))
    return {(row["prompt_id"], row["source"], row["index"]): row["score"] for row in rows}


def _grouped(folder: StageFolder, shard: int, side: str | None = None) -> dict[str, Rows]:
    path = folder.shard(shard) if side is None else folder.side_table(side, shard)
    groups: dict[str, Rows] = {}
    for row in _read(path):
        groups.setdefault(row["prompt_id"], []).append(row)
    return groups


def _read(path: Path, columns: Sequence[str] | None = None) -> Rows:
    if not path.exists():
        return []
    table: pa.Table = read_table(path, columns)
    # The texts of the winners are in the tables of the candidates too.
    rows: Rows = table.select([name for name in table.column_names if not name.startswith("response_")]).to_pylist()
    return rows


def _splits_of(dataset: Path | None) -> dict[str, str]:
    """Gives the split of each prompt of a finished dataset; that of the largest one is under the empty id."""
    if dataset is None:
        return {}
    files = split_files(dataset, "data")
    sizes = {split: sum(path.stat().st_size for path in paths) for split, paths in files.items()}
    largest = max(sorted(sizes), key=lambda split: sizes[split], default="")
    found = {"": largest}
    for split, paths in files.items():
        if split != largest:
            found |= {row["prompt_id"]: split for row in file_rows(paths, dataset, ["prompt_id"])}
    return found
