"""Saves a tiny DeBERTa ranker with the published names of PairRM, and computes its scores one by one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SOURCE, FIRST, SECOND = "<|source|>", "<|candidate1|>", "<|candidate2|>"


HIDDEN, TASKS = 32, 2


def save_tokenizer(folder: Path) -> int:
    """A Unigram tokenizer laid out as DeBERTa-v3's, whose normaliser is not the one that transformers would make."""
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:<>?|[]"
    specials = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    words = ["▁the", "▁answer", "▁is", "▁USER", "▁Response"]
    vocabulary = [(text, 0.0) for text in specials] + [(text, -2.0) for text in words] + [(c, -9.0) for c in letters]
    backend = Tokenizer(models.Unigram(vocabulary, unk_id=3))
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("\n", " ")])
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in (*specials, "[MASK]")])
    backend.add_tokens([SOURCE, FIRST, SECOND, "<|candidate|>"])
    backend.enable_truncation(16)  # A tokenizer is saved with what it was last used with.
    backend.save(str(folder / "tokenizer.json"))
    return backend.get_vocab_size()


def save_ranker(folder: Path, *, scale: float = 1.0, **changes: Any) -> Path:
    """Random weights under the names and in the shapes of llm-blender/PairRM-hf, with a head of two tasks."""
    import torch
    from safetensors.torch import save_file
    from transformers import DebertaV2Config, DebertaV2Model

    folder.mkdir(parents=True, exist_ok=True)
    size = save_tokenizer(folder)
    config = DebertaV2Config(
        vocab_size=size,
        hidden_size=HIDDEN,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        relative_attention=True,
        position_buckets=16,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        initializer_range=0.4,
    )
    own = {"n_tasks": TASKS, "drop_out": 0.05, "source_prefix_id": size - 4, "cand1_prefix_id": size - 3}
    own |= {"cand2_prefix_id": size - 2, "cand_prefix_id": size - 1}
    (folder / "config.json").write_text(json.dumps(config.to_dict() | own | changes))
    torch.manual_seed(3)
    tensors = {f"pretrained_model.{name}": value for name, value in DebertaV2Model(config).state_dict().items()}
    tensors["head_layer.1.weight"] = torch.randn(HIDDEN, 2 * HIDDEN) * 0.3
    tensors["head_layer.1.bias"] = torch.randn(HIDDEN)
    tensors["head_layer.4.weight"] = torch.randn(TASKS, HIDDEN) * scale
    tensors["head_layer.4.bias"] = torch.randn(TASKS)
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "model.safetensors")
    return folder


WORDS = ["the", "answer", "is", "four", "because", "two", "and", "2", "make", "ünïcode", "ＦＵＬＬ", "ﬁne", "so", "on"]


class Reference:
    """The card of llm-blender/PairRM-hf in plain words: its tokens, DeBERTa, and its head, one row at a time."""

    def __init__(self, folder: Path, source_max_length: int = 1224, candidate_max_length: int = 412) -> None:
        from safetensors.torch import load_file
        from transformers import DebertaV2Config, DebertaV2Model, PreTrainedTokenizerFast

        self.tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
        self.weights = load_file(folder / "model.safetensors")
        config = DebertaV2Config.from_pretrained(folder)
        self.body = DebertaV2Model(config).eval()
        prefix = "pretrained_model."
        self.body.load_state_dict(
            {name.removeprefix(prefix): value for name, value in self.weights.items() if name.startswith(prefix)}
        )
        self.limits = source_max_length, candidate_max_length

    def encode(self, text: str, limit: int) -> list[int]:
        return list(self.tokenizer(text, max_length=limit, truncation=True)["input_ids"])

    def ids(self, source: str, first: str, second: str) -> list[int]:
        ids = self.encode(SOURCE + source, self.limits[0])
        rest = (self.limits[0] + 2 * self.limits[1] - len(ids)) // 2
        return ids + self.encode(FIRST + first, rest) + self.encode(SECOND + second, rest)

    def logit(self, source: str, first: str, second: str) -> float:
        import torch

        ids = self.ids(source, first, second)
        with torch.no_grad():
            states = self.body(torch.tensor([ids])).last_hidden_state[0]
            at = [states[ids.index(self.tokenizer.convert_tokens_to_ids(name))] for name in (SOURCE, FIRST, SECOND)]

            def head(answer: Any) -> Any:
                inner = self.weights["head_layer.1.weight"] @ torch.cat([at[0], answer])
                inner = torch.tanh(inner + self.weights["head_layer.1.bias"])
                return self.weights["head_layer.4.weight"] @ inner + self.weights["head_layer.4.bias"]

            return float((head(at[1]) - head(at[2])).mean())

    def table(self, source: str, texts: Sequence[str]) -> list[list[float]]:
        return [
            [0.0 if i == j else self.logit(source, first, second) for j, second in enumerate(texts)]
            for i, first in enumerate(texts)
        ]


def config(folder: Path, **options: Any) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "dtype": "float32",
        "truncate": True,
        "refuse_control_tokens": True,
        "batch_tokens": 2000,
        "source_max_length": 1224,
        "candidate_max_length": 412,
    } | options
