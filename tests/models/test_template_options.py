"""The clock is no input: date and arguments of a chat template come from the recipe, wherever one is rendered."""

from __future__ import annotations

import ast
import datetime
import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from transformers import AutoTokenizer

import prefdata
from prefdata.errors import RecipeError
from prefdata.models import VLLM, ChatEndpoint, Local, Transformers
from prefdata.models.base import Decoding
from prefdata.models.hosted._prompts import Prompts
from prefdata.models.template import TEMPLATE_DATE, TemplateOptions, template_variables
from prefdata.records import Message, Request
from prefdata.scoring import GPM, ArmoRM, RewardModel
from prefdata.scoring.rewards._reward_common import chat_template
from prefdata.spec import Spec
from prefdata.training import WPOTraining
from prefdata.training.tokens import Encoder

DATED = (
    "{%- if strftime_now is defined %}{%- set date = strftime_now('%d %b %Y') %}{%- else %}{%- set date = 'none' %}"
    "{%- endif %}<|im_start|>system\n{{ date }} {{ enable_thinking }}<|im_end|>"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MESSAGES = [{"role": "user", "content": "Hello"}]
TEMPLATED = [
    VLLM(model="embedded:smollm2-135m-instruct"),
    Transformers(model="embedded:smollm2-135m-instruct"),
    Local(model="embedded:smollm2-135m-instruct"),
    RewardModel(model="o/m"),
    ArmoRM(),
    GPM(model="o/m"),
]


@pytest.fixture
def tokenizer(smollm):
    tokenizer = AutoTokenizer.from_pretrained(smollm)
    tokenizer.chat_template = DATED
    return tokenizer


@pytest.fixture
def dated(tmp_path):
    return folder_with(tmp_path / "dated", DATED)


def folder_with(folder, template):
    folder.mkdir()
    config = {"architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").write_text(template)
    return str(folder)


def of_sampling(tokenizer, options):
    prompts = Prompts.of(tokenizer, {"refuse_control_tokens": True, "thinking_marks": None, **options}, 999)
    return tokenizer.decode(prompts.render(MESSAGES))


def of_scoring(tokenizer, options):
    return chat_template(tokenizer, {"refuse_control_tokens": True, **options}).text(MESSAGES)


def of_training(tokenizer, options):
    return Encoder(tokenizer, WPOTraining(model="m", **options))._render(MESSAGES, ask=True)


@pytest.mark.parametrize("render", [of_sampling, of_scoring, of_training])
def test_a_template_sees_the_date_and_the_arguments_of_the_recipe(tokenizer, render):
    default = {"template_date": TEMPLATE_DATE, "chat_template_kwargs": {}}
    assert "\n26 Jul 2024 <|im_end|>" in render(tokenizer, default)
    own = {"template_date": "2031-02-03", "chat_template_kwargs": {"enable_thinking": False}}
    assert "\n03 Feb 2031 False<|im_end|>" in render(tokenizer, own)


def test_every_rendering_gets_the_variables():
    """No other place may render a template, whose clock would be that of the machine."""
    calls = {}
    for path in Path(prefdata.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "apply_chat_template":
                starred = [ast.unparse(word.value) for word in node.keywords if word.arg is None]
                calls[path.name] = starred
    assert calls == {"chat.py": ["self._variables"], "tokens.py": ["self._variables"]}


def test_a_template_that_asks_for_no_date_is_given_none():
    assert template_variables("{{ messages }}", {"a": 1}, TEMPLATE_DATE) == {"a": 1}
    several = {"default": "{{ messages }}", "tools": DATED}
    clock = template_variables(several, {}, "2031-02-03")["strftime_now"]
    assert clock("%Y-%m-%d %H:%M") == "2031-02-03 00:00"


@pytest.mark.parametrize("part", TEMPLATED, ids=lambda part: part.dump()["kind"])
def test_the_date_is_pinned_exactly_where_a_template_asks(part, dated, tmp_path):
    assert isinstance(part, TemplateOptions)
    assert "template_date" not in part.replace(model=folder_with(tmp_path / "plain", "{{ messages }}")).pins()
    own = part.replace(model=dated)
    assert own.pins()["template_date"] == TEMPLATE_DATE
    assert own.replace(template_date="2031-02-03").pins()["template_date"] == "2031-02-03"
    assert own.template_config({"template_date": "2031-02-03"})["template_date"] == "2031-02-03"
    assert own.template_config({})["template_date"] == TEMPLATE_DATE


@pytest.mark.parametrize("part", TEMPLATED, ids=lambda part: part.dump()["kind"])
def test_defaults_change_no_identity(part):
    assert {"template_date", "chat_template_kwargs"}.isdisjoint(part.dump())
    assert part.fingerprint() != part.replace(chat_template_kwargs={"enable_thinking": False}).fingerprint()
    assert part.fingerprint() != part.replace(template_date="2031-02-03").fingerprint()


def subclasses(kind):
    return {kind}.union(*map(subclasses, kind.__subclasses__()))


def test_every_part_with_a_chat_template_on_this_machine_has_the_options():
    ours = [each for each in subclasses(Spec) if each.__module__.startswith("prefdata.")]
    with_model = {each.__name__ for each in ours if {"model", "revision"} <= each.model_fields.keys()}
    with_options = {
        each.__name__ for each in ours if {"chat_template_kwargs", "template_date"} <= each.model_fields.keys()
    }
    assert with_model - with_options <= {"WorkerModel", "Ranker", "PairRM"}, "PairRM reads no chat template"


@pytest.mark.parametrize("date", ["2031-2-3", "2031-02-30", "today", ""])
def test_a_date_is_a_day(date):
    with pytest.raises(ValidationError):
        Local(model="m", template_date=date)
    assert datetime.date.fromisoformat(TEMPLATE_DATE)


@pytest.mark.parametrize("name", ["chat_template", "messages", "strftime_now", "tokenize", "add_generation_prompt"])
def test_no_argument_takes_the_place_of_what_prefdata_sets(name):
    for make in (Local, lambda **fields: ChatEndpoint(**fields), WPOTraining):
        with pytest.raises(ValidationError, match=f"may not hold {name}"):
            make(model="m", chat_template_kwargs={name: "x"})


def test_a_server_gets_the_arguments_in_the_body():
    request = Request("k", (Message(role="user", content="Hi"),), 1)
    plain = ChatEndpoint(model="m", extra_body={"top_k": 5})
    assert plain.body(request, Decoding())["extra_body"] == {"top_k": 5}
    part = plain.replace(chat_template_kwargs={"enable_thinking": False})
    body = part.body(request, Decoding())
    assert body["extra_body"] == {"top_k": 5, "chat_template_kwargs": {"enable_thinking": False}}
    assert json.dumps(body, allow_nan=False)
    assert "extra_body" not in ChatEndpoint(model="m").body(request, Decoding())
    with pytest.raises(RecipeError, match="both name"):
        part.replace(extra_body={"chat_template_kwargs": {}})
