"""Saves a tiny Llama classifier, and makes prompts with answers for it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from prefdata.records import Answers, Candidate, Message, Prompt

TEMPLATE = "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"


BOS, END = "<|bos|>", "<|end|>"


def save_tokenizer(folder: Path, *, template: str | None = TEMPLATE) -> int:
    """A byte-level tokenizer whose padding token is its end-of-text token, and adds a BOS to plain texts."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    names = [BOS, END, "<|user|>", "<|assistant|>", "<|system|>"]
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, backend.token_to_id(BOS))]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=BOS, eos_token=END, pad_token=END, model_max_length=512
    )
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def save_model(folder: Path, *, labels: int = 1, scale: float = 1.0, head_dim: int = 8, **token_options: Any) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    size = save_tokenizer(folder, **token_options)
    end = size - 4
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=4 * head_dim,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        num_labels=labels,
        bos_token_id=size - 5,
        eos_token_id=end,
        pad_token_id=end,
        initializer_range=0.3,
    )
    torch.manual_seed(4)
    model = LlamaForSequenceClassification(config)
    with torch.no_grad():
        model.score.weight.mul_(scale)
    model.save_pretrained(folder)
    return folder


WORDS = ["the", "answer", "is", "four", "because", "two", "and", "two", "make", "ünïcode", "四", "and", "so", "on"]


def tasks(n: int, *, seed: int = 0) -> list[Answers]:
    draw = random.Random(seed)
    made = []
    for i in range(n):
        messages = (Message(role="user", content=f"question {i}"),)
        texts = ["", *(" ".join(draw.choices(WORDS, k=draw.randint(1, 40))) for _ in range(3))]
        candidates = tuple(Candidate(f"p{i}", "policy", j, text) for j, text in enumerate(texts))
        made.append(Answers(Prompt(f"p{i}", messages), candidates))
    return made


def config(folder: Path, **options: Any) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "dtype": "float32",
        "max_length": None,
        "truncate": True,
        "refuse_control_tokens": True,
        "chat_template_kwargs": {},
        "template_date": "2024-07-26",
        "batch_tokens": 700,
    } | options
