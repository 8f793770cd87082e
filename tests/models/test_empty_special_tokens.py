"""A special token that is the empty text is none: nothing is refused for it, added as it, or ended by it."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import AutoTokenizer

import prefdata
from prefdata.models.chat import control_ids, control_tokens, mark_id
from prefdata.models.hosted._json_schema import _regular_tokens
from prefdata.models.hosted._prompts import Prompts
from prefdata.models.hosted._transformers_worker import _eos
from prefdata.records import Message
from prefdata.training import WPOTraining
from prefdata.training.rows import Answers
from prefdata.training.tokens import Encoder

NAMES = ("bos", "eos", "pad", "unk")


@pytest.fixture
def tokenizer(smollm):
    tokenizer = AutoTokenizer.from_pretrained(smollm, **{f"{name}_token": "" for name in ("bos", "eos", "pad")})
    assert "" in tokenizer.all_special_tokens
    assert tokenizer.bos_token_id is not None, "transformers gives the empty text the id of the unknown token"
    return tokenizer


def test_an_empty_token_has_no_id(tokenizer, smollm):
    assert [mark_id(tokenizer, mark) for mark in ("bos", "eos", "pad")] == [None] * 3
    assert "" not in control_tokens(tokenizer)
    whole = AutoTokenizer.from_pretrained(smollm)
    assert mark_id(whole, "eos") == whole.eos_token_id
    assert control_ids(tokenizer) <= control_ids(whole)


def test_no_message_is_refused_for_it(tokenizer):
    prompts = Prompts(tokenizer, max_model_len=99, refuse_control_tokens=True)
    assert prompts.render([{"role": "user", "content": "Name a fruit."}])


def test_no_answer_ends_at_it_and_none_is_made_of_it(tokenizer):
    model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=2), name_or_path="m")
    assert _eos(model, tokenizer) == [2]
    assert all(text for _, text, _ in _regular_tokens(tokenizer))


@pytest.mark.parametrize("add_marks", ["where_missing", "always"])
def test_a_training_adds_no_empty_mark(tokenizer, add_marks):
    answers = tuple([Message(role="assistant", content=text)] for text in ("a", "b"))
    row = Answers(0, "r", [Message(role="user", content="Hi")], answers)
    training = WPOTraining(model="m")
    trainings = (training, training.replace(add_marks=add_marks))
    plain, marked = (Encoder(tokenizer, each).encode([row])[0].pair for each in trainings)
    assert plain is not None
    assert marked == plain


def test_one_module_asks_for_the_ids_of_special_tokens():
    """Elsewhere an empty token would be one again."""
    asked = {f"{name}_token_id" for name in NAMES[:2]} | {"all_special_ids", "all_special_tokens"}
    places = {
        path.name
        for path in Path(prefdata.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in asked and ast.unparse(node.value).endswith("tokenizer")
    }
    assert places == {"chat.py"}
