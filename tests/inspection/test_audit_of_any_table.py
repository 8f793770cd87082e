"""`audit` and `inspect` of pairs that others made: the same pairs in every layout give the same findings."""

from __future__ import annotations

import json
import tracemalloc

import polars as pl
import pytest
from published import written
from sample_recipe import sample_recipe

import prefdata
from prefdata import audit, inspect
from prefdata.dataset import KTO, Axolotl, FullConversation, LlamaFactory, SnorkelLayout, TRLPairs
from prefdata.errors import InputError, ModelError
from prefdata.tables.digest import bare_digest_series
from prefdata.tables.prompt_columns import SYSTEM_NAMES

THOUGHT = "<think>\nHm, <b>.\n</think>\n\n"
PAIRS = [
    # prompt, chosen, rejected, score of both
    ("Why?", "Because.", "No.", 2.0, 1.0),
    ("Who?", "She did it.", "She did it.", 3.0, 3.0),
    ("When?", "Now,  or\nnever.", "Now, or never. ", 1.0, 2.0),
    ("Where?", f"{THOUGHT}There.", "Here, or somewhere else.", 2.0, 1.0),
    ("Why?", "No.", "Because.", 2.0, 1.0),
    ("Which?", "This one.", " \n", 2.0, 1.0),
    ("Which?", "This one.", " \n", 2.0, 1.0),
    ("How?", "So.", f"{THOUGHT}So, and so.", 5.0, 1.0),
    ("What?", "<think>I never stop", "That.", 2.0, 1.0),
]
FOUND = {
    "missing_text": 0,
    "blank_text": 2,
    "identical_texts": 1,
    "identical_but_white_space": 1,
    "different_prompts": 0,
    "tied_scores": 1,
    "reversed_scores": 1,
    "thinking_on_one_side": 3,
    "unfinished_thinking": 1,
    "repeated_prompts": 2,
    "repeated_rows": 1,
    "contradictions": 1,
}
UNSCORED = {name: count for name, count in FOUND.items() if name not in ("tied_scores", "reversed_scores")}


def turn(role, text):
    return {"role": role, "content": text}


def spoken(role, text):
    return {"from": role, "value": text}


def talk(prompt, text):
    return [turn("system", "Be brief."), turn("user", prompt), turn("assistant", text)]


SCORES = {"score_chosen": "score_chosen", "score_rejected": "score_rejected"}
SHAPES = {
    "TRL, texts": (lambda p, c, r: {"prompt": p, "chosen": c, "rejected": r}, "TRL, standard"),
    "TRL, messages": (
        lambda p, c, r: {
            "prompt": [turn("user", p)],
            "chosen": [turn("assistant", c)],
            "rejected": [turn("assistant", r)],
        },
        "TRL, conversational",
    ),
    "whole conversations": (lambda p, c, r: {"chosen": talk(p, c), "rejected": talk(p, r)}, "whole conversations"),
    "UltraFeedback": (
        lambda p, c, r: {"prompt": p, "chosen": talk(p, c), "rejected": talk(p, r), "messages": talk(p, c)},
        "UltraFeedback binarized",
    ),
    "axolotl": (
        lambda p, c, r: {
            "messages": [turn("user", p)],
            "chosen": turn("assistant", c),
            "rejected": turn("assistant", r),
        },
        "axolotl",
    ),
    "LLaMA-Factory": (
        lambda p, c, r: {
            "conversations": [spoken("human", p)],
            "chosen": spoken("gpt", c),
            "rejected": spoken("gpt", r),
        },
        "LLaMA-Factory",
    ),
    "LLaMA-Factory, alpaca": (
        lambda p, c, r: {"instruction": "Answer.", "input": p, "chosen": c, "rejected": r},
        "TRL, standard",
    ),
    "Orca": (lambda p, c, r: {"system": "Be brief.", "question": p, "chosen": c, "rejected": r}, "TRL, standard"),
    "JSON texts": (
        lambda p, c, r: {"prompt": p, "chosen": json.dumps(talk(p, c)), "rejected": json.dumps(talk(p, r))},
        "UltraFeedback binarized",
    ),
    "HelpSteer": (lambda p, c, r: {"prompt": p, "chosen_response": c, "rejected_response": r}, "TRL, standard"),
    "parts": (
        lambda p, c, r: {"prompt": p, "chosen": talk(p, [{"type": "text", "text": c}]), "rejected": talk(p, r)},
        "UltraFeedback binarized",
    ),
}


def table(path, shape, *, names=SCORES, pairs=PAIRS):
    rows = []
    for prompt, chosen, rejected, high, low in pairs:
        scores = {names["score_chosen"]: high, names["score_rejected"]: low} if names else {}
        rows.append({**SHAPES[shape][0](prompt, chosen, rejected), **scores})
    return written(path, rows)


@pytest.mark.parametrize("scored", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_layout_gives_the_same_findings(tmp_path, shape, scored):
    report = audit(table(tmp_path / "t.jsonl", shape, names=SCORES if scored else None))
    assert SHAPES[shape][1] in report.read_as
    assert report.findings == (FOUND if scored else UNSCORED)
    assert (report.pairs, report.prompts, report.splits) == (9, 7, {"train": 9})
    assert report.thinking == {"chosen": 2, "rejected": 1}
    # Lengths are of the answer, without its reasoning; an answer whose reasoning has no end has none.
    assert report.chosen_longer == 0.5
    assert report.examples["contradictions"] == [{"split": "train", "row": 4}]
    assert report.examples["repeated_rows"] == [{"split": "train", "row": 6}]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".jsonl.gz", ".csv"])
def test_every_kind_of_file(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    source = table(tmp_path / "source.jsonl", "TRL, texts")
    if suffix == ".jsonl.gz":
        import gzip

        path.write_bytes(gzip.compress(source.read_bytes()))
    elif suffix == ".csv":
        import csv

        rows = [json.loads(line) for line in source.read_text().splitlines()]
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], quoting=csv.QUOTE_ALL)
            writer.writeheader()
            writer.writerows(rows)
    else:
        path = table(path, "TRL, texts")
    assert audit(path).findings == FOUND


@pytest.mark.parametrize(
    "names",
    [
        {"score_chosen": "chosen_score", "score_rejected": "rejected_score"},
        {"score_chosen": "chosen_rating", "score_rejected": "rejected_rating"},
    ],
)
def test_scores_by_their_usual_names(tmp_path, names):
    assert audit(table(tmp_path / "t.jsonl", "TRL, texts", names=names)).findings == FOUND


def test_scores_within_an_object_and_in_lists_of_answers(tmp_path):
    rows = [
        {"prompt": p, "chosen": c, "rejected": r, "metadata": {"score_chosen": a, "score_rejected": b}}
        for p, c, r, a, b in PAIRS
    ]
    assert audit(written(tmp_path / "t.jsonl", rows)).findings == FOUND
    snorkel = [
        {"prompt": p, "chosen": talk(p, c)[1:], "rejected": talk(p, r)[1:]}
        | {"all_generated_responses": ["x", c, r], "all_rm_scores": [0.5, 2.0, 2.0 if p == "Why?" else 1.0]}
        for p, c, r in (("Why?", "b", "a"), ("Who?", "c", "d"))
    ]
    report = audit(written(tmp_path / "s.jsonl", snorkel))
    assert "Snorkel" in report.read_as
    assert (report.scored, report.findings["tied_scores"]) == (2, 1)


def test_single_answers_with_labels(tmp_path):
    rows = [
        {"prompt": p, "completion": text, "label": label}
        for p, text, label in (
            ("a", "x", True),
            ("a", "x", False),
            ("b", "y", True),
            ("b", "y", True),
            ("c", " ", False),
        )
    ]
    report = audit(written(tmp_path / "t.jsonl", rows))
    assert "KTO" in report.read_as
    assert (report.pairs, report.prompts) == (0, 3)
    found = {name: count for name, count in report.findings.items() if count}
    assert found == {"blank_text": 1, "repeated_prompts": 2, "repeated_rows": 1, "contradictions": 1}
    assert "identical_texts" not in report.findings


def test_texts_that_hold_their_prompt(tmp_path):
    def whole(prompt, text):
        return f"\n\nHuman: {prompt}\n\nAssistant: {text}"

    rows = [{"chosen": whole(p, c), "rejected": whole(p, r)} for p, c, r, _, _ in PAIRS]
    report = audit(written(tmp_path / "t.jsonl", rows))
    assert (report.findings["contradictions"], report.findings["repeated_rows"], report.prompts) == (1, 1, 7)
    plain = audit(written(tmp_path / "u.jsonl", [{"chosen": "a", "rejected": "b"}, {"chosen": "b", "rejected": "a"}]))
    assert (plain.prompts, plain.findings["contradictions"]) == (None, 1)
    assert "repeated_prompts" not in plain.findings


def test_conversations_that_differ_before_the_last_turn(tmp_path):
    rows = [{"chosen": talk("one", "a"), "rejected": talk("two", "b")}, {"chosen": talk("c", "a"), "rejected": None}]
    found = audit(written(tmp_path / "t.jsonl", rows)).findings
    assert (found["different_prompts"], found["missing_text"]) == (1, 1)


def test_prompts_in_several_splits(tmp_path):
    table(tmp_path / "data/train-00000-of-00002.parquet", "TRL, texts", pairs=PAIRS[:4])
    table(tmp_path / "data/train-00001-of-00002.parquet", "TRL, messages", pairs=[])  # no row, other columns
    (tmp_path / "data/train-00001-of-00002.parquet").unlink()
    table(tmp_path / "data/test-00000-of-00001.parquet", "TRL, texts", pairs=PAIRS[3:])
    report = audit(tmp_path)
    assert report.splits == {"train": 4, "test": 6}
    assert report.findings["prompts_in_several_splits"] == 2
    assert report.findings["contradictions"] == 1


class TestCut:
    def test_what_a_training_would_cut(self, tmp_path):
        pairs = [("Hi", "word " * n + "end", "word " * n + "ends", 2.0, 1.0) for n in (1, 20, 300)]
        path = table(tmp_path / "t.jsonl", "TRL, texts", pairs=[*pairs, ("Hi " * 300, "a", "b", 2.0, 1.0)])
        report = audit(path, tokenizer=_tokenizer(tmp_path), max_length=50)
        cut = {name: report.findings[name] for name in ("longer_than_the_limit", "same_after_the_cut")}
        assert cut == {"longer_than_the_limit": 2, "same_after_the_cut": 2}
        assert report.findings["prompt_fills_the_limit"] == 1
        assert report.examples["prompt_fills_the_limit"] == [{"split": "train", "row": 3}]

    def test_reasoning_is_measured_as_it_is_trained_on(self, tmp_path):
        thought = f"<think>{'word ' * 60}</think>"
        pairs = [("Hi", f"{thought}a", f"{thought}b", 2.0, 1.0), ("Hi", "a", "<think>" + "word " * 60, 2.0, 1.0)]
        path = table(tmp_path / "t.jsonl", "TRL, texts", pairs=pairs)
        report = audit(path, tokenizer=_tokenizer(tmp_path), max_length=50)
        assert (report.findings["longer_than_the_limit"], report.findings["same_after_the_cut"]) == (2, 1)

    def test_mistakes(self, tmp_path):
        path = table(tmp_path / "t.jsonl", "TRL, texts")
        with pytest.raises(InputError, match="both a tokenizer and a length"):
            audit(path, max_length=5)
        with pytest.raises(ModelError, match=r"has no tokenizer\.json"):
            audit(path, tokenizer=tmp_path, max_length=5)
        (tmp_path / "tokenizer.json").write_text("{}")
        with pytest.raises(ModelError, match="is not a tokenizer"):
            audit(path, tokenizer=tmp_path, max_length=5)


def _tokenizer(folder):
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "Hi": 1, "word": 2, "end": 3, "ends": 4, "a": 5, "b": 6}, "[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    layouts = (SnorkelLayout(), KTO(), FullConversation(), LlamaFactory(), Axolotl())
    recipe = sample_recipe("audited", dataset=TRLPairs(test_size=5), also=layouts)
    return prefdata.build(recipe, tmp_path_factory.mktemp("builds") / "out")


@pytest.mark.parametrize("config", [None, "snorkel", "full_conversation", "llamafactory", "axolotl", "kto"])
def test_every_layout_that_we_write_is_read_as_the_same_pairs(built, config):
    report = audit(built.dataset, config=config)
    main = audit(built.dataset)
    assert sum(report.splits.values()) == built.ledger["pairs"] * (2 if config == "kto" else 1)
    assert report.prompts == main.prompts == built.ledger["paired_prompts"]
    if config == "kto":
        assert report.lengths["chosen"] == main.lengths["chosen"]
    else:
        assert (report.lengths, report.chosen_longer) == (main.lengths, main.chosen_longer)
    assert not any(count for name, count in report.findings.items() if name != "repeated_prompts")


def test_a_build_is_inspected_as_before(built):
    assert inspect(built.dataset).table is None
    assert inspect(built.folder).pairs == built.ledger["pairs"]


class TestInspect:
    def test_what_others_made_is_shown_as_it_was_understood(self, tmp_path, prefdata):
        path = table(tmp_path / "t.jsonl", "LLaMA-Factory", pairs=[("Why\x1b[2J?", "Yes", "No", 2.0, 1.0)])
        said = prefdata("inspect", path)
        assert said.code == 0
        assert "read as        LLaMA-Factory" in said.out
        assert "chosen   [2] Yes" in said.out
        assert "build again" not in said.out + said.err
        assert "\x1b" not in said.out
        summary = inspect(path)
        assert (summary.pairs, summary.prompts, summary.chosen_longer) == (1, 1, 1.0)
        assert summary.table.first[0]["chosen"] == "Yes"

    @pytest.mark.parametrize("command", ["inspect", "audit"])
    def test_what_is_not_a_table_of_pairs_is_said_and_nobody_is_told_to_build(self, tmp_path, prefdata, command):
        answers = written(tmp_path / "a.jsonl", [{"prompt": "p", "response": "a", "score": 1}])
        other = written(tmp_path / "b.jsonl", [{"text": "a"}])
        (tmp_path / "empty").mkdir()
        for path, says in (
            (answers, "holds answers, and no pairs of them"),
            (other, "--columns prompt=NAME,chosen=NAME,rejected=NAME"),
            (tmp_path / "empty", "holds no table"),
        ):
            said = prefdata(command, path)
            assert (said.code, said.out) == (2, "")
            assert says in said.err
            assert "build" not in said.err.replace("build folder", "")

    def test_a_build_that_is_not_finished_is_continued(self, tmp_path, prefdata):
        (tmp_path / "stages").mkdir()
        for command in ("inspect", "audit"):
            said = prefdata(command, tmp_path)
            assert (said.code, "run the build again" in said.err) == (2, True)


class TestCommand:
    def test_columns_by_other_names(self, tmp_path, prefdata):
        rows = [{"q": p, "good": c, "bad": r} for p, c, r, _, _ in PAIRS]
        path = written(tmp_path / "t.jsonl", rows)
        said = prefdata("audit", path, "--columns", "prompt=q,chosen=good,rejected=bad", "--json")
        assert json.loads(said.out)["findings"] == UNSCORED
        for columns, says in (("chose=good", "did you mean 'chosen'"), ("chosen=goo", "no column 'goo'")):
            said = prefdata("audit", path, "--columns", columns)
            assert (said.code, says in said.err) == (2, True)

    def test_the_page_names_rows(self, tmp_path, prefdata):
        said = prefdata("audit", table(tmp_path / "t.jsonl", "TRL, texts"))
        assert "! contradictions                    1   11.1 %  another row prefers the opposite (train 4)" in said.out


@pytest.mark.parametrize("space", [*map(chr, range(33)), "\x7f", "\x85", "\xa0", "\u200b", "\u2028", "\u3000"])
@pytest.mark.parametrize("end", ["", "ü"])
def test_what_differs_in_white_space_only_is_the_same_for_an_audit_and_for_a_rule(tmp_path, space, end):
    texts = [f"a{space}b{end}", f"ab{end}"]
    path = table(tmp_path / "t.jsonl", "TRL, texts", pairs=[("Why?", *texts, 2.0, 1.0)])
    bare = bare_digest_series(pl.Series(texts))
    found = audit(path).findings
    assert (found["identical_texts"], found["identical_but_white_space"]) == (0, int(bare[0] == bare[1]))


def test_rows_of_other_reasoning_without_an_end_are_not_the_same_row(tmp_path):
    pairs = [("Why?", f"<think>{text}", "No.", 2.0, 1.0) for text in ("one", "two", "one")]
    assert audit(table(tmp_path / "t.jsonl", "TRL, texts", pairs=pairs)).findings["repeated_rows"] == 1


def alone(prompt, text):
    return [turn("user", prompt), turn("assistant", text)]


@pytest.mark.parametrize("make", [lambda prompt, text: text, alone, talk])
@pytest.mark.parametrize("name", SYSTEM_NAMES)
def test_a_system_turn_is_a_part_of_the_prompt(tmp_path, name, make):
    rows = [
        {name: system, "prompt": "Why?", "chosen": make("Why?", chosen), "rejected": make("Why?", rejected)}
        for system, chosen, rejected in (("Be brief.", "a", "b"), ("Be long.", "b", "a"))
    ]
    report = audit(written(tmp_path / "t.jsonl", rows))
    assert (report.prompts, report.findings["contradictions"], report.findings["repeated_prompts"]) == (2, 0, 0)
    assert report.first[0]["prompt"] == "Be brief.\n\nWhy?"


@pytest.mark.parametrize(("name", "prompts"), [("instruction", 2), ("prompt", 1), ("question", 1)])
def test_an_input_is_a_part_of_an_instruction_and_of_nothing_else(tmp_path, name, prompts):
    rows = [{name: "Add.", "input": more, "chosen": "a", "rejected": "b"} for more in ("1 and 2", "3 and 4")]
    report = audit(written(tmp_path / "t.jsonl", rows))
    assert (report.prompts, report.columns["prompt"]) == (prompts, name)
    assert report.first[0]["prompt"] == ("Add.\n\n1 and 2" if prompts == 2 else "Add.")


def test_an_empty_block_of_reasoning_is_none(tmp_path):
    pairs = [("Why?", "<think>\n\n</think>\n\nSo.", "No.", 2.0, 1.0)]
    report = audit(table(tmp_path / "t.jsonl", "TRL, texts", pairs=pairs))
    assert report.thinking == {"chosen": 0, "rejected": 0}
    assert (report.findings["thinking_on_one_side"], report.lengths["chosen"]["mean"]) == (0, 3.0)


def test_the_order_of_rows_changes_no_number(tmp_path):
    forth = audit(table(tmp_path / "a.jsonl", "TRL, texts"))
    back = audit(table(tmp_path / "b.jsonl", "TRL, texts", pairs=PAIRS[::-1]))
    assert (forth.findings, forth.lengths, forth.margins) == (back.findings, back.lengths, back.margins)


def test_memory_does_not_grow_with_the_rows(tmp_path):
    peaks = []
    # Both are several of the reader's blocks; the first one is for what is made once.
    for count in (10, 1_800, 4_500):
        path = tmp_path / f"{count}.jsonl"
        with path.open("w") as file:
            for n in range(count):
                row = {"prompt": f"{n} " * 1_000, "chosen": f"{n} a " * 1_000, "rejected": f"{n} b " * 1_000}
                file.write(json.dumps(row) + "\n")
        tracemalloc.start()
        assert prefdata.audit(path).prompts == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.5 * peaks[1]
