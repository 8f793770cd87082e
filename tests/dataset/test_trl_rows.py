"""The TRL layout: columns, joins by id, and one schema always."""

from __future__ import annotations

import pyarrow as pa
import pytest

from prefdata.dataset import TRLPairs
from prefdata.tables.schemas import MESSAGES, PAIRS, PROMPTS

CONVERSATION = [
    {"role": "system", "content": "Be brief"},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
]


def prompts(*ids: str) -> pa.Table:
    rows = [{"prompt_id": i, "messages": [{"role": "user", "content": f"ask {i}"}], "origin": "x"} for i in ids]
    return pa.Table.from_pylist(rows, PROMPTS)


def pair(prompt_id: str, **more: object) -> dict[str, object]:
    return {
        "prompt_id": prompt_id,
        "n_candidates": 5,
        "n_eligible": 4,
        "response_chosen": f"good {prompt_id}",
        "response_rejected": f"bad {prompt_id}",
        "score_chosen": 4.5,
        "score_rejected": 1.0,
        "score_margin": 3.5,
        "source_chosen": "policy",
        "source_rejected": "teacher",
        **more,
    }


def pairs(*ids: str) -> pa.Table:
    return pa.Table.from_pylist([pair(prompt_id) for prompt_id in ids], PAIRS)


def test_prompts_are_joined_by_id_whatever_their_order_and_more_of_them_are_no_harm():
    rows = TRLPairs().rows(pairs("a", "b", "c"), prompts("z", "c", "a", "y", "b")).to_pylist()
    assert [row["prompt_id"] for row in rows] == ["a", "b", "c"]
    for row in rows:
        assert row["prompt"] == [{"role": "user", "content": f"ask {row['prompt_id']}"}]
        assert row["chosen"] == [{"role": "assistant", "content": f"good {row['prompt_id']}"}]
        assert row["rejected"] == [{"role": "assistant", "content": f"bad {row['prompt_id']}"}]


def test_tables_of_several_chunks_are_joined_alike():
    ids = ["a", "b", "c", "d"]
    in_chunks = TRLPairs().rows(
        pa.concat_tables([pairs("a", "b"), pairs("c"), pairs(), pairs("d")]),
        pa.concat_tables([prompts("d", "c"), prompts("b"), prompts("a")]),
    )
    assert in_chunks.equals(TRLPairs().rows(pairs(*ids), prompts(*ids)))


def test_a_conversation_of_several_turns_stays_whole():
    table = pa.Table.from_pylist([{"prompt_id": "a", "messages": CONVERSATION, "origin": "x"}], PROMPTS)
    assert TRLPairs().rows(pairs("a"), table).to_pylist()[0]["prompt"] == CONVERSATION


def test_the_schema_is_always_the_same_also_without_rows():
    one = TRLPairs().rows(pairs("a"), prompts("a"))
    none = TRLPairs().rows(PAIRS.empty_table(), prompts("a"))
    nothing = TRLPairs().rows(PAIRS.empty_table(), PROMPTS.empty_table())
    assert one.schema == none.schema == nothing.schema
    assert (one.num_rows, none.num_rows, nothing.num_rows) == (1, 0, 0)
    assert [one.schema.field(name).type for name in ("prompt", "chosen", "rejected")] == [MESSAGES] * 3


def test_ids_come_first_then_the_texts_then_the_scores_then_every_other_trace():
    names = TRLPairs().rows(pairs("a"), prompts("a")).column_names
    assert names[:7] == ["prompt_id", "prompt", "chosen", "rejected", "score_chosen", "score_rejected", "score_margin"]
    assert len(set(names)) == len(names)
    texts = {"response_chosen", "response_rejected"}
    assert set(names) == set(PAIRS.names) - texts | {"prompt", "chosen", "rejected"}


def test_no_column_has_a_name_that_trl_gives_a_meaning():
    taken = {"images", "image", "videos", "tools", "label", "completion", "messages", "chat_template_kwargs"}
    assert not taken & set(TRLPairs().rows(pairs("a"), prompts("a")).column_names)


@pytest.mark.parametrize("text", ["", "\n", "<|im_end|>", "Ω" * 10_000, "a\x00b"])
def test_a_text_stays_exactly_what_it_is(text):
    table = pa.Table.from_pylist([pair("a", response_chosen=text)], PAIRS)
    assert TRLPairs().rows(table, prompts("a")).to_pylist()[0]["chosen"][0]["content"] == text
