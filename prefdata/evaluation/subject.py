"""The model that is evaluated, and where its results go."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from prefdata.errors import InputError
from prefdata.models import VLLM, ChatEndpoint, Generator, Local, Transformers
from prefdata.models.folders import adapter_pins, model_name, model_pins
from prefdata.spec import JSON

__all__ = ["Backend", "Subject", "chat_endpoint", "subject_of"]

Backend = Literal["local", "vllm", "transformers"]
_BACKENDS: dict[str, type[Local] | type[VLLM] | type[Transformers]] = {
    "local": Local,
    "vllm": VLLM,
    "transformers": Transformers,
}
_ADAPTER = "adapter_config.json"


@dataclass(frozen=True)
class Subject:
    """A model with the folder of its results."""

    model: str
    """As the user names it."""
    name: str
    """As results name it."""
    folder: Path
    """The model's own folder, or one of its results alone."""
    generator: Generator | None
    """Answers as the model; None for an adapter, which `alpaca_eval` can't read."""
    pins: Mapping[str, JSON]
    """Of the weights and the tokenizer, whatever the engine."""

    @property
    def work(self) -> Path:
        """The folder of journals, outputs and token files."""
        return self.folder / "evaluation"

    @property
    def is_local(self) -> bool:
        """Whether the weights are run on this machine."""
        return not isinstance(self.generator, ChatEndpoint)

    @property
    def is_adapter(self) -> bool:
        """Whether the folder holds a LoRA adapter."""
        return self.generator is None

    def answering(self) -> Generator:
        """Returns the generator, checked.

        Raises:
            UserError: a package or key is missing, or the folder holds an adapter.
        """
        if self.generator is None:
            raise InputError(
                f"{self.model!r} holds an adapter, not a whole model",
                valid="--suite held_out, and suites of lm-evaluation-harness, read adapters",
                hint="merge it into its base model: PeftModel.from_pretrained(...).merge_and_unload(), then save that",
            )
        for problem in self.generator.problems():
            raise problem
        return self.generator

    def weights(self, suite: str) -> str:
        """Returns the model as its files are found, for a suite that computes with the weights.

        Raises:
            InputError: the model is behind an endpoint.
        """
        if not self.is_local:
            raise InputError(
                f"the suite {suite!r} computes with the weights, and {self.model!r} is behind an endpoint",
                hint="name a model folder or a model of the Hub, without --endpoint",
            )
        return self.model


def subject_of(
    model: str | Path | Generator,
    out: str | Path | None = None,
    *,
    backend: Backend | None = None,
    endpoint: str | None = None,
    key_env: str = "OPENAI_API_KEY",
) -> Subject:
    """Finds the model that is evaluated.

    Args:
        model: a folder, a model of the Hub, an embedded one, the name of a model at `endpoint`, or a generator.
        out: the folder of the results; left out, the model's own folder, or `evaluations/NAME`.
        backend: the engine that answers; left out, the one that is installed.
        endpoint: the address of an OpenAI-compatible endpoint that serves the model.
        key_env: the variable that holds the key of the endpoint.

    Raises:
        UserError: the model can't be found, or the options contradict each other.
    """
    if endpoint is not None and backend is not None:
        raise InputError("--backend cannot be combined with --endpoint")
    own = isinstance(model, str | Path) and Path(model).expanduser().is_dir() and endpoint is None
    if isinstance(model, Generator):
        generator: Generator | None = model
        named = str(getattr(model, "model", type(model).__name__))
    else:
        named = str(model)
        if endpoint is not None:
            generator = chat_endpoint(named, endpoint, key_env)
        elif own and (Path(named).expanduser() / _ADAPTER).is_file():
            generator = None
        else:
            generator = _BACKENDS[backend or "local"](model=named)
    name = model_name(named)
    folder = Path(out) if out is not None else _own_folder(named) if own else Path("evaluations") / _file_name(name)
    return Subject(named, name, folder, generator, _pins(named, generator))


def chat_endpoint(model: str, address: str, key_env: str) -> ChatEndpoint:
    """Returns the endpoint that serves a model.

    Raises:
        InputError: the address or the name of the variable can't be one.
    """
    try:
        return ChatEndpoint(model=model, base_url=address, api_key_env=key_env)
    except ValidationError as error:
        said = error.errors(include_url=False)[0]["msg"]
        raise InputError(f"the endpoint {address!r} with the key in {key_env!r}: {said}") from None


def _own_folder(named: str) -> Path:
    return Path(named).expanduser()


def _pins(named: str, generator: Generator | None) -> Mapping[str, JSON]:
    if generator is None:
        return adapter_pins(named)
    if isinstance(generator, Local | VLLM | Transformers):
        return model_pins(generator.model, generator.revision)
    return generator.pins()


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "model"
