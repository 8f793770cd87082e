"""The layouts of other trainers: columns, joins by id, and one schema always."""

from __future__ import annotations

import itertools
from typing import get_args

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from prefdata.dataset import KTO, AnyLayout, Axolotl, FullConversation, LlamaFactory, TRLPairs, prompt_text
from prefdata.errors import ConservationError
from prefdata.pairing import AnyRule, MarginLabel, PythonRule
from prefdata.publish.folder import with_features
from prefdata.tables.schemas import MESSAGES, PAIRS, PROMPTS, pairs_schema

TALK = [
    {"role": "system", "content": "Be brief"},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
]
LAYOUTS = [KTO(), FullConversation(), LlamaFactory(), Axolotl()]
TURN = pa.struct([("role", pa.string()), ("content", pa.string())])
TAGGED = pa.struct([("from", pa.string()), ("value", pa.string())])
COLUMNS = {
    "kto": {"prompt_id": pa.string(), "prompt": MESSAGES, "completion": MESSAGES, "label": pa.bool_()},
    "full_conversation": {
        **{"prompt_id": pa.string(), "prompt_text": pa.string(), "chosen": MESSAGES, "rejected": MESSAGES},
        **{"score_chosen": pa.float64(), "score_rejected": pa.float64()},
    },
    "llamafactory": {"prompt_id": pa.string(), "conversations": pa.list_(TAGGED), "chosen": TAGGED, "rejected": TAGGED},
    "axolotl": {"prompt_id": pa.string(), "messages": MESSAGES, "chosen": TURN, "rejected": TURN},
}
every_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.kind)


def ask(text):
    return [{"role": "user", "content": text}]


def say(text):
    return [{"role": "assistant", "content": text}]


def prompts(**cells):
    rows = [{"prompt_id": key, "messages": ask(cell) if isinstance(cell, str) else cell} for key, cell in cells.items()]
    return pa.Table.from_pylist(rows, PROMPTS)


def pairs(*rows):
    names = ("prompt_id", "response_chosen", "response_rejected", "score_chosen", "score_rejected")
    filled = ((*row, 2.0, 1.0)[:5] for row in rows)
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in filled], PAIRS)


def rows_of(layout, *arguments):
    return layout.rows(*arguments).to_pylist()


def test_a_pair_gives_kto_its_chosen_answer_as_desirable_then_its_rejected_one_as_not():
    table = prompts(b="ask b", a=TALK)
    assert rows_of(KTO(), pairs(("a", "good a", "bad a"), ("b", "good b", "bad b")), table) == [
        {"prompt_id": "a", "prompt": TALK, "completion": say("good a"), "label": True},
        {"prompt_id": "a", "prompt": TALK, "completion": say("bad a"), "label": False},
        {"prompt_id": "b", "prompt": ask("ask b"), "completion": say("good b"), "label": True},
        {"prompt_id": "b", "prompt": ask("ask b"), "completion": say("bad b"), "label": False},
    ]


def test_both_sides_are_whole_conversations_that_differ_in_their_last_turn_only():
    table = prompts(b="ask b", a=TALK)
    assert rows_of(FullConversation(), pairs(("a", "x", "y", 5.0, -0.5), ("b", "v", "w")), table) == [
        {
            "prompt_id": "a",
            "prompt_text": prompt_text(TALK),
            "chosen": [*TALK, *say("x")],
            "rejected": [*TALK, *say("y")],
            "score_chosen": 5.0,
            "score_rejected": -0.5,
        },
        {
            "prompt_id": "b",
            "prompt_text": "ask b",
            "chosen": [*ask("ask b"), *say("v")],
            "rejected": [*ask("ask b"), *say("w")],
            "score_chosen": 2.0,
            "score_rejected": 1.0,
        },
    ]


def test_axolotl_gets_the_prompt_and_one_message_a_side():
    assert rows_of(Axolotl(), pairs(("a", "x", "y")), prompts(a=TALK)) == [
        {
            "prompt_id": "a",
            "messages": TALK,
            "chosen": {"role": "assistant", "content": "x"},
            "rejected": {"role": "assistant", "content": "y"},
        }
    ]


@every_layout
def test_columns_and_types_are_the_same_also_without_rows(layout):
    one = layout.rows(pairs(("a", "x", "y")), prompts(a="ask"))
    assert dict(zip(one.schema.names, one.schema.types, strict=True)) == COLUMNS[layout.kind]
    assert one.column_names == list(COLUMNS[layout.kind])
    nothing = layout.rows(PAIRS.empty_table(), PROMPTS.empty_table())
    assert nothing.schema == one.schema == layout.rows(PAIRS.empty_table(), prompts(a="ask")).schema
    assert nothing.num_rows == 0
    assert with_features(one).schema.metadata


RULES = {rule.__name__: rule for rule in get_args(get_args(AnyRule)[0]) if rule is not PythonRule}


@pytest.mark.parametrize("kind", RULES)
def test_whole_conversations_carry_the_numbers_that_a_rule_adds(kind):
    extra = RULES[kind].model_construct(label=MarginLabel()).extra_columns()
    assert "label_chosen" in extra
    added = {name: place + 0.5 for place, name in enumerate(extra)}
    table = pa.Table.from_pylist([{**pairs(("a", "x", "y")).to_pylist()[0], **added}], pairs_schema(extra))
    rows = FullConversation().rows(table, prompts(a="ask"))
    assert rows.column_names == [*COLUMNS["full_conversation"], *extra]
    assert {name: rows[name].to_pylist() for name in extra} == {name: [value] for name, value in added.items()}
    assert FullConversation().rows(table[:0], PROMPTS.empty_table()).schema == rows.schema


@every_layout
def test_no_row_and_no_prompt_is_lost_whatever_the_order_of_prompts_and_the_chunks(layout):
    triples = [("c", "1", "2"), ("a", "3", "4"), ("c", "5", "6"), ("b", "7", "8")]
    whole = layout.rows(pairs(*triples), prompts(a="ask a", b=TALK, c="ask c"))
    assert whole["prompt_id"].to_pylist() == [row[0] for row in triples for _ in range(layout.rows_per_pair)]
    in_chunks = layout.rows(
        pa.concat_tables([pairs(*triples[:1]), PAIRS.empty_table(), pairs(*triples[1:])]),
        pa.concat_tables([prompts(z="more", c="ask c"), prompts(b=TALK), prompts(a="ask a")]),
    )
    assert in_chunks.to_pylist() == whole.to_pylist()
    sliced = layout.rows(pairs(("z", "", ""), *triples)[1:], prompts(y=TALK, a="ask a", b=TALK, c="ask c")[1:])
    assert sliced.to_pylist() == whole.to_pylist()


@every_layout
def test_cutting_the_pairs_changes_no_row(layout):
    table = prompts(a="ask a", b=TALK, c="ask c")
    triples = [("a", "1", "2"), ("b", "3", "4"), ("c", "5", "6")]
    whole = layout.rows(pairs(*triples), table)
    cut = pa.concat_tables([layout.rows(pairs(triples[0]), table), layout.rows(pairs(*triples[1:]), table[1:])])
    assert cut.to_pylist() == whole.to_pylist()


@pytest.mark.parametrize("layout", [*LAYOUTS, TRLPairs()], ids=lambda layout: layout.kind)
def test_a_pair_without_its_prompt_is_never_written(layout):
    with pytest.raises(ConservationError, match="2 pairs without their prompt"):
        layout.rows(pairs(("a", "x", "y"), ("gone", "x", "y"), ("lost", "x", "y")), prompts(a="ask"))


@every_layout
@pytest.mark.parametrize("text", ["", "\n", "<|im_end|>", "Ω" * 10_000, "a\x00b", "😀"])
def test_a_text_stays_exactly_what_it_is(layout, text):
    def texts(cell):
        if isinstance(cell, dict):
            return [text for part in cell.values() for text in texts(part)]
        return [text for part in cell for text in texts(part)] if isinstance(cell, list) else [cell]

    chosen = texts(rows_of(layout, pairs(("a", text, "no")), prompts(a="ask")))
    rejected = texts(rows_of(layout, pairs(("a", "no", text)), prompts(a="ask")))
    prompt_texts = texts(rows_of(layout, pairs(("a", "no", "yes")), prompts(a=text)))
    assert text in chosen
    assert text in rejected
    assert text in prompt_texts


lists_of_turns = st.lists(st.lists(st.text(max_size=3), min_size=1, max_size=4), min_size=1, max_size=6)


@given(lists_of_turns)
def test_whole_conversations_are_those_of_a_plain_loop(talks):
    cells = {
        f"p{number}": [
            {"role": role, "content": text}
            for role, text in zip(itertools.cycle(["user", "assistant"]), talk, strict=False)
        ]
        for number, talk in enumerate(talks)
    }
    triples = [(key, f"good {key}", f"bad {key}") for key in reversed(cells)]
    for row, (key, chosen, rejected) in zip(
        rows_of(FullConversation(), pairs(*triples), prompts(**cells)), triples, strict=True
    ):
        assert (row["chosen"], row["rejected"]) == ([*cells[key], *say(chosen)], [*cells[key], *say(rejected)])


@every_layout
def test_a_layout_is_data_and_holds_no_trace(layout):
    assert TypeAdapter(AnyLayout).validate_python({"kind": layout.kind}) == layout
    assert TypeAdapter(AnyLayout).validate_python(layout.dump()) == layout
    assert (layout.traced, layout.needs_answers) == (False, False)
    assert (layout.train_split, layout.test_split) == ("train", "test")
    assert layout.rows_per_pair == (2 if layout.kind == "kto" else 1)
    if layout.kind != "llamafactory":
        assert layout.documents("name", ["train", "test"]) == {}


@every_layout
def test_no_column_has_a_name_that_its_reader_gives_another_meaning(layout):
    taken = {"images", "image", "videos", "tools", "chat_template_kwargs", "margin", "reference", "prompt_ids"}
    names = set(layout.rows(pairs(("a", "x", "y")), prompts(a="ask")).column_names)
    assert not taken & names
    # TRL joins a column `prompt` to the sides, so only where both are lists of messages and the sides lack it.
    assert ("prompt" in names) is (layout.kind == "kto")
