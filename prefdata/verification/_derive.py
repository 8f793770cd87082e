"""Makes every pair and every drop again from the answers, and compares them with what the folder holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

from prefdata.dataset import AnyLayout, Layout, rows_of
from prefdata.dataset.measures import Auditor
from prefdata.errors import InputError
from prefdata.flow.rows import frame_of
from prefdata.flow.score_stage import comparisons_for_a_rule
from prefdata.lazy import pa, pl
from prefdata.pairing import PairRule, pair_with_backfill
from prefdata.scoring import Scorer
from prefdata.spec import Context
from prefdata.tables.schemas import ANSWERS, MESSAGES, PAIR_KEY, PROMPTS, checked, pairs_schema, trace_of
from prefdata.verification._scores import ScoreCheck, asked
from prefdata.verification._tables import Rows, made_id
from prefdata.verification.report import ABSENT, Report

_KEY = ("prompt_id", "source", "index")
_WHERE = "candidates/"


@dataclass(frozen=True)
class Rules:
    """How the dataset says that it was made."""

    rule: PairRule
    layout: Layout
    named_once: bool
    """Whether (`prompt_id`, `source`, `index`) names one answer, as in every build."""
    hashed: bool
    """Whether the prompt ids are hashes of the prompts."""
    backfill: str | None = None
    """Source of the published answers that fill gaps; no scorer saw them."""
    scorer: Scorer | None = None
    context: Context = field(default_factory=lambda: Context(seed=0))
    scores_again: bool = True
    """Whether scores that follow from the answers are made again as they were made."""
    also: tuple[AnyLayout, ...] = ()
    """Further layouts of the same pairs."""

    def tables(self) -> dict[str, Made]:
        """Every table that is made of the pairs, by its folder."""
        layouts: dict[str, Layout] = {"data": self.layout, **{layout.config_name: layout for layout in self.also}}
        made = {
            folder: Made(partial(rows_of, layout), (layout.train_split, layout.test_split))
            for folder, layout in layouts.items()
        }
        if not self.layout.traced:
            made["trace"] = Made(lambda pairs, _prompts, _answers: trace_of(pairs), made["data"].split_names)
        return made

    def schema_of(self, made: Made) -> pa.Schema:
        """The columns of a table that is made of the pairs."""
        pairs = pairs_schema(self.rule.extra_columns()).empty_table()
        return made.rows(pairs, PROMPTS.empty_table(), ANSWERS.empty_table()).schema


@dataclass(frozen=True)
class Made:
    """A table that is made of pairs, their prompts and all answers."""

    rows: Callable[[pa.Table, pa.Table, pa.Table], pa.Table]
    split_names: tuple[str, str]
    """How the splits of training and test are called."""


@dataclass(frozen=True)
class Published:
    """What the folder holds beside the answers."""

    rows: Mapping[str, Mapping[str, Rows]]
    """What is made of the pairs: folder → split → rows."""
    compared: Rows | None
    """The scorer's comparisons."""
    drops: pa.Table
    ineligible: pa.Table


@dataclass
class Counted:
    """What was made again, counted."""

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
    """Goes through the answers chunk by chunk. What the folder holds and nobody made again is told at the end."""

    def __init__(
        self,
        rules: Rules,
        test_ids: Collection[str],
        published: Published,
        report: Report,
    ) -> None:
        self.counted, self.auditor = Counted(), Auditor()
        scorer = rules.scorer
        self.score_check = None if scorer is None else ScoreCheck(scorer, rules.context, report, rules.scores_again)
        self._rules, self._test_ids, self._published, self._report = rules, test_ids, published, report
        self._drops: dict[str, list[tuple[str, str]]] = {}
        for row in published.drops.to_pylist():
            if row["stage"] == "pairs":
                self._drops.setdefault(row["prompt_id"], []).append((row["reason"], row["detail"]))
        names = (*_KEY, "reason", "detail")
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
    def sound(self) -> bool:
        """Whether answers and prompts are in order, so that what a scorer saw can be told from them."""
        return not (self._report.counts["answer"] or self._report.counts["prompt"])

    def finish(self) -> None:
        """Checks prompts without a single answer, and tells what is left over."""
        lonely = sorted(prompt_id for prompt_id in self._drops if prompt_id is not None)
        nobody = frame_of(ANSWERS.empty_table().drop_columns(["prompt", "n_tokens"]))
        self._derive(lonely, nobody, PROMPTS.empty_table(), None)
        for (prompt_id, source, index, reason, _), number in self._ineligible.items():
            for _ in range(number):
                found = f"{reason} ({source!r}, {index})"
                self._report.add("ineligible", "drops_candidates.parquet", prompt_id=prompt_id, found=found)

    def _derive(self, ids: Sequence[str], frame: pl.DataFrame, prompts: pa.Table, answers: pa.Table | None) -> None:
        """Pairs some prompts again; without answers it is the last time, and takes all that is left."""
        rule, counted, published = self._rules.rule, self.counted, self._published
        counted.prompts += len(ids)
        last = None if answers is None else ids[-1]
        found = {
            folder: {split: rows.take(last) for split, rows in splits.items()}
            for folder, splits in published.rows.items()
        }
        compared = None if published.compared is None else published.compared.take(last)
        try:
            paired = pair_with_backfill(
                rule, frame, ids, self._rules.backfill, self._comparisons(compared, frame, prompts)
            )
        except InputError as error:
            self._tell(ids[0], None, "answers that can be paired", str(error))
            return
        pairs = checked(paired.pairs.to_arrow(), pairs_schema(rule.extra_columns()), PAIR_KEY, "pairs")
        counted.pairs += pairs.num_rows
        counted.paired += len(ids) - paired.drops.height
        counted.drops.update(paired.drops["reason"].to_list())
        counted.ineligible.update(paired.ineligible["reason"].to_list())
        self.auditor.add(self._with_places(self._judged(frame), prompts), paired.pairs)
        every = ANSWERS.empty_table() if answers is None else answers.cast(ANSWERS)
        for folder, made in self._rules.tables().items():
            self._compare_pairs(made.rows(pairs, prompts, every), found[folder], folder, made.split_names)
        self._compare_drops(ids, paired.drops)
        self._compare_ineligible(paired.ineligible)

    def _comparisons(self, compared: pa.Table | None, frame: pl.DataFrame, prompts: pa.Table) -> pl.DataFrame | None:
        """The comparisons as the rule takes them; tells those that no scorer can have made, and wrong scores."""
        check, judged = self.score_check, self._judged(frame)
        if check is None:
            return None
        if compared is not None:
            compared = check.sound(compared, set(judged.select(_KEY).iter_rows()))
        if check.derives:
            check.check(judged, prompts, compared)
        if compared is None or not self._rules.rule.needs_comparisons():
            return None
        return comparisons_for_a_rule(compared, check.scorer.compares)

    def _prompts(self, ids: Sequence[str], answers: pa.Table) -> pa.Table:
        """The prompts of a chunk, schema `PROMPTS`; each answer must carry the same one."""
        column = frame_of(answers.select(["prompt_id"])).with_row_index("row")
        first = column.with_columns(pl.col("row").first().over("prompt_id"))["row"].to_arrow()
        every = answers["prompt"].combine_chunks()
        own = every.take(first)
        if not own.equals(every):
            for prompt_id, one, other in zip(answers["prompt_id"].to_pylist(), own, every, strict=True):
                if one != other:
                    self._tell(prompt_id, "prompt", one.as_py(), other.as_py(), what="prompt")
        messages = every.take(first.unique())
        for prompt_id, turns in zip(ids, messages.to_pylist(), strict=True) if self._rules.named_once else ():
            made = made_id(turns)
            if made is None:
                self._tell(prompt_id, "prompt", "messages with role and content", turns, what="prompt")
            elif self._rules.hashed and made != prompt_id:
                self._tell(prompt_id, "prompt_id", made, prompt_id, what="prompt")
        return pa.table(
            [pa.array(ids, pa.string()), messages.cast(MESSAGES), *[pa.nulls(len(ids), pa.string())] * 2],
            schema=PROMPTS,
        )

    def _check_answers(self, frame: pl.DataFrame) -> None:
        counted, keys = self.counted, frame.select(_KEY)
        counted.answers += frame.height
        counted.unscored.update(self._judged(frame)["unscored"].drop_nulls().to_list())
        counted.sources.update(frame["source"].to_list())
        if not keys.equals(keys.sort(_KEY, maintain_order=True)):
            self._tell(frame["prompt_id"][0], None, "answers sorted by prompt_id, source, index", "another order")
        if self._rules.named_once:
            for row in frame.filter(keys.is_duplicated() | pl.any_horizontal(pl.col(_KEY).is_null())).iter_rows():
                self._tell(row[0], "index", "one answer of this name", f"several, or none: {row[1:3]}")
            for (prompt_id,) in frame.filter(pl.col("response").is_null()).select("prompt_id").iter_rows():
                self._tell(prompt_id, "response", "a text", None)
        odd = frame.filter(pl.col("score").is_null() == pl.col("unscored").is_null())
        for prompt_id, score, reason in odd.select("prompt_id", "score", "unscored").iter_rows():
            self._tell(prompt_id, "score", "a score, or the reason why there is none", (score, reason))

    def _judged(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The answers that the scorer saw."""
        if self._rules.backfill is None:
            return frame
        return frame.filter(pl.col("source").ne_missing(pl.lit(self._rules.backfill)))

    def _with_places(self, frame: pl.DataFrame, prompts: pa.Table) -> pl.DataFrame:
        """The answers with the place where the scorer saw them, if it saw them together."""
        scorer = self._rules.scorer
        if scorer is None or type(scorer).shown_order is Scorer.shown_order or not self.sound:
            return frame
        places = [
            (each.prompt_id, each.source, each.index, place)
            for answers, _ in asked(frame, prompts)
            for place, each in enumerate(scorer.shown_order(answers, self._rules.context) or ())
        ]
        if not places:
            return frame
        return frame.join(pl.DataFrame(places, [*_KEY, "place"], orient="row"), on=_KEY, how="left")

    def _compare_pairs(
        self, expected: pa.Table, found: Mapping[str, pa.Table], folder: str, split_names: tuple[str, str]
    ) -> None:
        places = {key: number for number, key in enumerate(_keys(expected))}
        ours: list[int] = []
        theirs: list[int] = []
        start = 0
        for split, table in found.items():
            keys = _keys(table)
            if any(one > other for one, other in pairwise(keys)):
                self._report.add("order", f"{folder}/{split}-*", expected="rows sorted by prompt_id and pair_index")
            for number, (prompt_id, index) in enumerate(keys, start):
                place = places.pop((prompt_id, index), None)
                right = split_names[prompt_id in self._test_ids]
                if place is None:
                    self._report.add("pair", f"{folder}/{split}-*", prompt_id=prompt_id, found=f"pair {index}")
                    continue
                if split != right:
                    self._report.add("split", f"{folder}/{split}-*", prompt_id=prompt_id, expected=right, found=split)
                ours.append(place)
                theirs.append(number)
            start += table.num_rows
        for prompt_id, index in places:
            self._report.add("pair", f"{folder}/", prompt_id=prompt_id, expected=f"pair {index}", found=ABSENT)
        if ours:
            self._compare_fields(expected.take(ours), pa.concat_tables(found.values()).take(theirs), folder)

    def _compare_fields(self, expected: pa.Table, found: pa.Table, folder: str) -> None:
        ids = expected["prompt_id"].to_pylist()
        for name in expected.column_names:
            one, other = expected[name].combine_chunks(), found[name].combine_chunks()
            if not one.equals(other):
                for prompt_id, right, wrong in zip(ids, one.to_pylist(), other.to_pylist(), strict=True):
                    if right != wrong:
                        self._report.add(
                            "field", f"{folder}/", prompt_id=prompt_id, field=name, expected=right, found=wrong
                        )

    def _compare_drops(self, ids: Sequence[str], drops: pl.DataFrame) -> None:
        where = "drops.parquet"
        expected = {row["prompt_id"]: row for row in drops.iter_rows(named=True)}
        for prompt_id in ids:
            found = self._drops.pop(prompt_id, [])
            row = expected.get(prompt_id)
            if row and not found:
                self._report.add("drop", where, prompt_id=prompt_id, expected=row["reason"], found=ABSENT)
            if row and found:
                for name, value in zip(("reason", "detail"), found.pop(0), strict=True):
                    if value != (right := row[name]):
                        self._report.add("drop", where, prompt_id=prompt_id, field=name, expected=right, found=value)
            for reason, _ in found:
                self._report.add("drop", where, prompt_id=prompt_id, expected=ABSENT, found=reason)

    def _compare_ineligible(self, ineligible: pl.DataFrame) -> None:
        for row in ineligible.select(*_KEY, "reason", "detail").iter_rows():
            self._ineligible[row] -= 1
            if self._ineligible[row] < 0:
                expected = f"{row[3]} ({row[1]!r}, {row[2]}) {row[4]}"
                self._report.add("ineligible", "drops_candidates.parquet", prompt_id=row[0], expected=expected)

    def _tell(self, prompt_id: str, field: str | None, expected: object, found: object, what: str = "answer") -> None:
        self._report.add(what, _WHERE, prompt_id=prompt_id, field=field, expected=expected, found=found)


def _keys(rows: pa.Table) -> list[tuple[str, int]]:
    """(`prompt_id`, `pair_index`) of every row; a layout without the index numbers a prompt's rows as they come."""
    if "pair_index" not in rows.column_names:
        seen = Counter[str]()
        keys = []
        for prompt_id in rows["prompt_id"].to_pylist():
            keys.append((prompt_id, seen[prompt_id]))
            seen[prompt_id] += 1
        return keys
    indices = [-1 if index is None else index for index in rows["pair_index"].to_pylist()]
    return list(zip(rows["prompt_id"].to_pylist(), indices, strict=True))
