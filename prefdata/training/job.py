"""The job of a training process as plain JSON: arguments of TRL, files, keys of the reference, and the command."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from prefdata.lazy import pq
from prefdata.spec import JSON
from prefdata.spec.code import file_of
from prefdata.training.base import Training
from prefdata.training.reference import hash_weights, reference_key

__all__ = ["COMPLETE", "frequencies", "launch_command", "make_job", "reference_keys"]

_TOKENS_A_BATCH = {"cpu": 8192, "cuda": 65536}
"""Padded tokens of a batch of the reference's pass."""
COMPLETE = "prefdata.complete"
"""The file that says that a checkpoint was written to its end."""
_BUNDLED = Path(__file__).parent / "deepspeed"


def make_job(
    training: Training,
    model: Path,
    work: Path,
    tokens: Mapping[str, Path],
    *,
    device: str,
    processes: int,
    accumulation: int,
    other: Path | None = None,
) -> dict[str, JSON]:
    """Returns the job without what follows from the number of steps and from the keys of the reference.

    Args:
        training: objective and hyper-parameters.
        model: the folder of the model that training starts from.
        work: the folder of the job.
        tokens: role of a split (`train`, `test`) → its file of tokens.
        device: `cpu` or `cuda`.
        processes: on all machines together.
        accumulation: forward passes of each process in one optimiser step.
        other: the folder of the reference model, where it is another one.
    """
    precision = {"auto": "bf16" if device == "cuda" else "fp32"}.get(training.precision, training.precision)
    sharded = training.strategy.startswith("zero")
    half = precision == "bf16" and (sharded or training.lora is not None)
    model_arguments = {"dtype": "bfloat16" if half else "float32", "attn_implementation": training.attention}
    arguments = {
        **_arguments(training, device=device, sharded=sharded, processes=processes),
        "output_dir": str(work / "checkpoints"),
        "gradient_accumulation_steps": accumulation,
        "bf16": precision == "bf16",
        "eval_strategy": "epoch" if "test" in tokens else "no",
    }
    if training.trainer != "cpo":
        arguments["model_init_kwargs"] = model_arguments
    reference = {"reference_folder": str(other), "reference_weights": hash_weights(other)} if other else {}
    return {
        **reference,
        "training": training.dump(),
        "code_folder": str(file_of(type(training)).parent) if training.is_own() else None,
        "model_folder": str(model),
        "model_arguments": model_arguments,
        "weights": hash_weights(model),
        "tokens": {role: str(file) for role, file in tokens.items()},
        "work": str(work),
        "checkpoints": str(work / "checkpoints"),
        "device": device,
        "precision": precision,
        "strategy": training.strategy,
        "deepspeed": str(_BUNDLED / f"{training.strategy}.json") if sharded else None,
        "reference_tokens": _TOKENS_A_BATCH[device],
        "arguments": arguments,
    }


def _arguments(training: Training, *, device: str, sharded: bool, processes: int) -> dict[str, JSON]:
    """Returns TRL's arguments that follow from the part and from where it runs."""
    arguments: dict[str, JSON] = {
        **training.trl_arguments(),
        "per_device_eval_batch_size": training.per_device_batch_size,
        "use_cpu": device == "cpu" and not sharded,
        "gradient_checkpointing": device == "cuda",
        "dataloader_pin_memory": device == "cuda",
        "report_to": "none",
        "disable_tqdm": not sys.stderr.isatty(),
        "remove_unused_columns": training.trainer == "kto",
    }
    if training.trainer == "dpo":
        arguments["precompute_ref_log_probs"] = training.cache_reference
    if device == "cpu" and processes > 1 and not sharded:
        arguments["ddp_backend"] = "gloo"
    if training.strategy == "fsdp2":
        arguments |= {"fsdp": True, "fsdp_config": str(_BUNDLED / "fsdp2.json")}
    return arguments


def frequencies(steps: int) -> dict[str, JSON]:
    """Returns TRL's arguments for how often to log and save.

    Numbers are logged a thousand times at most and checkpoints saved ten times; a short training saves its end only.
    """
    every = max(1, steps // 1000)
    return {
        "logging_steps": every,
        "logging_first_step": True,
        "save_strategy": "steps",
        "save_steps": steps // 10 if steps >= 20 else steps,
        "save_total_limit": 2,
    }


def reference_keys(
    job: Mapping[str, JSON], training: Training, pins: Mapping[str, JSON], token_hashes: Mapping[str, str]
) -> dict[str, JSON]:
    """Returns role of a split → key of its reference and number of rows; empty where nothing is cached.

    Args:
        job: from `make_job`.
        training: objective and hyper-parameters.
        pins: of the model.
        token_hashes: role of a split → SHA-256 of its ids, from `hash_tokens`.
    """
    if not training.cache_reference or training.trainer != "dpo":
        return {}
    shared = {
        "weights": job.get("reference_weights", job["weights"]),
        "tokenizer": pins["tokenizer_sha256"],
        "template": pins["chat_template_sha256"],
        "limits": [training.max_length, training.max_prompt_length, training.truncation, training.add_marks],
        "dtype": [job["model_arguments"]["dtype"], job["precision"]],
        "attention": training.attention,
        "quantization": "none" if training.lora is None else training.lora.quantization,
        "ld_alpha": training.trl.get("ld_alpha"),
        "device": job["device"],
        "versions": [version("torch"), version("transformers")],
    }
    keys = {}
    for role, file in job["tokens"].items():
        key = reference_key({**shared, "tokens": token_hashes[role]})
        keys[role] = {"key": key, "rows": pq.read_metadata(file).num_rows}
    return keys


def launch_command(job: Mapping[str, JSON], processes: int, nodes: int) -> tuple[str, ...]:
    """Returns the command that starts the training processes of one machine."""
    worker = ("-m", "prefdata.training._trainer_worker", str(Path(job["work"]) / "job.json"))
    if processes == 1 and job["strategy"] == "none":
        return (sys.executable, *worker)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes // nodes)]
    if nodes > 1:
        launcher += ["--nnodes", str(nodes), "--rdzv-backend", "c10d", "--rdzv-endpoint", "$MASTER_ADDR:29500"]
    else:
        launcher += ["--standalone"]
    return (*launcher, *worker)
