"""Defines `HostedModel`, the base of the generators that run a model on this machine."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator

from prefdata.models.base import Decoding, Generator
from prefdata.models.environment import PASS_ON
from prefdata.models.folders import check_chat_template, model_folder, model_name, model_pins
from prefdata.models.template import TemplateOptions
from prefdata.models.worker import stream
from prefdata.records import Generation, Request
from prefdata.spec import JSON, Context, Operational
from prefdata.spec.marks import MODEL, REVISION, Acts, Harmless
from prefdata.tables.finish_reasons import finish_reason_of

__all__ = ["HostedModel", "cpu_environment"]

_SECRET = re.compile(r"token|secret|password|passwd|credential|api_?key|access_?key", re.IGNORECASE)
_ENV = Acts("env", "sets environment variables of a process on this machine")
_REMOTE_CODE = Acts("remote_code", "runs Python code that comes with the model")
_PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
"""Environment variables for passive waiting: spinning threads bring a busy machine to a standstill."""


class HostedModel(Generator, TemplateOptions):
    """A language model whose weights this machine runs, in a worker process of its own."""

    model: Annotated[str, MODEL, Field(min_length=1)]
    """`embedded:NAME`, a local Hugging Face folder, or a Hub id."""
    revision: Annotated[str | None, REVISION] = None
    """Branch, tag or commit of a Hub model; None takes the main branch. The lock keeps the commit."""
    dtype: Annotated[Literal["auto", "bfloat16", "float16", "float32"], Harmless] = "auto"
    """Number format in which the model computes; `auto` takes that of its weights."""
    max_model_len: Annotated[Annotated[int, Field(ge=2)] | None, Harmless] = None
    """Most tokens of prompt and answer together; None is the model's own limit."""
    trust_remote_code: Annotated[bool, _REMOTE_CODE] = False
    """Runs Python code that comes with the model."""
    control_tokens: Annotated[Literal["refuse", "allow"], Harmless] = "refuse"
    """Whether a message may spell out one of the model's control tokens, such as `<|im_start|>`.

    The tokenizer reads it as the real token, so the message's author could end the turn and speak for another role.
    """
    env: Annotated[dict[str, str], _ENV, Operational] = Field(default_factory=dict)
    """Environment variables of the worker process, besides the few that it gets of yours. Not for secrets."""

    @field_validator("env")
    @classmethod
    def _no_secrets(cls, env: dict[str, str]) -> dict[str, str]:
        if secrets := sorted(name for name in env if _SECRET.search(name)):
            raise ValueError(
                f"env may not hold {', '.join(secrets)}: a worker needs no key; set one that it does need in the "
                f"environment, and its name in {PASS_ON}"
            )
        if python := sorted(name for name in env if name.upper().startswith("PYTHON")):
            raise ValueError(f"env may not hold {', '.join(python)}: a worker imports installed packages only")
        return env

    def pins(self) -> dict[str, JSON]:
        """Returns the model's commit or hash, the hashes of its tokenizer and chat template, and the date it sees."""
        # A tokenizer's own code may hold its template.
        check = (lambda folder: None) if self.trust_remote_code else check_chat_template
        pins = model_pins(self.model, self.revision, template_date=self.template_date, check=check)
        return {**super().pins(), **pins}

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
        gpus: int = 1,
    ) -> Iterator[Generation]:
        """Streams the requests through the worker `module`, which runs `engine`.

        Args:
            requests: see `Generator.generate`.
            decoding: see `Generator.generate`.
            context: see `Generator.generate`.
            engine: name of the engine in logs and errors.
            module: import path of the worker.
            options: configuration of the worker, in addition to the fields of this class.
            env: defaults of the workers' environment.
            in_flight: most requests that one worker has at once.
            replicas: one worker for each entry, which holds environment variables of that worker alone.
            answers_as: name of the model in the answers; None takes the model's own.
            gpus: how many GPUs each worker uses, where there are any.
        """
        name = model_name(self.model)
        config = {**self._config(context), **options}
        # Variables of the user's environment override our defaults; the recipe's `env` overrides both.
        defaults = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "TOKENIZERS_PARALLELISM": "false", **env}
        worker_env = {**{key: os.environ.get(key, value) for key, value in defaults.items()}, **self.env}
        items = (_item(request) for request in requests)
        times = "" if len(replicas) == 1 else f"{len(replicas)} x "
        results = stream(
            module,
            config,
            items,
            in_flight=in_flight,
            env=worker_env,
            name=f"{engine} with {name!r}",
            replicas=replicas,
            # The samples of one prompt share the engine's cached computation of it.
            together=lambda item: item["messages"],
            round_options={"decoding": decoding.dump()},
            kept=context.engines,
            started=lambda: context.log(f"starting {times}{engine} with {name!r}"),
            gpus=gpus,
        )
        with contextlib.closing(results):
            for result in results:
                yield _generation(result, answers_as or name)

    def _config(self, context: Context) -> dict[str, JSON]:
        """Returns what a worker needs to know of the model and its chat template."""
        return {
            "folder": str(model_folder(self.model, context.pins, self.revision, code=self.trust_remote_code)),
            "dtype": self.dtype,
            "max_model_len": self.max_model_len,
            "trust_remote_code": self.trust_remote_code,
            "refuse_control_tokens": self.control_tokens == "refuse",
            "thinking_marks": self.thinking_marks,
            **self.template_config(context.pins),
        }


def cpu_environment(workers: int = 1) -> dict[str, str]:
    """Returns the thread settings of each of `workers` workers on a CPU: its share of the cores, at most 8."""
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
    top_logprobs = result.get("top_logprobs")
    return Generation(
        key=result["key"],
        text=None if result.get("text") is None else result.get("opened", "") + result["text"],
        finish_reason=finish_reason_of(result.get("finish_reason")),
        n_prompt_tokens=result.get("n_prompt_tokens"),
        n_tokens=result.get("n_tokens"),
        model=model,
        failure=result.get("failure"),
        detail=result.get("detail", ""),
        top_logprobs=None
        if top_logprobs is None
        else tuple(tuple((text, value) for text, value in tokens) for tokens in top_logprobs),
    )
