"""`TrainingPlan`: steps, tokens, memory and the command of a training, before it runs."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path

from prefdata.spec import JSON
from prefdata.training.base import Training

__all__ = ["TrainingPlan", "count_parameters", "memory_by_strategy", "step_counts"]

_STATES = {"rmsprop": 1, "sgd": 0}
"""Optimiser → float32 numbers that it keeps for each parameter; others keep 2, as Adam does."""


@dataclass(frozen=True)
class TrainingPlan:
    """What a training will do."""

    kind: str
    model: str
    out: str
    rows_in: int
    rows_trained: int
    tokens: int
    """Of one epoch."""
    padding: float
    """Tokens computed over real tokens, with the order that will be used."""
    batch_size: int
    processes: int
    accumulation: int
    """Forward passes of each process in one optimiser step."""
    steps: int
    """For which the schedule is made."""
    stop_step: int
    """After which training stops."""
    parameters: int
    memory: dict[str, dict[str, float]]
    """Strategy → GiB on each device and, with offload, on the host."""
    reference_rows: int
    """Rows whose reference log-probabilities are not cached yet."""
    command: tuple[str, ...]
    """What starts the training processes."""
    warnings: tuple[str, ...] = ()

    def dump(self) -> dict[str, JSON]:
        """Returns the plan as JSON."""
        return {**self.__dict__, "command": list(self.command), "warnings": list(self.warnings)}


def step_counts(training: Training, rows: int, processes: int, accumulation: int) -> tuple[int, int]:
    """Returns the optimiser steps of the schedule, and the step after which training stops.

    The count is that of transformers' trainer: a last, smaller batch is a step too.
    """
    batches = math.ceil(math.ceil(rows / training.per_device_batch_size) / processes)
    each_epoch = max(1, math.ceil(batches / accumulation))
    steps = math.ceil(training.epochs * each_epoch)
    if (most := training.trl.get("max_steps", -1)) > 0:
        steps = int(most)
    stop = steps if training.stop_after is None else math.ceil(training.stop_after * each_epoch)
    return steps, min(steps, stop)


def count_parameters(folder: Path) -> int:
    """Counts the numbers in a model's safetensors files, from their headers."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(size))
        total += sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    return total


def memory_by_strategy(
    training: Training, parameters: int, processes: int, config: dict[str, JSON], longest: int
) -> dict[str, dict[str, float]]:
    """Estimates GiB on each device for each strategy: weights, gradients, optimiser and activations.

    Mixed precision in bfloat16 with float32 master weights, gradient checkpointing, and the attention kernel's own
    memory left out. ZeRO: arXiv 1910.02054, section 3. An estimate; fragmentation and buffers come on top.
    """
    states = 4 * _STATES.get(training.optimizer, 2)
    full, half = 4 + states, 2
    hidden, layers = config.get("hidden_size", 0), config.get("num_hidden_layers", 0)
    tokens = 2 * training.per_device_batch_size * min(longest, training.max_length)
    # One checkpoint of two bytes a layer, and one layer in full (arXiv 2205.05198: 34 bytes a number).
    activations = tokens * hidden * (2 * layers + 34)
    trained = parameters if training.lora is None else _adapter_size(training, config)
    frozen = 0 if training.lora is None else half * parameters
    each: dict[str, tuple[float, float]] = {
        "none": (frozen + trained * (4 + full), 0),
        "zero2": (frozen + trained * (half + (half + full) / processes), 0),
        "zero3": (frozen / processes + trained * (2 * half + full) / processes, 0),
        "zero3_offload": (trained * half / processes, (frozen + trained * (half + full)) / processes),
        "fsdp2": ((frozen + trained * (4 + full)) / processes, 0),
    }
    gib = 2**30
    return {
        name: {"device_gib": round((device + activations) / gib, 2), "host_gib": round(host / gib, 2)}
        for name, (device, host) in each.items()
    }


def _adapter_size(training: Training, config: dict[str, JSON]) -> int:
    assert training.lora is not None
    hidden, inner = config.get("hidden_size", 0), config.get("intermediate_size", 0)
    # Four projections of attention, and three between hidden and inner width.
    each_layer = 4 * 2 * hidden + 3 * (hidden + inner)
    return int(training.lora.rank * each_layer * config.get("num_hidden_layers", 0))
