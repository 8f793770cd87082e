"""Saves tiny weights with the published names and token ids of ArmoRM."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

LLAMA3 = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + "
    "message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
    "{% endif %}{{ content }}{% endfor %}"
)


CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"


SPLIT = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


BOS, EOT = 128000, 128009


ASSISTANT_TURN = [128006, 78191, 128007, 271]


N, WIDTH, HIDDEN_GATE, TEMPERATURE = 19, 16, 8, 10


def save_tokenizer(folder: Path, *, template: str = LLAMA3) -> None:
    """A byte-level tokenizer with Llama 3's ids for what the gate looks for."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {char: number for number, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = [("Ċ", "Ċ")]
    vocabulary["ĊĊ"] = 271
    for end in range(2, len("assistant") + 1):
        merges.append(("assistant"[: end - 1], "assistant"[end - 1]))
        vocabulary["assistant"[:end]] = 78191 if end == len("assistant") else 1000 + end
    special = {
        "<|begin_of_text|>": BOS,
        "<|start_header_id|>": 128006,
        "<|end_header_id|>": 128007,
        "<|eot_id|>": EOT,
        "[PAD]": 128256,
    }
    backend = Tokenizer(models.BPE(vocab=vocabulary | special, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    assert all(backend.token_to_id(name) == number for name, number in special.items())
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>", pad_token="[PAD]"
    )
    tokenizer.model_max_length = 400
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)


def head_tensors() -> dict[str, Any]:
    """Draws the heads so that neither gate, matrix nor scale is near to doing nothing."""
    import torch

    torch.manual_seed(9)
    widths = [WIDTH, HIDDEN_GATE, HIDDEN_GATE, HIDDEN_GATE, N]
    tensors = {
        "regression_layer.weight": torch.randn(N, WIDTH),
        "reward_transform_matrix": torch.eye(N) - 0.4 * torch.rand(N, N),
        "gating.logit_scale": torch.tensor([1.7]),
    }
    for layer, (before, after) in enumerate(pairwise(widths)):
        tensors[f"gating.layers.{layer}.weight"] = torch.randn(after, before) * 1.5
        tensors[f"gating.layers.{layer}.bias"] = torch.randn(after)
    return tensors


def save_model(folder: Path, *, template: str = LLAMA3, shards: int = 1) -> Path:
    """Saves the layout of the published repository: backbone under `model.`, the heads next to it."""
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=128257,
        hidden_size=WIDTH,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=BOS,
        eos_token_id=EOT,
        pad_token_id=128256,
        initializer_range=0.3,
        num_objectives=N,
        gating_hidden_dim=HIDDEN_GATE,
        gating_n_hidden=3,
        gating_temperature=TEMPERATURE,
    )
    torch.manual_seed(5)
    backbone = {f"model.{name}": tensor for name, tensor in LlamaModel(config).state_dict().items()}
    save_tokenizer(folder, template=template)
    written = config.to_dict() | {
        "architectures": ["LlamaForRewardModelWithGating"],
        "auto_map": {"AutoModelForSequenceClassification": "modeling_custom.LlamaForRewardModelWithGating"},
    }
    (folder / "config.json").write_text(json.dumps(written))
    tensors = list((backbone | head_tensors()).items())
    for shard in range(shards):
        name = "model.safetensors" if shards == 1 else f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        save_file(dict(tensors[shard::shards]), folder / name, metadata={"format": "pt"})
    if shards > 1:
        places = {
            name: f"model-{number % shards + 1:05}-of-{shards:05}.safetensors"
            for number, (name, _) in enumerate(tensors)
        }
        index = {"metadata": {"total_size": 0}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def config(folder: Path, **options: Any) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "dtype": "float32",
        "max_length": None,
        "truncate": True,
        "refuse_control_tokens": True,
        "chat_template_kwargs": {},
        "template_date": "2024-07-26",
        "batch_tokens": 600,
        "objectives": False,
    } | options
