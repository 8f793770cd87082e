"""Checks pairs and drops without the answers: not a proof, but many errors show in a pair itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from prefdata.lazy import pa
from prefdata.pairing import PairRule
from prefdata.records import SIDES
from prefdata.tables.reasoning import answer_length
from prefdata.verification._derive import Counted
from prefdata.verification._tables import computed_id
from prefdata.verification.report import Report


def check_pairs_only(
    rule: PairRule,
    hashed: bool,
    test_ids: Collection[str],
    split_names: tuple[str, str],
    splits: Mapping[str, Iterable[pa.Table]],
    drops: pa.Table,
    ineligible: pa.Table,
    report: Report,
) -> Counted:
    """Checks each pair by itself; returns the counts that the ledger must have."""
    counted = Counted()
    drop_rows = [row for row in drops.to_pylist() if row["stage"] == "pairs"]
    counted.drops.update(row["reason"] for row in drop_rows)
    counted.ineligible.update(row["reason"] for row in ineligible.to_pylist() if row["stage"] == "pairs")
    drops_of = Counter(row["prompt_id"] for row in drop_rows)
    split_of: dict[str, str] = {}
    numbers: dict[str, int] = {}
    for split, tables in splits.items():
        for row in (row for table in tables for row in table.to_pylist()):
            prompt_id = row["prompt_id"]
            counted.pairs += 1
            counted.paired += prompt_id not in numbers
            _check_row(row, rule, hashed, f"data/{split}-*", report)
            expected_split = split_names[prompt_id in test_ids]
            if split != expected_split or split_of.setdefault(prompt_id, split) != split:
                report.add("split", f"data/{split}-*", prompt_id=prompt_id, expected=expected_split, found=split)
            if (expected := numbers.get(prompt_id, 0)) != row["pair_index"]:
                number = row["pair_index"]
                report.add("pair", f"data/{split}-*", prompt_id=prompt_id, expected=expected, found=number)
            numbers[prompt_id] = expected + 1
            if prompt_id in drops_of:
                report.add("drop", "drops.parquet", prompt_id=prompt_id, expected="no drop", found="a pair and a drop")
    for prompt_id, times in drops_of.items():
        if times > 1:
            report.add("drop", "drops.parquet", prompt_id=prompt_id, expected="one drop", found=f"{times} drops")
    counted.prompts = counted.paired + len(drops_of)
    return counted


def _check_row(row: dict[str, Any], rule: PairRule, hashed: bool, where: str, report: Report) -> None:
    prompt_id = row["prompt_id"]

    def mismatch(field: str, expected: object, found: object) -> None:
        report.add("field", where, prompt_id=prompt_id, field=field, expected=expected, found=found)

    texts: list[str] = []
    for side in SIDES:
        text = _answer(row[side])
        if text is None:
            mismatch(side, "one turn of the assistant", row[side])
            return
        texts.append(text)
        length = answer_length(text, rule.length)
        if length != row[f"length_{side}"]:
            mismatch(f"length_{side}", length, row[f"length_{side}"])
    if texts[0] == texts[1]:
        mismatch("rejected", "another text than the chosen one", texts[1])
    chosen, rejected, margin = (row[f"score_{name}"] for name in ("chosen", "rejected", "margin"))
    if None in (chosen, rejected) or not chosen > rejected:
        mismatch("score_chosen", f"more than {rejected}", chosen)
    elif margin != chosen - rejected:
        mismatch("score_margin", chosen - rejected, margin)
    counts = [row[name] for name in ("n_tied_chosen", "n_tied_rejected", "n_eligible", "n_candidates")]
    if None in counts or min(counts[:2]) < 1 or not 2 <= counts[2] <= counts[3] or max(counts[:2]) > counts[2]:
        mismatch("n_eligible", "1 <= tied <= eligible <= candidates", counts)
    if hashed and row["prompt"] and (computed := computed_id(row["prompt"])) != prompt_id:
        mismatch("prompt_id", computed, prompt_id)


def _answer(turns: Any) -> str | None:
    if not turns or len(turns) != 1 or turns[0] is None or turns[0]["role"] != "assistant":
        return None
    text = turns[0]["content"]
    return text if isinstance(text, str) else None
