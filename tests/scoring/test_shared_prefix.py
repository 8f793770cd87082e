"""`SharedPrefix` against whole rows, on a tiny Llama: any grouping, any lengths, any budget."""

from __future__ import annotations

import random
from typing import Any

import pytest

from prefdata.scoring.rewards._shared_prefix import SharedPrefix, _split


@pytest.fixture(scope="module")
def base() -> Any:
    import torch
    from transformers import LlamaConfig, LlamaModel

    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
    )
    return LlamaModel(config).eval()


def rows_in_groups(draw: random.Random, groups: int) -> tuple[list[list[int]], list[int]]:
    """Answers of very different lengths after prompts of very different lengths; one group of one, one of twins."""
    rows, of = [], []
    for group in range(groups):
        prompt = [draw.randrange(50) for _ in range(draw.choice((1, 5, 20, 60)))]
        for _ in range(1 if group == 0 else draw.randint(2, 5)):
            rows.append(prompt + [draw.randrange(50) for _ in range(draw.choice((1, 2, 10, 70)))])
            of.append(group)
    rows += [rows[-1], rows[-1][:-1]]
    of += [of[-1], of[-1]]
    order = draw.sample(range(len(rows)), len(rows))
    return [rows[place] for place in order], [of[place] for place in order]


@pytest.mark.parametrize("batch_tokens", [1, 90, 400, 100_000])
def test_states_are_those_of_whole_rows(base: Any, batch_tokens: int) -> None:
    import torch

    rows, groups = rows_in_groups(random.Random(batch_tokens), 6)
    found: dict[int, Any] = {}
    with torch.inference_mode():
        for places, states in SharedPrefix(base, batch_tokens).last_states(rows, groups):
            assert not found.keys() & set(places)
            found |= dict(zip(places, states, strict=True))
        for place, row in enumerate(rows):
            alone = base(input_ids=torch.tensor([row])).last_hidden_state[0, -1]
            assert torch.allclose(found[place], alone, atol=1e-5), place
    assert found.keys() == set(range(len(rows)))


def test_a_prompt_is_computed_once(base: Any) -> None:
    import torch

    draw = random.Random(1)
    prompts = [[draw.randrange(50) for _ in range(100)] for _ in range(3)]
    rows = [prompt + [draw.randrange(50) for _ in range(10)] for prompt in prompts for _ in range(5)]
    tokens: list[int] = []
    handle = base.register_forward_pre_hook(
        lambda _module, _args, options: tokens.append(options["input_ids"].numel()), with_kwargs=True
    )
    with torch.inference_mode():
        list(SharedPrefix(base, 2000).last_states(rows, [place // 5 for place in range(15)]))
    handle.remove()
    assert 3 * 100 + 15 * 9 <= sum(tokens) <= 3 * 100 + 15 * 10 + 15
    assert sum(map(len, rows)) == 15 * 110


def test_rows_are_cut_where_their_group_parts_and_keep_a_token() -> None:
    shared = list(range(20))
    rows = [[*shared, 7, 8], [*shared, 9], shared, [5, 6], [5, 6, 7]]
    prefixes, cuts = _split(rows, ["a", "a", "a", "b", "b"])
    assert prefixes == [shared[:19]]
    assert [(cut.row, cut.prefix, cut.rest) for cut in cuts] == [
        (0, 0, [19, 7, 8]),
        (1, 0, [19, 9]),
        (2, 0, [19]),
        (3, None, [5, 6]),
        (4, None, [5, 6, 7]),
    ]


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({}, True),
        ({"model_type": "qwen3", "layer_types": ["full_attention"] * 2, "sliding_window": 512}, True),
        ({"model_type": "qwen2", "layer_types": ["full_attention", "sliding_attention"]}, False),
        ({"model_type": "mistral", "sliding_window": 4096}, False),
        ({"model_type": "mistral", "sliding_window": None}, True),
        ({"rope_parameters": {"rope_type": "dynamic"}}, False),
        ({"rope_parameters": {"rope_type": "llama3"}}, True),
        ({"model_type": "deberta-v2"}, False),
        ({"model_type": "gemma2"}, False),
    ],
)
def test_only_causal_models_that_see_everything_share(changes: dict[str, Any], fits: bool) -> None:
    from types import SimpleNamespace

    assert SharedPrefix.supports(SimpleNamespace(**{"model_type": "llama", **changes})) is fits
