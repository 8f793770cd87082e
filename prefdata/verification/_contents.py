"""Checks the tables of a dataset folder, and the numbers that are derived from them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prefdata.dataset import held_out
from prefdata.flow.graph import score_parts
from prefdata.lazy import pa, pl, pq
from prefdata.publish.card.pictures import FLOW, PICTURES, flow_svg, margins_svg
from prefdata.publish.card.statistics import margin_bars
from prefdata.publish.card.text import card_configs, card_header, ledger_table
from prefdata.publish.manifest import LAYOUTS, OWN_LAYOUTS
from prefdata.scoring import CompositeScorer, PythonScorer
from prefdata.spec import JSON
from prefdata.tables.answers import answer_rows, in_order
from prefdata.tables.digest import table_digest
from prefdata.tables.documents import ABSENT
from prefdata.tables.kept import Kept, kept_schema
from prefdata.tables.schemas import ANSWERS, CANDIDATE_DROPS, COMPARISONS, DROPS, SPLITS
from prefdata.tables.whole_table import ScoredTable
from prefdata.verification._derive import Counted, Derivation, DerivedTable, PublishedTables
from prefdata.verification._folder import read_document, read_text, series
from prefdata.verification._ledger import check_build_ledger, check_pair_ledger
from prefdata.verification._origin import Origin
from prefdata.verification._pairs_only import check_pairs_only
from prefdata.verification._scores import ScoreCheck
from prefdata.verification._tables import RowReader, TableFiles, chunks
from prefdata.verification.report import Report

_DROPS = (("drops", DROPS), ("drops_candidates", CANDIDATE_DROPS))
_NO_ANSWERS = "pairs, drops and audit: there are no usable answers to rebuild them from"


@dataclass
class Contents:
    """Checks everything beyond names, hashes, recipe and lock."""

    files: dict[str, Path]
    origin: Origin
    scored: ScoredTable | None
    """The table that `prefdata pair` read."""
    report: Report
    kept: Kept | None = None
    """The columns of that table that travel along."""

    def check(self) -> None:
        """Runs the checks; those that are not possible go to `Report.not_checked`."""
        report = self.report
        rules = self.origin.rules
        self.kept_schema = self._kept_schema()
        self.small: list[TableFiles] = []
        """The tables of drops that have the required schema."""
        self.derived_tables = rules.tables()
        self.tables = {folder: self._splits(folder, table) for folder, table in self.derived_tables.items()}
        self.data = self.tables["data"]
        self.comparisons = TableFiles(series(self.files, "comparisons/train"), COMPARISONS)
        self.answers: TableFiles | None = TableFiles(series(self.files, "candidates/train"), ANSWERS, self.kept_schema)
        with report.checking("columns, types and features of every table"):
            self.drops, self.candidate_drops = (self._small(name, schema) for name, schema in _DROPS)
            self.assigned_splits = self._assigned_splits()
            files = [table for splits in self.tables.values() for table in splits.values()]
            schemas_match = [table.matches_schema(report) for table in (*files, self.comparisons)]
            if not self.answers.files or not self.answers.matches_schema(report):
                self.answers = None
        with report.checking("configurations on the card"):
            self._check_configs()
        required = {*self.derived_tables, *(["comparisons"] if self._compares else [])}
        own = {name.partition("/")[0] for name in self.files if re.match(f"{OWN_LAYOUTS}/", name)}
        for folder in dict.fromkeys(("data", "trace", "comparisons", *LAYOUTS, *sorted(own | required))):
            exists = any(name.startswith(f"{folder}/") for name in self.files)
            if exists != (folder in required):
                schemas_match = []
                expected, published = ("a table", ABSENT) if folder in required else (ABSENT, "a table")
                report.add("file", f"{folder}/", expected=expected, found=published)
        self._check_documents()
        if not schemas_match or not all(schemas_match):
            report.not_checked.append("pairs, drops, splits, ledger: a table of pairs is missing or has another schema")
            return
        if self.origin.keep:
            with report.checking("columns that travel along: one value a prompt, the same in every table"):
                self._check_kept()
        if self.scored is None and self.answers is None:
            self._check_pairs_only()
        else:
            self._check_against_answers()

    def _check_against_answers(self) -> None:
        report = self.report
        if self.scored is not None:
            table = in_order(self.scored.candidates)
            answers = answer_rows(table, self.scored.prompts.to_arrow())
            self._check_table(table, answers)
            ids, batches = table["prompt_id"].unique().to_list(), iter(_slices(answers))
        else:
            assert self.answers is not None
            ids, ordered = self.answers.prompt_ids("candidates/", report)
            batches = self.answers.sorted_batches(ordered)
        rows = {
            folder: self._rows(folder, self.tables[folder], self.origin.rules.schema_of(derived))
            for folder, derived in self.derived_tables.items()
        }
        comparisons = self._rows("comparisons", {"train": self.comparisons} if self._compares else {}, COMPARISONS)
        published = PublishedTables(rows, comparisons.get("train"), self.drops, self.candidate_drops)
        derivation = Derivation(self.origin.rules, self._test_ids(ids), published, report)
        with report.checking("every pair, split and drop, rebuilt from the answers"):
            for chunk in chunks(batches):
                derivation.add(chunk)
            derivation.finish()
        self._finish(derivation.counted, answered=True)
        self._check_scoring(derivation.score_check)
        self._check_audit(derivation)

    @property
    def _compares(self) -> bool:
        """Whether the scorer makes comparisons, which a build publishes."""
        scorer = self.origin.rules.scorer
        if isinstance(scorer, PythonScorer):
            # A class that no code may load says nothing of itself.
            return bool(self.comparisons.files)
        return bool(scorer is not None and scorer.compares)

    def _kept_schema(self) -> pa.Schema:
        """Gives the types of the columns that travel along, as the table of drops has them."""
        keep, path = self.origin.keep, self.files.get("drops.parquet")
        if not keep or path is None:
            return kept_schema(keep, pa.schema([]))
        try:
            return kept_schema(keep, pq.read_schema(path))
        except (pa.ArrowException, OSError, ValueError):
            return kept_schema(keep, pa.schema([]))

    def _check_kept(self) -> None:
        of_pairs = [files for folder, splits in self.tables.items() if folder != "trace" for files in splits.values()]
        expected = {} if self.kept is None else {row["prompt_id"]: row for row in self.kept.table.to_pylist()}
        for files in (*of_pairs, *([self.answers] if self.answers else []), *self.small):
            where = next(iter(files.files), "")
            for row in files.kept_rows():
                first = expected.setdefault(row["prompt_id"], row)
                for name in self.origin.keep:
                    if first[name] != row[name]:
                        self.report.add(
                            "field",
                            where,
                            prompt_id=row["prompt_id"],
                            field=name,
                            expected=first[name],
                            found=row[name],
                        )

    def _splits(self, folder: str, derived: DerivedTable) -> dict[str, TableFiles]:
        schema, kept = self.origin.rules.schema_of(derived), None if folder == "trace" else self.kept_schema
        tables = {
            name: TableFiles(series(self.files, f"{folder}/{name}"), schema, kept) for name in derived.split_names
        }
        return {name: table for name, table in tables.items() if table.files}

    def _check_documents(self) -> None:
        """Checks the documents that readers of a layout want at the top of the folder."""
        rules, recipe = self.origin.rules, self.origin.recipe
        expected: dict[str, JSON] = {}
        for layout in rules.also:
            expected |= layout.documents("" if recipe is None else recipe.name, list(self.tables[layout.config_name]))
        for name in ("dataset_info.json", *expected):
            if (name in expected) != (name in self.files):
                present, absent = ("a document", ABSENT) if name in expected else (ABSENT, "a document")
                self.report.add("file", name, expected=present, found=absent)
            elif name in expected:
                published = read_document(self.files, name, self.report)
                self.report.compare("document", name, json.loads(json.dumps(expected[name], allow_nan=True)), published)

    def _rows(self, folder: str, tables: dict[str, TableFiles], schema: pa.Schema) -> dict[str, RowReader]:
        rows = {}
        for name, files in tables.items():
            _, ordered = files.prompt_ids(f"{folder}/{name}-*", self.report)
            rows[name] = RowReader(files.sorted_batches(ordered), schema)
        return rows

    def _assigned_splits(self) -> dict[str, str]:
        """Reads prompt → the split that its source assigns it to."""
        file = "splits.parquet"
        if file not in self.files:
            return {}
        table = TableFiles({file: self.files[file]}, SPLITS)
        if not table.matches_schema(self.report):
            return {}
        splits = {row["prompt_id"]: row["split"] for row in table.read().to_pylist()}
        for prompt_id, split in splits.items():
            if split not in ("train", "test"):
                self.report.add("split", file, prompt_id=prompt_id, expected="train or test", found=split)
        return splits

    def _check_pairs_only(self) -> None:
        self.report.not_checked.append(f"{_NO_ANSWERS}{'' if self.origin.recipe else ' (--table gives them)'}")
        if not self.origin.rules.layout.traced:
            self.report.not_checked.append("each pair by itself, ledger: the trace doesn't contain the texts")
            return
        ids: set[str] = set()
        for name, files in self.data.items():
            ids |= set(files.prompt_ids(f"data/{name}-*", self.report)[0])
        rules, batches = self.origin.rules, {name: files.batches() for name, files in self.data.items()}
        test_ids = self._test_ids(list(ids))
        with self.report.checking("each pair by itself; splits"):
            counted = check_pairs_only(
                rules.rule,
                rules.hashed_ids,
                test_ids,
                self.derived_tables["data"].split_names,
                batches,
                self.drops,
                self.candidate_drops,
                self.report,
            )
        self._finish(counted, answered=False)

    def _check_table(self, table: pl.DataFrame, answers: pa.Table) -> None:
        """Checks that the table of `prefdata pair` is the one that the lock pins, and that the answers are its rows."""
        assert self.scored is not None
        with self.report.checking("the table, by its hash in the lock"):
            digest = table_digest(table)
            published_digest = self.origin.lock.get("candidates_sha256")
            self.report.compare("table", "prefdata.lock.json", digest, published_digest, path="candidates_sha256")
        with self.report.checking("drops of prompts with invalid rows in the table"):
            expected = self.scored.drops.sort("prompt_id").to_dicts()
            published_drops = [row for row in self.drops.to_pylist() if row["stage"] != "pairs"]
            self.report.compare("drop", "drops.parquet", expected, published_drops)
        if self.answers is not None:
            with self.report.checking("answers against the table"):
                published_answers = self.answers.read()
                if not published_answers.equals(answers):
                    self.report.compare("answer", "candidates/", answers.to_pylist(), published_answers.to_pylist())

    def _test_ids(self, ids: list[str]) -> frozenset[str]:
        """Returns the prompts of the test split, drawn among all that reached the pair rule."""
        recipe = self.origin.recipe
        test_size, seed = self.origin.rules.layout.test_size, 0 if recipe is None else recipe.seed
        if not (test_size or self.assigned_splits):
            return frozenset()
        dropped = [row["prompt_id"] for row in self.drops.to_pylist() if row["stage"] == "pairs"]
        return held_out([*ids, *filter(None, dropped)], test_size, seed, self.assigned_splits)

    def _finish(self, counted: Counted, *, answered: bool) -> None:
        """Checks ledger and card against the counts."""
        report, recipe = self.report, self.origin.recipe
        published = read_document(self.files, "ledger.json", report)
        with report.checking("ledger, recounted"):
            if recipe is not None:
                ledger = check_build_ledger(
                    recipe, counted, answered, self.drops, self.candidate_drops, published, report
                )
            else:
                rows = None if self.scored is None else self.scored.rows
                ledger = check_pair_ledger(counted, rows, answered, self.drops, published, report)
        card = read_text(self.files, "README.md", report)
        with report.checking("ledger and fingerprints on the card"):
            lines = {name: f"- {name}: `{value}`" for name, value in self.origin.fingerprints.items()}
            for name, text in {"ledger": ledger_table(ledger), **lines}.items():
                if card is not None and text not in card:
                    report.add("card", "README.md", field=name, expected=text)
        self._check_pictures(card or "", ledger)

    def _check_pictures(self, card: str, ledger: JSON) -> None:
        """Draws the pictures again; those of a card that has none, of an earlier version, are not asked for."""
        shown = [name for name in PICTURES if f"]({name})" in card or name in self.files]
        if not shown:
            return
        trace = "trace" if "trace" in self.derived_tables else "data"
        files = [path for name in self.tables[trace] for path in series(self.files, f"{trace}/{name}").values()]
        with self.report.checking("pictures, drawn again"):
            for name in shown:
                expected = flow_svg(ledger) if name == FLOW else margins_svg(margin_bars(sorted(files)))
                published = read_text(self.files, name, self.report)
                self.report.compare("picture", name, expected, ABSENT if published is None else published)

    def _check_configs(self) -> None:
        card = read_text(self.files, "README.md", self.report)
        if card is None:
            return
        header = card_header(card)
        published = header.get("configs") if isinstance(header, dict) else header
        answers, compared = (bool(series(self.files, f"{name}/train")) for name in ("candidates", "comparisons"))
        also: dict[str, list[str]] = {
            layout.config_name: list(self.tables[layout.config_name]) for layout in self.origin.rules.also
        }
        expected = card_configs(
            self.data, answers=answers, comparisons=compared, trace="trace" in self.derived_tables, also=also
        )
        self.report.compare("card", "README.md", expected, published, path="configs")

    def _check_scoring(self, check: ScoreCheck | None) -> None:
        """Checks `scoring.json`, and records whether scores were recomputed."""
        report, name = self.report, "scoring.json"
        if check is None:
            return
        if check.derives:
            report.checked.append("every score and comparison that can be recomputed")
        stages = [
            stage
            for stage, scorer in score_parts(check.scorer)
            if scorer.compares or isinstance(scorer, CompositeScorer)
        ]
        if not stages and name not in self.files:
            return
        if name not in self.files:
            report.add("file", name, expected="a document", found=ABSENT)
            return
        document = read_document(self.files, name, report)
        with report.checking("scoring, recounted"):
            check.check_document(document, stages)

    def _check_audit(self, derivation: Derivation) -> None:
        published = read_document(self.files, "audit.json", self.report)
        if not derivation.consistent:
            self.report.not_checked.append("audit: answers or prompts have mismatches")
            return
        with self.report.checking("audit, recounted"):
            recipe, audit = self.origin.recipe, derivation.auditor.result()
            expected: JSON = json.loads(
                json.dumps(audit if recipe is None else recipe.audit.with_outcomes(audit), allow_nan=True)
            )
            self.report.compare("audit", "audit.json", expected, published)

    def _small(self, name: str, schema: pa.Schema) -> pa.Table:
        """Reads a small table whole; empty where its schema is not the required one."""
        file = f"{name}.parquet"
        table = TableFiles({file: self.files[file]} if file in self.files else {}, schema, self.kept_schema)
        if not table.matches_schema(self.report):
            return schema.empty_table()
        self.small.append(table)
        table.prompt_ids(file, self.report)
        rows = table.read()
        stages = {"prompts", "pairs"} if schema.equals(DROPS) else {"candidates", "pairs"}
        for row in rows.to_pylist():
            if row["stage"] not in stages:
                self.report.add("drop", file, prompt_id=row["prompt_id"], field="stage", found=row["stage"])
        return rows


def _slices(table: pa.Table) -> Iterator[pa.Table]:
    for start in range(0, table.num_rows, 4_096):
        yield table.slice(start, 4_096)
