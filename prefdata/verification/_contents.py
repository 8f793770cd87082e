"""The tables of a dataset folder and the numbers that follow from them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prefdata.dataset import held_out
from prefdata.flow.from_table import table_digest
from prefdata.flow.lock import score_parts
from prefdata.lazy import pa, pl
from prefdata.publish.card.text import card_configs, card_header, ledger_table
from prefdata.publish.manifest import LAYOUTS, OWN_LAYOUTS
from prefdata.scoring import CompositeScorer, PythonScorer
from prefdata.spec import JSON
from prefdata.tables.answers import answer_rows
from prefdata.tables.schemas import ANSWERS, CANDIDATE_DROPS, COMPARISONS, DROPS, SPLITS
from prefdata.tables.scored_table import ScoredTable
from prefdata.verification._alone import check_alone
from prefdata.verification._derive import Counted, Derivation, Made, Published
from prefdata.verification._folder import read_document, read_text, series
from prefdata.verification._ledger import check_build_ledger, check_pair_ledger
from prefdata.verification._origin import Origin
from prefdata.verification._scores import ScoreCheck
from prefdata.verification._tables import Rows, TableFiles, chunks
from prefdata.verification.report import ABSENT, Report

_NO_ANSWERS = "pairs, drops and audit were not made again: there are no answers that could be used"


@dataclass
class Contents:
    """Checks everything beyond names, hashes, recipe and lock."""

    files: dict[str, Path]
    origin: Origin
    scored: ScoredTable | None
    """The table that `prefdata pair` read."""
    report: Report

    def check(self) -> None:
        """Runs the checks; what can't be checked is noted."""
        report = self.report
        rules = self.origin.rules
        self.made = rules.tables()
        self.tables = {folder: self._splits(folder, made) for folder, made in self.made.items()}
        self.data = self.tables["data"]
        self.compared = TableFiles(series(self.files, "comparisons/train"), COMPARISONS)
        self.answers: TableFiles | None = TableFiles(series(self.files, "candidates/train"), ANSWERS)
        with report.checking("columns, types and features of every table"):
            self.drops, self.lost = self._small("drops", DROPS), self._small("drops_candidates", CANDIDATE_DROPS)
            self.given_splits = self._given_splits()
            tables = [table for splits in self.tables.values() for table in splits.values()]
            fit = [table.fits(report) for table in (*tables, self.compared)]
            if not self.answers.files or not self.answers.fits(report):
                self.answers = None
        with report.checking("configurations on the card"):
            self._check_configs()
        wanted = {*self.made, *(["comparisons"] if self._compares else [])}
        own = {name.partition("/")[0] for name in self.files if re.match(f"{OWN_LAYOUTS}/", name)}
        for folder in dict.fromkeys(("data", "trace", "comparisons", *LAYOUTS, *sorted(own | wanted))):
            there = any(name.startswith(f"{folder}/") for name in self.files)
            if there != (folder in wanted):
                fit = []
                expected, found = ("a table", ABSENT) if folder in wanted else (ABSENT, "a table")
                report.add("file", f"{folder}/", expected=expected, found=found)
        self._check_documents()
        if not fit or not all(fit):
            report.not_checked.append("pairs, drops, splits, ledger: a table of pairs is not what it should be")
            return
        if self.scored is None and self.answers is None:
            self._check_alone()
        else:
            self._check_against_answers()

    def _check_against_answers(self) -> None:
        report = self.report
        if self.scored is not None:
            table = self.scored.candidates.sort(pl.all(), nulls_last=False)
            answers = answer_rows(table, self.scored.prompts.to_arrow())
            self._check_table(table, answers)
            ids, batches = table["prompt_id"].unique().to_list(), iter(_slices(answers))
        else:
            assert self.answers is not None
            ids, ordered = self.answers.prompt_ids("candidates/", report)
            batches = self.answers.sorted_batches(ordered)
        rows = {
            folder: self._rows(folder, self.tables[folder], self.origin.rules.schema_of(made))
            for folder, made in self.made.items()
        }
        compared = self._rows("comparisons", {"train": self.compared} if self._compares else {}, COMPARISONS)
        published = Published(rows, compared.get("train"), self.drops, self.lost)
        derivation = Derivation(self.origin.rules, self._test_ids(ids), published, report)
        with report.checking("every pair, split and drop, made again from the answers"):
            for chunk in chunks(batches):
                derivation.add(chunk)
            derivation.finish()
        self._finish(derivation.counted, answered=True)
        self._check_scoring(derivation.score_check)
        self._check_audit(derivation)

    @property
    def _compares(self) -> bool:
        """Whether the scorer made comparisons, which a build publishes."""
        scorer = self.origin.rules.scorer
        if isinstance(scorer, PythonScorer):
            # A class that no code may load says nothing of itself.
            return bool(self.compared.files)
        return bool(scorer is not None and scorer.compares)

    def _splits(self, folder: str, made: Made) -> dict[str, TableFiles]:
        schema = self.origin.rules.schema_of(made)
        tables = {name: TableFiles(series(self.files, f"{folder}/{name}"), schema) for name in made.split_names}
        return {name: table for name, table in tables.items() if table.files}

    def _check_documents(self) -> None:
        """What the readers of a layout want beside its files."""
        rules, recipe = self.origin.rules, self.origin.recipe
        expected: dict[str, JSON] = {}
        for layout in rules.also:
            expected |= layout.documents("" if recipe is None else recipe.name, list(self.tables[layout.config_name]))
        for name in ("dataset_info.json", *expected):
            if (name in expected) != (name in self.files):
                there, absent = ("a document", ABSENT) if name in expected else (ABSENT, "a document")
                self.report.add("file", name, expected=there, found=absent)
            elif name in expected:
                found = read_document(self.files, name, self.report)
                self.report.compare("document", name, json.loads(json.dumps(expected[name])), found)

    def _rows(self, folder: str, tables: dict[str, TableFiles], schema: pa.Schema) -> dict[str, Rows]:
        rows = {}
        for name, files in tables.items():
            _, ordered = files.prompt_ids(f"{folder}/{name}-*", self.report)
            rows[name] = Rows(files.sorted_batches(ordered), schema)
        return rows

    def _given_splits(self) -> dict[str, str]:
        """Prompt → the split that its source puts it into."""
        file = "splits.parquet"
        if file not in self.files:
            return {}
        table = TableFiles({file: self.files[file]}, SPLITS)
        if not table.fits(self.report):
            return {}
        found = {row["prompt_id"]: row["split"] for row in table.read().to_pylist()}
        for prompt_id, split in found.items():
            if split not in ("train", "test"):
                self.report.add("split", file, prompt_id=prompt_id, expected="train or test", found=split)
        return found

    def _check_alone(self) -> None:
        self.report.not_checked.append(f"{_NO_ANSWERS}{'' if self.origin.recipe else ' (--table gives them)'}")
        if not self.origin.rules.layout.traced:
            self.report.not_checked.append("pairs by themselves, ledger: the trace alone doesn't hold the texts")
            return
        ids: set[str] = set()
        for name, files in self.data.items():
            ids |= set(files.prompt_ids(f"data/{name}-*", self.report)[0])
        rules, batches = self.origin.rules, {name: files.batches() for name, files in self.data.items()}
        test_ids = self._test_ids(list(ids))
        with self.report.checking("every pair against itself; splits"):
            found = check_alone(
                rules.rule,
                rules.hashed,
                test_ids,
                self.made["data"].split_names,
                batches,
                self.drops,
                self.lost,
                self.report,
            )
        self._finish(found, answered=False)

    def _check_table(self, table: pl.DataFrame, answers: pa.Table) -> None:
        """The table that `prefdata pair` read is the one that the lock pins, and the answers are its rows."""
        assert self.scored is not None
        with self.report.checking("the table, by its hash in the lock"):
            digest = table_digest(table)
            found = self.origin.lock.get("candidates_sha256")
            self.report.compare("table", "prefdata.lock.json", digest, found, path="candidates_sha256")
        with self.report.checking("drops of prompts that the table spoils"):
            expected = self.scored.drops.sort("prompt_id").to_dicts()
            found = [row for row in self.drops.to_pylist() if row["stage"] != "pairs"]
            self.report.compare("drop", "drops.parquet", expected, found)
        if self.answers is not None:
            with self.report.checking("answers against the table"):
                published = self.answers.read()
                if not published.equals(answers):
                    self.report.compare("answer", "candidates/", answers.to_pylist(), published.to_pylist())

    def _test_ids(self, ids: list[str]) -> frozenset[str]:
        """The prompts of the test split, drawn among all that reached the pair rule."""
        recipe = self.origin.recipe
        if recipe is None or not (recipe.dataset.test_size or self.given_splits):
            return frozenset()
        dropped = [row["prompt_id"] for row in self.drops.to_pylist() if row["stage"] == "pairs"]
        return held_out([*ids, *filter(None, dropped)], recipe.dataset.test_size, recipe.seed, self.given_splits)

    def _finish(self, counted: Counted, *, answered: bool) -> None:
        """Ledger and card, from what was counted."""
        report, recipe = self.report, self.origin.recipe
        found = read_document(self.files, "ledger.json", report)
        with report.checking("ledger, counted again"):
            if recipe is not None:
                ledger = check_build_ledger(recipe, counted, answered, self.drops, self.lost, found, report)
            else:
                rows = None if self.scored is None else self.scored.rows
                ledger = check_pair_ledger(counted, rows, answered, self.drops, found, report)
        card = read_text(self.files, "README.md", report)
        with report.checking("ledger and fingerprints on the card"):
            lines = {name: f"- {name}: `{value}`" for name, value in self.origin.fingerprints.items()}
            for name, text in {"ledger": ledger_table(ledger), **lines}.items():
                if card is not None and text not in card:
                    report.add("card", "README.md", field=name, expected=text)

    def _check_configs(self) -> None:
        card = read_text(self.files, "README.md", self.report)
        if card is None:
            return
        header = card_header(card)
        found = header.get("configs") if isinstance(header, dict) else header
        answers, compared = (bool(series(self.files, f"{name}/train")) for name in ("candidates", "comparisons"))
        also: dict[str, list[str]] = {
            layout.config_name: list(self.tables[layout.config_name]) for layout in self.origin.rules.also
        }
        expected = card_configs(self.data, answers=answers, comparisons=compared, trace="trace" in self.made, also=also)
        self.report.compare("card", "README.md", expected, found, path="configs")

    def _check_scoring(self, check: ScoreCheck | None) -> None:
        """What `scoring.json` says of the comparisons, and what of the scores was made again."""
        report, name = self.report, "scoring.json"
        if check is None:
            return
        if check.derives:
            report.checked.append("every score and comparison, as far as one follows from another or from the answers")
        telling = [
            stage
            for stage, scorer in score_parts(check.scorer)
            if scorer.compares or isinstance(scorer, CompositeScorer)
        ]
        if not telling and name not in self.files:
            return
        if name not in self.files:
            report.add("file", name, expected="a document", found=ABSENT)
            return
        found = read_document(self.files, name, report)
        with report.checking("scoring, counted again"):
            check.check_document(found, telling)

    def _check_audit(self, derivation: Derivation) -> None:
        found = read_document(self.files, "audit.json", self.report)
        if not derivation.sound:
            self.report.not_checked.append("audit: the answers are not in order")
            return
        with self.report.checking("audit, counted again"):
            recipe, audit = self.origin.recipe, derivation.auditor.result()
            made: JSON = json.loads(json.dumps(audit if recipe is None else recipe.audit.judged(audit)))
            self.report.compare("audit", "audit.json", made, found)

    def _small(self, name: str, schema: pa.Schema) -> pa.Table:
        """A table that is read whole; empty where it is not what it should be."""
        file = f"{name}.parquet"
        table = TableFiles({file: self.files[file]} if file in self.files else {}, schema)
        if not table.fits(self.report):
            return schema.empty_table()
        table.prompt_ids(file, self.report)
        found = table.read()
        stages = {"prompts", "pairs"} if schema.equals(DROPS) else {"candidates", "pairs"}
        for row in found.to_pylist():
            if row["stage"] not in stages:
                self.report.add("drop", file, prompt_id=row["prompt_id"], field="stage", found=row["stage"])
        return found


def _slices(table: pa.Table) -> Iterator[pa.Table]:
    for start in range(0, table.num_rows, 4_096):
        yield table.slice(start, 4_096)
