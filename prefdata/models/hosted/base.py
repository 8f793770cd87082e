"""`HostedModel`: what the generators that run a model on this machine have in common."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from prefdata.models.base import Decoding, Generator
from prefdata.models.folders import model_folder, model_name, model_pins
from prefdata.models.worker import stream
from prefdata.records import FinishReason, Generation, Request
from prefdata.spec import JSON, Context, Operational

__all__ = ["HostedModel"]

_SECRET = re.compile(r"token|secret|password|passwd|credential|api_?key|access_?key", re.IGNORECASE)
_PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
"""Threads that wait by spinning bring a busy machine to a standstill."""


class HostedModel(Generator):
    """A language model whose weights this machine runs, in a worker process of its own."""

    model: Annotated[str, Field(min_length=1)]
    """`embedded:NAME`, a local Hugging Face folder, or a Hub id."""
    revision: str | None = None
    """Branch, tag or commit of a Hub model; the lock keeps the commit that it meant."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """What the model computes in; auto takes what its weights are stored in."""
    max_model_len: Annotated[int, Field(ge=2)] | None = None
    """Most tokens of prompt and answer together; None is the model's own limit."""
    trust_remote_code: bool = False
    """Runs Python code that comes with the model."""
    control_tokens: Literal["refuse", "allow"] = "refuse"
    """What to do with a message that spells out one of the model's control tokens, such as `<|im_start|>`.

    The tokenizer can't tell it from the real token, so its author could end the turn and speak for another role.
    """
    env: Annotated[dict[str, str], Operational] = Field(default_factory=dict)
    """Environment variables of the worker process. No secrets: these belong in the environment itself."""

    @field_validator("env")
    @classmethod
    def _no_secrets(cls, env: dict[str, str]) -> dict[str, str]:
        if named := sorted(name for name in env if _SECRET.search(name)):
            raise ValueError(f"env may not hold {', '.join(named)}: set it in the environment, the worker inherits it")
        return env

    def pins(self) -> dict[str, JSON]:
        """The model's commit or hash, and the hashes of its tokenizer and chat template."""
        return {**super().pins(), **model_pins(self.model, self.revision)}

    def _answer(
        self,
        requests: Iterable[Request],
        decoding: Decoding,
        context: Context,
        *,
        engine: str,
        module: str,
        options: dict[str, JSON],
        env: dict[str, str],
        in_flight: int,
        replicas: Sequence[Mapping[str, str]] = ({},),
        answers_as: str | None = None,
    ) -> Iterator[Generation]:
        """Streams the requests through the worker `module`, which runs `engine`.

        Args:
            requests: see `Generator.generate`.
            decoding: see `Generator.generate`.
            context: see `Generator.generate`.
            engine: what logs and errors call the engine.
            module: import path of the worker.
            options: what the worker is told besides this class's own fields.
            env: defaults of the workers' environment.
            in_flight: most requests that one worker has at once.
            replicas: one worker for each, with these environment variables of its own.
            answers_as: name of the model in the answers, where it is not the model's own.
        """
        folder = model_folder(self.model, context.pins, self.revision, code=self.trust_remote_code)
        name = model_name(self.model)
        config = {
            "folder": str(folder),
            "dtype": self.dtype,
            "max_model_len": self.max_model_len,
            "trust_remote_code": self.trust_remote_code,
            "refuse_control_tokens": self.control_tokens == "refuse",
            "decoding": decoding.dump(),
            **options,
        }
        # What the user has set in the environment comes before our defaults; the recipe's `env` before both.
        defaults = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "TOKENIZERS_PARALLELISM": "false", **env}
        chosen = {**{key: os.environ.get(key, value) for key, value in defaults.items()}, **self.env}
        items = (_item(request) for request in requests)
        times = "" if len(replicas) == 1 else f"{len(replicas)} x "
        context.log(f"starting {times}{engine} with {name!r}")
        results = stream(
            module,
            config,
            items,
            in_flight=in_flight,
            env=chosen,
            name=f"{engine} with {name!r}",
            replicas=replicas,
            # The samples of one prompt share what the engine has computed of it.
            together=lambda item: item["messages"],
        )
        with contextlib.closing(results):
            for result in results:
                yield _generation(result, answers_as or name)


def cpu_environment(workers: int = 1) -> dict[str, str]:
    """How each of some workers on a CPU should thread: its share of the cores, at most 8, that wait passively."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"OMP_NUM_THREADS": str(max(1, min(cores // workers, 8))), **_PASSIVE}


def _item(request: Request) -> dict[str, JSON]:
    return {
        "key": request.key,
        "messages": [dict(message) for message in request.messages],
        "seed": request.seed,
        "json_schema": request.json_schema,
        "top_logprobs": request.top_logprobs,
    }


def _generation(result: dict[str, JSON], model: str) -> Generation:
    told = result.get("top_logprobs")
    reason: FinishReason = result["finish_reason"] if result.get("finish_reason") in _REASONS else "unknown"
    return Generation(
        key=result["key"],
        text=result.get("text"),
        finish_reason=reason,
        n_prompt_tokens=result.get("n_prompt_tokens"),
        n_tokens=result.get("n_tokens"),
        model=model,
        failure=result.get("failure"),
        detail=result.get("detail", ""),
        top_logprobs=None if told is None else tuple(tuple((text, value) for text, value in place) for place in told),
    )


_REASONS = get_args(FinishReason)
