"""The folder of a trained model as a training leaves it, without a training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RECIPE = {"name": "small", "prompts": {"kind": "sample"}, "pairs": {"kind": "wpo_hybrid_v2"}}


def training_facts(**changes: Any) -> dict[str, Any]:
    """The content of `training.json`."""
    from prefdata.training import WPOTraining
    from prefdata.training.launch import _parameters
    from prefdata.training.preflight import Preflight

    preflight = Preflight("train", rows_in=10, rows_trained=9)
    preflight.count("a", ["prompt_fills"])
    training = WPOTraining(model="HuggingFaceTB/SmolLM2-135M-Instruct")
    return {
        "training": training.dump(),
        "parameters": _parameters(training),
        "grouped": True,
        "lineage": {"repo": "me/pairs", "revision": "f" * 40, "recipe_fingerprint": "1" * 64},
        "plan": {"batch_size": 128, "processes": 1, "accumulation": 16, "steps": 20, "padding": 1.17},
        "preflight": [preflight.dump()],
        "references": {"train": {"key": "2" * 64, "rows": 9}},
        "precision": "fp32",
        "model": {"model_pins": {"sha": "3" * 40}, "template_date": None},
        "result": {"steps": 20, "device": "cpu"},
        "versions": {"torch": "2.13.0", "trl": "1.16.0"},
        **changes,
    }


def model_folder(where: Path, words: str = "good", *, adapter: bool = False, **changes: Any) -> Path:
    """A model of two numbers; other words make another model. `changes` are of the facts."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from safetensors.numpy import save

    facts = training_facts(**changes)
    if adapter:
        facts["training"]["lora"] = {"rank": 16}
    weights = save({"weight": np.frombuffer(words.ljust(8).encode(), dtype=np.float32)})
    files: dict[str, bytes] = {
        "tokenizer.json": json.dumps({"words": words}).encode(),
        "tokenizer_config.json": b"{}",
        "chat_template.jinja": b"{{ messages }}",
        "metrics.jsonl": b'{"step": 1, "loss": 0.69}\n',
        "training.json": json.dumps(facts).encode(),
    }
    if adapter:
        files["adapter_config.json"] = json.dumps({"base_model_name_or_path": facts["training"]["model"]}).encode()
        files["adapter_model.safetensors"] = weights
    else:
        files |= {"config.json": b'{"model_type": "llama"}', "model.safetensors": weights}
    # What stays on this machine: the job, its tokens, checkpoints and states of the optimiser.
    kept = {"job.json": b"{}", "checkpoints/checkpoint-20/optimizer.pt": b"state", "tokens-train.parquet": b"ids"}
    for name, content in {**files, **{f"training/{name}": content for name, content in kept.items()}}.items():
        (where / name).parent.mkdir(parents=True, exist_ok=True)
        (where / name).write_bytes(content)
    pq.write_table(pa.table({"id": ["a"], "reason": ["prompt_fills"]}), where / "train-dropped.parquet")
    write_card(where, facts)
    return where


def write_card(folder: Path, facts: dict[str, Any]) -> None:
    """Writes card, curves and manifest as the command does at its end, each time that it runs."""
    from prefdata.flow.train import _Source, _write_card
    from prefdata.training.launch import TrainedModel

    source = _Source("small", None, folder, RECIPE, facts["lineage"])
    _write_card(TrainedModel(folder, facts, [{"step": 1, "loss": 0.69}]), source)


def published(folder: Path) -> dict[str, bytes]:
    """Path → content of what a push publishes of it."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
