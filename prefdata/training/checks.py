"""What would stop a training, found before a tokenizer or a model is loaded."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import os
from typing import Any

from prefdata.errors import MissingExtraError, RecipeError, UserError, closest
from prefdata.training.base import Training

__all__ = ["check_arguments", "check_packages", "check_strategy", "gpu_count", "per_process_steps"]

_OURS = {
    "output_dir": "--out",
    "learning_rate": "learning_rate",
    "beta": "beta",
    "num_train_epochs": "epochs",
    "per_device_train_batch_size": "per_device_batch_size",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "optim": "optimizer",
    "lr_scheduler_type": "schedule",
    "warmup_steps": "warmup",
    "max_length": "max_length",
    "seed": "seed",
    "bf16": "precision",
    "precompute_ref_log_probs": "cache_reference",
    "train_sampling_strategy": "group_by_length",
    "truncation_mode": "truncation",
    "deepspeed": "strategy",
    "fsdp": "strategy",
    "fsdp_config": "strategy",
    "model_init_kwargs": "attention, precision",
    "remove_unused_columns": "nothing: all columns of the token file are needed",
    "padding_free": "nothing: TRL 1.16 ignores it",
    "use_cpu": "the machine",
    "resume_from_checkpoint": "nothing: the same command goes on by itself",
}
"""Arguments of TRL that a field of `Training` decides → that field."""
_KNOWN_OPTIMIZERS = frozenset(("adamw_torch", "adamw_torch_fused", "rmsprop", "sgd"))
_KNOWN_SCHEDULES = frozenset(("linear", "cosine", "constant", "constant_with_warmup", "cosine_with_min_lr"))
_WHOLE_MATRICES = ("galore", "apollo", "lomo", "adafactor", "muon", "schedule_free", "stable_adamw")
"""Optimisers that need a parameter's shape, or steps of their own, which flat shards don't have."""


def gpu_count() -> int:
    """Counts the GPUs that a process of this machine can see."""
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError.of("training", "torch", "train") from error
    return int(torch.cuda.device_count())


def check_packages(training: Training) -> None:
    """Checks that everything that will be imported is installed.

    Raises:
        MissingExtraError: a package is missing.
    """
    packages = ["torch", "transformers", "trl", "accelerate", "datasets"]
    packages += ["peft"] if training.lora is not None else []
    packages += ["deepspeed"] if training.strategy.startswith("zero") else []
    if missing := MissingExtraError.all_of("training", "train", *packages):
        raise missing[0]
    quantized = training.lora is not None and training.lora.quantization != "none"
    if quantized and importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtraError(
            "lora.quantization = '4bit' needs the package 'bitsandbytes', which is not installed",
            hint="pip install bitsandbytes",
        )
    if training.attention == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
        raise MissingExtraError(
            "attention = 'flash_attention_2' needs the package 'flash_attn', which is not installed",
            hint="pip install flash-attn, or attention = 'sdpa'",
        )


def check_strategy(training: Training, *, processes: int, nodes: int, gpus: int) -> None:
    """Checks that devices, strategy and optimiser go together.

    Raises:
        UserError: they don't.
    """
    here = -(-processes // nodes)
    most = gpus or max(1, os.cpu_count() or 1)
    if here > most:
        what = f"{gpus} GPUs" if gpus else f"no GPU and {most} processors"
        raise UserError(
            f"{here} processes on this machine, which has {what}",
            valid=f"--processes 1 to {most}",
            hint="leave --processes out: the batch stays the same, by more accumulation",
        )
    if training.strategy == "fsdp2" and not gpus:
        raise UserError(
            "strategy = 'fsdp2' needs GPUs: accelerate takes FSDP on a CPU for nothing, without a word",
            valid="none, zero2, zero3",
            hint="--set strategy=none",
        )
    if training.lora is not None and training.lora.quantization != "none" and not gpus:
        raise UserError("lora.quantization = '4bit' needs a GPU", hint="--set lora.quantization=none")
    if not gpus and (training.attention == "flash_attention_2" or training.precision == "bf16"):
        wrong = "attention = 'flash_attention_2'" if training.precision != "bf16" else "precision = 'bf16'"
        raise UserError(f"{wrong} needs a GPU", hint="leave it out: a CPU trains in float32 with 'sdpa'")
    whole = next((name for name in _WHOLE_MATRICES if name in training.optimizer), None)
    if training.strategy in ("zero2", "zero3", "zero3_offload") and whole:
        raise UserError(
            f"strategy = {training.strategy!r} can't shard the optimiser {training.optimizer!r}: {whole} needs whole "
            "parameters",
            valid="adamw_torch, adamw_torch_fused, rmsprop, sgd, and others that work element by element",
            hint="--set strategy=none, or --set optimizer=adamw_torch",
        )


def per_process_steps(training: Training, processes: int) -> int:
    """Returns the forward passes of each process in one optimiser step, so that the batch is the recipe's.

    Raises:
        UserError: the batch can't be divided so.
    """
    together = training.per_device_batch_size * processes
    if training.batch_size % together:
        raise UserError(
            f"a batch of {training.batch_size} ({training.per_device_batch_size} x "
            f"{training.gradient_accumulation_steps} x {training.devices}) doesn't divide over {processes} processes "
            f"of {training.per_device_batch_size}",
            valid=f"a batch that {together} divides",
            hint="change --processes, or set per_device_batch_size",
        )
    return training.batch_size // together


def check_arguments(training: Training) -> None:
    """Checks `trl` against the fields of TRL's configuration, and the names of optimiser and schedule.

    Raises:
        RecipeError: a name is unknown, or a field of the training decides it.
    """
    ours = {**_OURS, **({"loss_type": "kind", "use_weighting": "kind"} if training.own_loss else {})}
    for name in training.trl:
        if name.startswith(("hub_", "push_to_hub")):
            raise RecipeError(
                f"trl.{name}: a training publishes nothing", hint="prefdata push MODEL_DIR OWNER/NAME, when it is done"
            )
        if name in ours:
            raise RecipeError(f"trl.{name}: decided by {ours[name]}", hint=f"set {ours[name]} of the training")
    if training.trl.get("sync_ref_model") and training.cache_reference:
        raise RecipeError(
            "trl.sync_ref_model: the reference moves, so it can't be cached", hint="--set cache_reference=false"
        )
    if training.trl:
        names = [field.name for field in dataclasses.fields(_config(training))]
        for name in training.trl:
            if name not in names:
                raise RecipeError(
                    f"trl.{name}: not an argument of {training.trl_config}", valid=closest(name, names[:400])
                )
    if training.optimizer not in _KNOWN_OPTIMIZERS or training.schedule not in _KNOWN_SCHEDULES:
        _check_names(training)


def _check_names(training: Training) -> None:
    from transformers.trainer_utils import SchedulerType
    from transformers.training_args import OptimizerNames

    for name, kinds in (("optimizer", OptimizerNames), ("schedule", SchedulerType)):
        value, valid = getattr(training, name), [str(kind.value) for kind in kinds]
        if value not in valid:
            raise RecipeError(f"{name}: transformers has no {value!r}", valid=closest(value, valid))


def _config(training: Training) -> Any:
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    module, _, name = training.trl_config.rpartition(".")
    return getattr(importlib.import_module(module), name)
