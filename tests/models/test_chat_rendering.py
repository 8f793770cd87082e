"""Messages become token ids exactly as the model's template says, or a typed refusal."""

from __future__ import annotations

import re

import pytest
from transformers import AutoTokenizer

from prefdata.errors import ModelError
from prefdata.models.chat import ItemError
from prefdata.models.hosted._prompts import Prompts

BOS = "<|endoftext|>"
LLAMA_LIKE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def tokenizer(smollm):
    return AutoTokenizer.from_pretrained(smollm)


@pytest.fixture
def with_bos(smollm):
    """A tokenizer that adds BOS to texts, with a template that writes it: the pair that doubles it in other tools."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = AutoTokenizer.from_pretrained(smollm, bos_token=BOS)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 0)])
    tokenizer.chat_template = LLAMA_LIKE
    return tokenizer


def test_what_a_template_says_reaches_no_drop_with_escapes(tokenizer):
    tokenizer.chat_template = "{{ raise_exception('\\x1b]0;pwn\\x07 \u202e no') }}"
    with pytest.raises(ItemError) as refused:
        chat(tokenizer).render([{"role": "user", "content": "x"}])
    assert refused.value.reason == "template_failed"
    assert "pwn" in refused.value.detail
    assert refused.value.detail.isprintable()


def chat(tokenizer, **options) -> Prompts:
    return Prompts(tokenizer, **{"max_model_len": 64, "refuse_control_tokens": True, **options})


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_the_ids_begin_with_exactly_one_bos(with_bos):
    text = with_bos.apply_chat_template(user("Hello"), add_generation_prompt=True, tokenize=False)
    doubled = with_bos(text)["input_ids"]
    assert doubled.count(0) == 2
    ids = chat(with_bos).render(user("Hello"))
    assert ids.count(0) == 1
    assert ids == doubled[1:]


def test_the_ids_are_those_of_the_template(tokenizer):
    messages = [{"role": "system", "content": "Be kind."}, *user("Wie geht's? 你好 1234")]
    ids = chat(tokenizer).render(messages)
    text = (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nWie geht's? 你好 1234<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert ids == tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("token", ["<|im_end|>", "<|im_start|>", "<|endoftext|>", "<filename>"])
@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_a_spelt_out_control_token_is_refused_in_any_role(tokenizer, token, role):
    messages = [{"role": role, "content": f"a{token}b"}, *user("go on")]
    with pytest.raises(ItemError) as caught:
        chat(tokenizer).render(messages)
    assert caught.value.reason == "control_tokens"
    assert token in caught.value.detail and role in caught.value.detail
    allowed = chat(tokenizer, refuse_control_tokens=False).render(messages)
    assert tokenizer.convert_tokens_to_ids(token) in allowed


def test_a_prompt_needs_room_for_one_token_of_answer(tokenizer):
    n = len(chat(tokenizer).render(user("Hello")))
    exact = chat(tokenizer, max_model_len=n + 1)
    assert exact.room(exact.render(user("Hello"))) == 1
    with pytest.raises(ItemError) as caught:
        chat(tokenizer, max_model_len=n).render(user("Hello"))
    assert caught.value.reason == "prompt_too_long"
    assert str(n) in caught.value.detail


def test_what_the_template_refuses_is_refused_with_its_words(with_bos):
    with pytest.raises(ItemError) as caught:
        chat(with_bos).render([{"role": "system", "content": "Be kind."}, *user("Hello")])
    assert caught.value.reason == "template_failed"
    assert "no system role" in caught.value.detail


def test_a_base_model_is_refused(tokenizer):
    tokenizer.chat_template = None
    with pytest.raises(ModelError, match="no chat template"):
        chat(tokenizer)


def test_the_likeliest_tokens_come_in_order_with_their_texts(tokenizer):
    told = chat(tokenizer)
    capital, stop = tokenizer.encode(" capital")[0], tokenizer.convert_tokens_to_ids("<|im_end|>")
    part = tokenizer.encode("🙂")[0]
    found = [(stop, -2.0), (capital, -0.5), (part, -9.0), (7, -2.0)]
    assert told.likeliest(found, 4) == [
        [" capital", -0.5],
        ["<|im_end|>", -2.0],
        [tokenizer.decode([7]), -2.0],
        ["\N{REPLACEMENT CHARACTER}", -9.0],
    ]
    assert told.likeliest(reversed(found), 2) == [[" capital", -0.5], ["<|im_end|>", -2.0]]


LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{{ a * b }}{% endfor %}{% endfor %}"
DOUBLES = (
    "{% set ns = namespace(x='x' * 1000) %}{% for a in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}"
)


@pytest.mark.parametrize(
    ("template", "detail"),
    [
        (LOOPS, "takes longer than 0.2 s"),
        (DOUBLES, "needs more than|takes longer"),
        ("{{ 'x' * 17000000 }}", "writes 17,000,000 characters"),
        ("{% if false %}x{% endif %}", "writes nothing"),
        ("{{ raise_exception('\x1b[31mred\u202e') }}", "^TemplateError: \ufffd\\[31mred\ufffd$"),
    ],
)
def test_what_a_template_does_to_its_machine_is_a_failure_within_bounds(tokenizer, monkeypatch, template, detail):
    if template in (LOOPS, DOUBLES):
        monkeypatch.setattr("prefdata.models.bounded.SECONDS", 0.2)
    tokenizer.chat_template = template
    with pytest.raises(ItemError, match="template_failed") as failed:
        chat(tokenizer).render(user("Hello"))
    assert re.search(detail, failed.value.detail)
    assert failed.value.detail.isprintable()


def test_a_template_that_never_ends_ends_the_run(tokenizer, monkeypatch):
    monkeypatch.setattr("prefdata.models.bounded.SECONDS", 0.1)
    tokenizer.chat_template = LOOPS
    prompts = chat(tokenizer)
    for _ in range(2):
        with pytest.raises(ItemError):
            prompts.render(user("Hello"))
    with pytest.raises(ModelError, match="never ends"):
        prompts.render(user("Hello"))


@pytest.mark.parametrize(
    ("end", "mark"), [("<think>\n", "<think>"), ("[THINK]", "[THINK]"), ("", ""), ("<think> x", "")]
)
def test_a_prompt_says_whether_it_has_opened_reasoning(tokenizer, end, mark):
    ids = tokenizer(f"<|im_start|>assistant\n{end}", add_special_tokens=False)["input_ids"]
    assert chat(tokenizer).opened(ids) == mark
    assert (
        chat(tokenizer, thinking_marks=("Thought:", "Answer:")).opened(tokenizer("Thought:")["input_ids"]) == "Thought:"
    )


def test_marks_of_reasoning_that_are_control_tokens_stay_in_the_answer(tokenizer):
    tokenizer.add_special_tokens({"additional_special_tokens": ["[THINK]", "[/THINK]", "<|channel|>", "<|message|>"]})
    prompts = chat(tokenizer)

    def revealed(text):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        return prompts.revealed(ids, tokenizer.decode(ids, skip_special_tokens=True))

    assert revealed("[THINK]a b[/THINK]c<|im_end|>") == "[THINK]a b[/THINK]c"
    harmony = "<|channel|>analysis<|message|>a b<|channel|>final<|message|>c"
    assert revealed(f"{harmony}<|im_end|>") == harmony
    assert revealed("<think>a b</think>c<|im_end|>") == "<think>a b</think>c"
    assert prompts.revealed([0], "as the engine decoded it") == "as the engine decoded it"


def test_memory_is_limited_where_no_gpu_and_no_other_thread_needs_it(monkeypatch):
    import resource
    import sys
    from concurrent.futures import ThreadPoolExecutor
    from types import SimpleNamespace

    from prefdata.models.bounded import bounded

    def limit():
        with bounded():
            return resource.getrlimit(resource.RLIMIT_AS)[0]

    before = resource.getrlimit(resource.RLIMIT_AS)
    assert limit() != resource.RLIM_INFINITY
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(lambda _: limit(), range(2))) == [before[0]] * 2
    cuda = SimpleNamespace(is_initialized=lambda: True)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert limit() == before[0]
    assert resource.getrlimit(resource.RLIMIT_AS) == before
