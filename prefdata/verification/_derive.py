"""Rebuilds every pair and every drop from the answers, and compares them with those in the folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

from prefdata.dataset import AnyLayout, Layout, rows_of
from prefdata.dataset.measures import Auditor
from prefdata.errors import InputError
from prefdata.lazy import pa, pl
from prefdata.pairing import PairRule, pair_with_backfill
from prefdata.pairing.comparisons import comparisons_for_a_rule
from prefdata.records import Answers
from prefdata.scoring import Scorer
from prefdata.scoring.places import with_places
from prefdata.spec import Context
from prefdata.tables.documents import ABSENT
from prefdata.tables.schemas import (
    ANSWERS,
    CANDIDATE_KEY,
    MESSAGES,
    PAIR_KEY,
    PROMPTS,
    checked,
    frame_of,
    pairs_schema,
    trace_of,
)
from prefdata.verification._scores import ScoreCheck, scored_prompts
from prefdata.verification._tables import RowReader, computed_id
from prefdata.verification.report import Report

_WHERE = "candidates/"


@dataclass(frozen=True)
class Rules:
    """The parts and options with which the dataset was made, by its own documents."""

    rule: PairRule
    layout: Layout
    unique_names: bool
    """Whether (`prompt_id`, `source`, `index`) is unique, as in every build."""
    hashed_ids: bool
    """Whether the prompt ids are hashes of the prompts."""
    backfill: str | None = None
    """Source of the published answers that fill gaps, which no scorer saw."""
    scorer: Scorer | None = None
    context: Context = field(default_factory=lambda: Context(seed=0))
    recompute_scores: bool = True
    """Whether scores that are derived from the answers can be recomputed."""
    also: tuple[AnyLayout, ...] = ()
    """Further layouts of the same pairs."""

    def tables(self) -> dict[str, DerivedTable]:
        """Returns every table that is derived from the pairs, by its folder."""
        layouts: dict[str, Layout] = {"data": self.layout, **{layout.config_name: layout for layout in self.also}}
        tables = {
            folder: DerivedTable(partial(rows_of, layout), (layout.train_split, layout.test_split))
            for folder, layout in layouts.items()
        }
        if not self.layout.traced:
            tables["trace"] = DerivedTable(
                lambda pairs, _prompts, _answers: trace_of(pairs), tables["data"].split_names
            )
        return tables

    def schema_of(self, table: DerivedTable) -> pa.Schema:
        """Returns the schema of a table that is derived from the pairs."""
        pairs = pairs_schema(self.rule.extra_columns()).empty_table()
        return table.rows(pairs, PROMPTS.empty_table(), ANSWERS.empty_table()).schema


@dataclass(frozen=True)
class DerivedTable:
    """A table that is derived from pairs, their prompts and all answers."""

    rows: Callable[[pa.Table, pa.Table, pa.Table], pa.Table]
    split_names: tuple[str, str]
    """Names of the splits of training and test."""


@dataclass(frozen=True)
class PublishedTables:
    """The tables of the folder without the answers."""

    rows: Mapping[str, Mapping[str, RowReader]]
    """Tables that are derived from the pairs: folder → split → rows."""
    compared: RowReader | None
    """The scorer's comparisons."""
    drops: pa.Table
    ineligible: pa.Table


@dataclass
class Counted:
    """Counts of the rebuilt dataset."""

    prompts: int = 0
    """Prompts that reached the pair rule."""
    pairs: int = 0
    paired: int = 0
    """Prompts with a pair."""
    drops: Counter[str] = field(default_factory=Counter)
    """Reason → prompts that the pair rule dropped."""
    ineligible: Counter[str] = field(default_factory=Counter)
    answers: int = 0
    unscored: Counter[str] = field(default_factory=Counter)
    sources: Counter[str | None] = field(default_factory=Counter)


class Derivation:
    """Rebuilds pairs and drops from the answers, chunk by chunk, and compares them with the folder's."""

    def __init__(
        self,
        rules: Rules,
        test_ids: Collection[str],
        published: PublishedTables,
        report: Report,
    ) -> None:
        self.counted, self.auditor = Counted(), Auditor()
        scorer = rules.scorer
        self.score_check = None if scorer is None else ScoreCheck(scorer, rules.context, report, rules.recompute_scores)
        self._rules, self._test_ids, self._published, self._report = rules, test_ids, published, report
        self._drops: dict[str, list[tuple[str, str]]] = {}
        for row in published.drops.to_pylist():
            if row["stage"] == "pairs":
                self._drops.setdefault(row["prompt_id"], []).append((row["reason"], row["detail"]))
        names = (*CANDIDATE_KEY, "reason", "detail")
        self._ineligible = Counter(
            tuple(row[name] for name in names) for row in published.ineligible.to_pylist() if row["stage"] == "pairs"
        )

    def add(self, answers: pa.Table) -> None:
        """Checks some prompts, sorted by id, with all their answers (schema `ANSWERS`)."""
        ids = answers["prompt_id"].unique().to_pylist()
        prompts = self._prompts(ids, answers)
        frame = frame_of(answers.drop_columns(["prompt", "n_tokens"]))
        self._check_answers(frame)
        self._derive(ids, frame, prompts, answers)

    @property
    def consistent(self) -> bool:
        """Whether answers and prompts have no mismatch, so that the input of the scorer is known."""
        return not (self._report.counts["answer"] or self._report.counts["prompt"])

    def finish(self) -> None:
        """Checks prompts without answers, and reports the rows that remain."""
        unanswered = sorted(prompt_id for prompt_id in self._drops if prompt_id is not None)
        no_answers = frame_of(ANSWERS.empty_table().drop_columns(["prompt", "n_tokens"]))
        self._derive(unanswered, no_answers, PROMPTS.empty_table(), None)
        for (prompt_id, source, index, reason, _), number in self._ineligible.items():
            for _ in range(number):
                drop = f"{reason} ({source!r}, {index})"
                self._report.add("ineligible", "drops_candidates.parquet", prompt_id=prompt_id, found=drop)

    def _derive(self, ids: Sequence[str], frame: pl.DataFrame, prompts: pa.Table, answers: pa.Table | None) -> None:
        """Pairs some prompts and compares; `answers` of None is the last call, which takes all remaining rows."""
        rule, counted, published = self._rules.rule, self.counted, self._published
        counted.prompts += len(ids)
        last = None if answers is None else ids[-1]
        published_rows = {
            folder: {split: rows.take(last) for split, rows in splits.items()}
            for folder, splits in published.rows.items()
        }
        compared = None if published.compared is None else published.compared.take(last)
        try:
            paired = pair_with_backfill(
                rule, frame, ids, self._rules.backfill, self._comparisons(compared, frame, prompts)
            )
        except InputError as error:
            self._mismatch(ids[0], None, "answers that can be paired", str(error))
            return
        pairs = checked(paired.pairs.to_arrow(), pairs_schema(rule.extra_columns()), PAIR_KEY, "pairs")
        counted.pairs += pairs.num_rows
        counted.paired += len(ids) - paired.drops.height
        counted.drops.update(paired.drops["reason"].to_list())
        counted.ineligible.update(paired.ineligible["reason"].to_list())
        self.auditor.add(self._with_places(self._seen_by_scorer(frame), prompts), paired.pairs)
        all_answers = ANSWERS.empty_table() if answers is None else answers.cast(ANSWERS)
        for folder, derived in self._rules.tables().items():
            self._compare_pairs(
                derived.rows(pairs, prompts, all_answers), published_rows[folder], folder, derived.split_names
            )
        self._compare_drops(ids, paired.drops)
        self._compare_ineligible(paired.ineligible)

    def _comparisons(self, compared: pa.Table | None, frame: pl.DataFrame, prompts: pa.Table) -> pl.DataFrame | None:
        """Returns the comparisons in the rule's form; reports those that no scorer can have made, and wrong scores."""
        check, seen = self.score_check, self._seen_by_scorer(frame)
        if check is None:
            return None
        if compared is not None:
            compared = check.valid_comparisons(compared, set(seen.select(CANDIDATE_KEY).iter_rows()))
        if check.derives:
            check.check(seen, prompts, compared)
        if compared is None or not self._rules.rule.needs_comparisons():
            return None
        return comparisons_for_a_rule(compared, check.scorer.compares)

    def _prompts(self, ids: Sequence[str], answers: pa.Table) -> pa.Table:
        """Returns the prompts of a chunk, schema `PROMPTS`; all answers of a prompt must have the same one."""
        column = frame_of(answers.select(["prompt_id"])).with_row_index("row")
        first_rows = column.with_columns(pl.col("row").first().over("prompt_id"))["row"].to_arrow()
        messages = answers["prompt"].combine_chunks()
        first_messages = messages.take(first_rows)
        if not first_messages.equals(messages):
            for prompt_id, one, other in zip(answers["prompt_id"].to_pylist(), first_messages, messages, strict=True):
                if one != other:
                    self._mismatch(prompt_id, "prompt", one.as_py(), other.as_py(), what="prompt")
        prompt_messages = messages.take(first_rows.unique())
        for prompt_id, turns in zip(ids, prompt_messages.to_pylist(), strict=True) if self._rules.unique_names else ():
            computed = computed_id(turns)
            if computed is None:
                self._mismatch(prompt_id, "prompt", "messages with role and content", turns, what="prompt")
            elif self._rules.hashed_ids and computed != prompt_id:
                self._mismatch(prompt_id, "prompt_id", computed, prompt_id, what="prompt")
        return pa.table(
            [pa.array(ids, pa.string()), prompt_messages.cast(MESSAGES), *[pa.nulls(len(ids), pa.string())] * 2],
            schema=PROMPTS,
        )

    def _check_answers(self, frame: pl.DataFrame) -> None:
        counted, keys = self.counted, frame.select(CANDIDATE_KEY)
        counted.answers += frame.height
        counted.unscored.update(self._seen_by_scorer(frame)["unscored"].drop_nulls().to_list())
        counted.sources.update(frame["source"].to_list())
        if not keys.equals(keys.sort(CANDIDATE_KEY, maintain_order=True)):
            self._mismatch(frame["prompt_id"][0], None, "answers sorted by prompt_id, source, index", "another order")
        if self._rules.unique_names:
            nameless = pl.any_horizontal(pl.col(CANDIDATE_KEY).is_null())
            for row in frame.filter(keys.is_duplicated() | nameless).iter_rows():
                self._mismatch(row[0], "index", "one answer of this name", f"several, or none: {row[1:3]}")
            for (prompt_id,) in frame.filter(pl.col("response").is_null()).select("prompt_id").iter_rows():
                self._mismatch(prompt_id, "response", "a text", None)
        contradictory = frame.filter(pl.col("score").is_null() == pl.col("unscored").is_null())
        for prompt_id, score, reason in contradictory.select("prompt_id", "score", "unscored").iter_rows():
            self._mismatch(prompt_id, "score", "a score, or the reason why there is none", (score, reason))

    def _seen_by_scorer(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Returns the answers that the scorer saw."""
        if self._rules.backfill is None:
            return frame
        return frame.filter(pl.col("source").ne_missing(pl.lit(self._rules.backfill)))

    def _with_places(self, frame: pl.DataFrame, prompts: pa.Table) -> pl.DataFrame:
        """Adds the position at which the scorer saw each answer, if it saw them together."""
        scorer = self._rules.scorer
        if scorer is None or not self.consistent:
            return frame

        def asked() -> Iterator[Answers]:
            return (answers for answers, _ in scored_prompts(frame, prompts))

        return with_places(frame, scorer, asked, self._rules.context)

    def _compare_pairs(
        self, expected: pa.Table, published: Mapping[str, pa.Table], folder: str, split_names: tuple[str, str]
    ) -> None:
        rows_of = {key: number for number, key in enumerate(_keys(expected))}
        rows: list[int] = []
        published_rows: list[int] = []
        start = 0
        for split, table in published.items():
            keys = _keys(table)
            if any(one > other for one, other in pairwise(keys)):
                self._report.add("order", f"{folder}/{split}-*", expected="rows sorted by prompt_id and pair_index")
            for number, (prompt_id, index) in enumerate(keys, start):
                row = rows_of.pop((prompt_id, index), None)
                expected_split = split_names[prompt_id in self._test_ids]
                if row is None:
                    self._report.add("pair", f"{folder}/{split}-*", prompt_id=prompt_id, found=f"pair {index}")
                    continue
                if split != expected_split:
                    self._report.add(
                        "split", f"{folder}/{split}-*", prompt_id=prompt_id, expected=expected_split, found=split
                    )
                rows.append(row)
                published_rows.append(number)
            start += table.num_rows
        for prompt_id, index in rows_of:
            self._report.add("pair", f"{folder}/", prompt_id=prompt_id, expected=f"pair {index}", found=ABSENT)
        if rows:
            self._compare_fields(expected.take(rows), pa.concat_tables(published.values()).take(published_rows), folder)

    def _compare_fields(self, expected: pa.Table, published: pa.Table, folder: str) -> None:
        ids = expected["prompt_id"].to_pylist()
        for name in expected.column_names:
            one, other = expected[name].combine_chunks(), published[name].combine_chunks()
            if not one.equals(other):
                for prompt_id, value, published_value in zip(ids, one.to_pylist(), other.to_pylist(), strict=True):
                    if value != published_value:
                        self._report.add(
                            "field",
                            f"{folder}/",
                            prompt_id=prompt_id,
                            field=name,
                            expected=value,
                            found=published_value,
                        )

    def _compare_drops(self, ids: Sequence[str], drops: pl.DataFrame) -> None:
        where = "drops.parquet"
        expected = {row["prompt_id"]: row for row in drops.iter_rows(named=True)}
        for prompt_id in ids:
            published = self._drops.pop(prompt_id, [])
            row = expected.get(prompt_id)
            if row and not published:
                self._report.add("drop", where, prompt_id=prompt_id, expected=row["reason"], found=ABSENT)
            if row and published:
                for name, value in zip(("reason", "detail"), published.pop(0), strict=True):
                    if value != (expected_value := row[name]):
                        self._report.add(
                            "drop", where, prompt_id=prompt_id, field=name, expected=expected_value, found=value
                        )
            for reason, _ in published:
                self._report.add("drop", where, prompt_id=prompt_id, expected=ABSENT, found=reason)

    def _compare_ineligible(self, ineligible: pl.DataFrame) -> None:
        for row in ineligible.select(*CANDIDATE_KEY, "reason", "detail").iter_rows():
            self._ineligible[row] -= 1
            if self._ineligible[row] < 0:
                expected = f"{row[3]} ({row[1]!r}, {row[2]}) {row[4]}"
                self._report.add("ineligible", "drops_candidates.parquet", prompt_id=row[0], expected=expected)

    def _mismatch(
        self, prompt_id: str, field: str | None, expected: object, found: object, what: str = "answer"
    ) -> None:
        self._report.add(what, _WHERE, prompt_id=prompt_id, field=field, expected=expected, found=found)


def _keys(rows: pa.Table) -> list[tuple[str, int]]:
    """Returns (`prompt_id`, `pair_index`) of every row; numbers the rows of a prompt where the column is missing."""
    if "pair_index" not in rows.column_names:
        seen = Counter[str]()
        keys = []
        for prompt_id in rows["prompt_id"].to_pylist():
            keys.append((prompt_id, seen[prompt_id]))
            seen[prompt_id] += 1
        return keys
    indices = [-1 if index is None else index for index in rows["pair_index"].to_pylist()]
    return list(zip(rows["prompt_id"].to_pylist(), indices, strict=True))
