"""A dataset folder in numbers and on a page: right counts, nothing from the data that moves a cursor."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from prefdata.errors import InputError, printable
from prefdata.flow.from_table import pair
from prefdata.inspection import render
from prefdata.inspection.summary import inspect
from prefdata.pairing import WPOHybridV2


def dataset(tmp_path: Path, rows: list[dict]) -> Path:
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / "table.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pair(path, WPOHybridV2(), tmp_path / "out")
    return tmp_path / "out"


def answers(prompt, *answers):
    return [{"prompt": prompt, "response": text, "score": score, "source": source} for text, score, source in answers]


# Four pairs: chosen lengths 2, 4, 6, 8; rejected lengths 3, 3, 3, 3; margins 1, 2, 3, 4. Two more prompts give none.
HAND_MADE = [
    *answers("p1", ("c" * 2, 2, "a"), ("r" * 3, 1, "b")),
    *answers("p2", ("c" * 4, 3, "a"), ("d" * 5, 3, "b"), ("r" * 3, 1, "b")),
    *answers("p3", ("c" * 6, 4, "a"), ("r" * 3, 1, "b"), ("s" * 3, 1, "c"), ("t" * 2, 1, "c")),
    *answers("p4", ("c" * 8, 5, "b"), ("r" * 3, 1, "a"), (" ", 9, "a"), ("x", None, "b")),
    *answers("p5", ("c", 1, "a"), ("r", 1, "b")),
    *answers("p6", ("c", 1, "a"), ("r", "?", "b")),
]


def test_the_numbers_of_a_hand_made_dataset(tmp_path):
    summary = inspect(dataset(tmp_path, HAND_MADE), pairs=2)
    assert (summary.prompts, summary.pairs) == (6, 4)
    assert summary.drops == {"no_contrast": 1, "too_few_candidates": 1}
    assert summary.ineligible == {"blank": 1, "unscored": 2}
    assert summary.splits == {"train": 4}
    assert summary.tied_chosen == 0.25
    assert summary.tied_rejected == 0.25
    assert summary.decided_chosen == {"highest": 3, "shortest": 1}
    assert summary.decided_rejected == {"lowest": 3, "order": 1}
    assert summary.chosen_longer == 0.75
    assert summary.lengths["chosen"] == {"mean": 5.0, "p10": 2.0, "p50": 6.0, "p90": 8.0}
    assert summary.lengths["rejected"] == {"mean": 3.0, "p10": 3.0, "p50": 3.0, "p90": 3.0}
    assert summary.lengths["difference"]["mean"] == 2.0
    assert summary.margins["mean"] == 2.5
    assert summary.sources == {"a > b": 3, "b > a": 1}
    assert [stage["in"] for stage in summary.stages] == [17, 6]
    assert len(summary.examples) == 2
    for stage in summary.stages:
        assert stage["in"] == stage["out"] + sum(stage["drops"].values())


def test_the_page_shows_the_numbers(tmp_path):
    page = render(inspect(dataset(tmp_path, HAND_MADE)))
    assert "prompts        6 = 4 with a pair + 2 dropped" in page
    assert "dropped        no_contrast 1, too_few_candidates 1" in page
    assert "not eligible   blank 1, unscored 2 (candidates)" in page
    assert "ties           chosen 25.0 %, rejected 25.0 %" in page
    assert "sources        a > b 3, b > a 1" in page
    assert page.count("\n  chosen   [") == 3


def test_a_dataset_without_a_pair_has_a_page(tmp_path):
    summary = inspect(dataset(tmp_path, answers("p", ("a", 1, "s"), ("b", 1, "t"))))
    assert (summary.pairs, summary.drops) == (0, {"no_contrast": 1})
    assert (summary.tied_chosen, summary.chosen_longer, summary.examples) == (None, None, [])
    assert "1 = 0 with a pair + 1 dropped" in render(summary)


def test_pairs_without_prompts_or_sources_have_a_page(tmp_path):
    rows = [{"prompt_id": "p", "response": text, "score": score} for text, score in (("good", 2), ("bad", 1))]
    summary = inspect(dataset(tmp_path, rows))
    assert summary.sources == {"? > ?": 1}
    assert "None" not in render(summary)


HOSTILE = [
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x9b2J",
    "a\rb\bc\x7f",
    "\u202eright to left\u202c",
    "\u2066isolate\u2069",
    "line\nline\r\nline\u2028line\u2029line\x85line\x0bline",
    "zero\u200bwidth\ufeff",
    "\U000e0041tag",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_do_not_reach_the_terminal(tmp_path, text):
    page, calm = (
        render(
            inspect(
                dataset(
                    tmp_path / name,
                    [
                        {
                            "prompt_id": cell,
                            "prompt": cell,
                            "response": cell * 3 + answer,
                            "score": score,
                            "source": cell,
                        }
                        for answer, score in (("good", 2), ("bad", 1))
                    ],
                )
            )
        )
        for name, cell in (("page", text), ("calm", "calm"))
    )
    bad = {character for character in page if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert bad <= {"\n"}
    assert len(page.splitlines()) == calm.count("\n") + 1


def test_a_long_text_is_one_line_of_the_page(tmp_path):
    rows = answers("p" * 5000, ("good" * 5000, 2, "s" * 5000), ("bad", 1, "t"))
    page = render(inspect(dataset(tmp_path, rows)))
    assert max(map(len, page.splitlines())) < 500


def test_printable_keeps_what_people_read():
    assert printable("Grüße, 你好 🙂 ñ\tx") == "Grüße, 你好 🙂 ñ x"
    assert printable("a\nb\r\nc") == "a⏎b⏎c"
    assert printable("x" * 10, 5) == "xxxx…"
    assert printable("x" * 5, 5) == "xxxxx"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "holds no table"),
        ("ledger.json", "has no pairs"),
        ("data/train-00000-of-00001.parquet", "not a whole Parquet file"),
        ("stages/x", "holds no finished dataset"),
    ],
)
def test_a_folder_without_a_dataset_is_refused(tmp_path, name, says):
    if name:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match=says):
        inspect(tmp_path)


@pytest.mark.parametrize("file", ["ledger.json", "audit.json"])
def test_a_damaged_document_is_a_message(tmp_path, file):
    folder = dataset(tmp_path, HAND_MADE)
    (folder / file).write_bytes((folder / file).read_bytes()[:40])
    with pytest.raises(InputError, match=f"{file}' is not JSON") as caught:
        inspect(folder)
    assert caught.value.hint == "copy the file again"
