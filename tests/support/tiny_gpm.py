"""Saves tiny preference models with the published names of GPM, and computes their scores one by one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefdata.records import Answers, Message

BOS, EOS, TURN = "<bos>", "<eos>", "<turn>"


TEMPLATE = "{{ bos_token }}{% for m in messages %}<turn>{{ m.role }}\n{{ m.content }}<turn>\n{% endfor %}"


HIDDEN, DIM, POSITIONS = 32, 6, 512


def save_tokenizer(folder: Path, template: str | None = TEMPLATE) -> int:
    """A byte-level tokenizer that begins every text with BOS, as Llama's and Gemma's do; so does its template."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in (BOS, EOS, TURN)])
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, backend.token_to_id(BOS))]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=BOS, eos_token=EOS)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def save_model(
    folder: Path, *, body: str = "llama", prompt_head: bool = True, dim: int = DIM, shards: bool = False
) -> Path:
    """Random weights under the names of general-preference/GPM-*: a causal language model and its two heads."""
    import torch
    from safetensors.torch import save_file
    from transformers import GemmaConfig, GemmaForCausalLM, LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {
        "vocab_size": save_tokenizer(folder),
        "hidden_size": HIDDEN,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": POSITIONS,
        "initializer_range": 0.3,
    }
    torch.manual_seed(5)
    model = LlamaForCausalLM(LlamaConfig(**options)) if body == "llama" else GemmaForCausalLM(GemmaConfig(**options))
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    tensors = dict(model.state_dict())
    if body == "gemma":
        del tensors["lm_head.weight"]  # Tied, and so not stored.
    tensors["value_head.weight"] = torch.randn(dim, HIDDEN)
    if prompt_head:
        tensors["prompt_head.weight"] = torch.randn(dim // 2, HIDDEN) * 0.3
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    if not shards:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    names = sorted(tensors)
    parts = {f"model-0000{number + 1}-of-00003.safetensors": names[number::3] for number in range(3)}
    for file, of_file in parts.items():
        save_file({name: tensors[name] for name in of_file}, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, of_file in parts.items() for name in of_file}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


WORDS = ["the", "answer", "is", "four", "because", "two", "and", "two", "make", "ünïcode", "四", "so", "on"]


class Reference:
    """gpm_example_usage.py in plain words: one text at a time, nothing padded, and the matrix R written out."""

    def __init__(self, folder: Path, limit: int = 4096) -> None:
        from safetensors.torch import load_file
        from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

        self.limit = limit
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        self.weights: dict[str, Any] = {}
        for file in folder.glob("*.safetensors"):
            self.weights |= load_file(file)
        self.body = AutoModel.from_config(AutoConfig.from_pretrained(folder)).eval()
        self.body.load_state_dict(
            {name[len("model.") :]: value for name, value in self.weights.items() if name.startswith("model.")}
        )

    def ids(self, messages: Sequence[Message]) -> list[int]:
        text = BOS + "".join(f"{TURN}{turn['role']}\n{turn['content']}{TURN}\n" for turn in messages)
        ids = [self.tokenizer.bos_token_id, *self.tokenizer(text, add_special_tokens=False)["input_ids"]]
        return ids[: self.limit]

    def read(self, answers: Answers, response: str) -> tuple[Any, Any]:
        """The embedding of an answer, and the weights of its prompt."""
        import torch

        prompt = list(answers.prompt.messages)
        ids = self.ids([*prompt, Message(role="assistant", content=response)])
        ids[-1] = self.tokenizer.eos_token_id
        with torch.no_grad():
            states = self.body(torch.tensor([ids])).last_hidden_state[0]
            value = self.weights["value_head.weight"] @ states[-1]
            gates = torch.ones(len(value) // 2)
            if "prompt_head.weight" in self.weights:
                gates = (self.weights["prompt_head.weight"] @ states[len(self.ids(prompt[:1])) - 1]).softmax(0)
        return value / value.norm(), gates

    def scores(self, answers: Answers, tau: float = 0.1) -> list[list[float]]:
        """The K x K table of v_i R^T v_j / tau, with the weights that i's own pass gave."""
        import torch

        read = [self.read(answers, candidate.response) for candidate in answers.candidates]
        table = []
        for one, gates in read:
            rotation = torch.zeros(len(one), len(one))
            for k, gate in enumerate(gates):
                rotation[2 * k, 2 * k + 1] = -gate
                rotation[2 * k + 1, 2 * k] = gate
            table.append([float(one @ rotation.T @ other) / tau for other, _ in read])
        return table


def config(folder: Path, **options: Any) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "dtype": "float32",
        "truncate": True,
        "refuse_control_tokens": True,
        "chat_template_kwargs": {},
        "template_date": "2024-07-26",
        "batch_tokens": 600,
        "max_length": POSITIONS,
        "bos": "as_trained",
        "gate_at": "first_message",
        "last_token": "end_of_text",
        "prompt_form": "{prompt}",
    } | options
