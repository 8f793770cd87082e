"""What the pairs and drops tell without the answers: no proof, but much that can be wrong in itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from prefdata.lazy import pa
from prefdata.pairing import PairRule
from prefdata.verification._derive import Counted
from prefdata.verification._tables import made_id
from prefdata.verification.report import Report

_LENGTHS: dict[str, Callable[[str], int]] = {
    "characters": len,
    "words": lambda text: len(text.split()),
    "bytes": lambda text: len(text.encode()),
}


def check_alone(
    rule: PairRule,
    hashed: bool,
    test_ids: Collection[str],
    split_names: tuple[str, str],
    splits: Mapping[str, Iterable[pa.Table]],
    drops: pa.Table,
    ineligible: pa.Table,
    report: Report,
) -> Counted:
    """Checks every pair against itself; counts what the ledger must say."""
    counted = Counted()
    dropped = [row for row in drops.to_pylist() if row["stage"] == "pairs"]
    counted.drops.update(row["reason"] for row in dropped)
    counted.ineligible.update(row["reason"] for row in ineligible.to_pylist() if row["stage"] == "pairs")
    of_drops = Counter(row["prompt_id"] for row in dropped)
    split_of: dict[str, str] = {}
    numbers: dict[str, int] = {}
    for split, tables in splits.items():
        for row in (row for table in tables for row in table.to_pylist()):
            prompt_id = row["prompt_id"]
            counted.pairs += 1
            counted.paired += prompt_id not in numbers
            _check_row(row, rule, hashed, f"data/{split}-*", report)
            right = split_names[prompt_id in test_ids]
            if split != right or split_of.setdefault(prompt_id, split) != split:
                report.add("split", f"data/{split}-*", prompt_id=prompt_id, expected=right, found=split)
            if (expected := numbers.get(prompt_id, 0)) != row["pair_index"]:
                found = row["pair_index"]
                report.add("pair", f"data/{split}-*", prompt_id=prompt_id, expected=expected, found=found)
            numbers[prompt_id] = expected + 1
            if prompt_id in of_drops:
                report.add("drop", "drops.parquet", prompt_id=prompt_id, expected="no drop", found="a pair and a drop")
    for prompt_id, times in of_drops.items():
        if times > 1:
            report.add("drop", "drops.parquet", prompt_id=prompt_id, expected="one drop", found=f"{times} drops")
    counted.prompts = counted.paired + len(of_drops)
    return counted


def _check_row(row: dict[str, Any], rule: PairRule, hashed: bool, where: str, report: Report) -> None:
    prompt_id = row["prompt_id"]

    def tell(field: str, expected: object, found: object) -> None:
        report.add("field", where, prompt_id=prompt_id, field=field, expected=expected, found=found)

    texts: list[str] = []
    for side in ("chosen", "rejected"):
        text = _answer(row[side])
        if text is None:
            tell(side, "one turn of the assistant", row[side])
            return
        texts.append(text)
        length = _LENGTHS[rule.length](text)
        if length != row[f"length_{side}"]:
            tell(f"length_{side}", length, row[f"length_{side}"])
    if texts[0] == texts[1]:
        tell("rejected", "another text than the chosen one", texts[1])
    chosen, rejected, margin = (row[f"score_{name}"] for name in ("chosen", "rejected", "margin"))
    if None in (chosen, rejected) or not chosen > rejected:
        tell("score_chosen", f"more than {rejected}", chosen)
    elif margin != chosen - rejected:
        tell("score_margin", chosen - rejected, margin)
    counts = [row[name] for name in ("n_tied_chosen", "n_tied_rejected", "n_eligible", "n_candidates")]
    if None in counts or min(counts[:2]) < 1 or not 2 <= counts[2] <= counts[3] or max(counts[:2]) > counts[2]:
        tell("n_eligible", "1 <= tied <= eligible <= candidates", counts)
    if hashed and row["prompt"] and (made := made_id(row["prompt"])) != prompt_id:
        tell("prompt_id", made, prompt_id)


def _answer(turns: Any) -> str | None:
    if not turns or len(turns) != 1 or turns[0] is None or turns[0]["role"] != "assistant":
        return None
    text = turns[0]["content"]
    return text if isinstance(text, str) else None
