"""Rules look at answers: the reasoning before one has no length, makes no texts differ, and is no answer."""

from __future__ import annotations

import json

import polars as pl
import pytest
from table_ways import files, small_pieces

from prefdata import pair, verify
from prefdata.dataset.measures import Auditor
from prefdata.pairing import DNO, BestVsWorst, CustomRule, WPOHybridV2
from prefdata.pairing.algebra import Highest, Lowest, Selection
from prefdata.pairing.facts import FACTS
from prefdata.pairing.filters import NotIdentical
from prefdata.pairing.repetition import Repetition

LONG = "<think>\nTwo and two, let me count them one by one.\n</think>\n\n"
ROWS = [
    ("2+2?", f"{LONG}4", 2.0),
    ("2+2?", "It is four, as everybody knows.", 2.0),
    ("2+2?", "5", 1.0),
    ("3+3?", "<think>\nI count.\n</think>\n\n", 1.0),
    ("3+3?", "6", 2.0),
    ("4+4?", "<think>\nI count and", 9.0),
    ("4+4?", "8", 2.0),
    ("4+4?", "9", 1.0),
    ("5+5?", f"{LONG}10", 2.0),
    ("5+5?", "10", 1.0),
]


def frame(*rows):
    return pl.DataFrame(
        [
            {"prompt_id": prompt, "source": "s", "index": index, "response": text, "score": score}
            for index, (prompt, text, score) in enumerate(rows)
        ]
    )


def picks(paired):
    columns = paired.pairs.select("prompt_id", "index_chosen", "index_rejected").iter_rows()
    return {prompt_id: (chosen, rejected) for prompt_id, chosen, rejected in columns}


def test_length_equality_and_eligibility_are_of_the_answer():
    paired = WPOHybridV2().pair(frame(*ROWS))
    assert picks(paired) == {"2+2?": (0, 2), "4+4?": (6, 7)}
    assert paired.pairs["length_chosen"].to_list() == [1, 1]
    assert paired.pairs["response_chosen"].to_list() == [f"{LONG}4", "8"]
    reasons = dict(paired.drops.select("prompt_id", "reason").iter_rows())
    assert reasons == {"3+3?": "too_few_candidates", "5+5?": "identical_texts"}
    assert paired.ineligible.select("index", "reason").rows() == [(3, "only_reasoning"), (5, "only_reasoning")]
    assert "1 only_reasoning" in " ".join(paired.drops["detail"])


@pytest.mark.parametrize("unit", ["characters", "words", "bytes"])
def test_every_unit_measures_the_answer(unit):
    facts = BestVsWorst(length=unit).facts(frame(("p", f"{LONG}zwei Füße", 1.0), ("p", "zwei Füße", 2.0)))
    assert facts["length"].n_unique() == 1
    assert facts["characters"].to_list() == [9, 9]
    assert facts["answer"].n_unique() == 1
    assert facts["digest"].n_unique() == facts["n_bytes"].n_unique() == 2


def test_a_rule_may_admit_what_is_only_reasoning():
    paired = BestVsWorst(admit=("only_reasoning",)).pair(frame(*ROWS))
    assert picks(paired)["4+4?"] == (5, 7)
    blank = BestVsWorst(admit=("blank",)).pair(frame(("p", "<think>a</think> ", 2.0), ("p", " ", 1.0), ("p", "x", 0.0)))
    assert blank.ineligible["reason"].to_list() == ["only_reasoning"]


def test_filters_and_repetition_read_the_answer():
    rows = [("p", f"{LONG}a  b", 2.0), ("p", "a b", 1.0)]
    rule = CustomRule(chosen=Selection(by=(Highest(),)), rejected=Selection(among=(NotIdentical(),), by=(Lowest(),)))
    assert rule.pair(frame(*rows)).pairs.is_empty()
    repeating = frame(("p", f"<think>{'so ' * 99}</think>once", 3.0), ("p", "so " * 99, 2.0))
    rule = DNO(teacher=("s",), repetition=Repetition(n=1, share=0.5))
    assert rule.facts(repeating)["score"].to_list() == [3.0, 0.0]
    assert rule.facts(repeating)["response"].to_list() == repeating["response"].to_list()


@pytest.mark.parametrize("name", ["t.parquet", "t.jsonl"])
def test_a_table_is_paired_alike_in_every_way_and_its_audit_counts_sides(tmp_path, name):
    rows = [{"prompt": prompt, "response": text, "score": score} for prompt, text, score in ROWS]
    table = tmp_path / name
    if name.endswith(".parquet"):
        pl.DataFrame(rows).write_parquet(table)
    else:
        table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pair(table, rule=WPOHybridV2(), out=tmp_path / "plain")
    with small_pieces(64, 64):
        pair(table, rule=WPOHybridV2(), out=tmp_path / "pieces")
    pair(table, rule=WPOHybridV2(), out=tmp_path / "candidates", with_candidates=True)
    plain, pieces, candidates = (files(tmp_path / each) for each in ("plain", "pieces", "candidates"))
    assert plain == pieces
    audit = json.loads(plain["audit.json"])
    assert audit["measures"]["reasoning_on_one_side"] == 0.5
    assert json.loads(candidates["audit.json"]) == audit
    for each in ("plain", "candidates"):
        report = verify(tmp_path / each, table=table) if each == "plain" else verify(tmp_path / each)
        assert not report.mismatches, report


@pytest.mark.parametrize("of_facts", [False, True])
@pytest.mark.parametrize("text", ["a", "<think>\n\n</think>\n\na"])
def test_an_audit_without_reasoning_says_nothing_of_it(text, of_facts):
    for chosen, measured in ((text, False), (f"{LONG}a", True)):
        auditor, rows = Auditor(), frame(("p", chosen, 2.0), ("p", "b", 1.0))
        facts = BestVsWorst().facts(rows).with_columns(at=pl.int_range(pl.len()))
        read = facts.select(*FACTS, "at") if of_facts else rows
        auditor.add(read, BestVsWorst().pair(read).pairs)
        assert ("reasoning_on_one_side" in auditor.result()["measures"]) == measured
