"""`check_loadable`: whether others could load a model from what its folder publishes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from prefdata.errors import InputError, PublishError
from prefdata.spec import JSON
from prefdata.tables.documents import read_object

__all__ = ["TRAINED", "check_loadable", "is_model_file"]

TRAINED = "training.json"
"""The document that a finished training leaves."""
_ADAPTER = "adapter_config.json"
_LOADED = (".safetensors", ".bin", ".index.json", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".gguf", ".onnx")
_CONFIGURED = ("config.json", "generation_config.json", "preprocessor_config.json", "chat_template.json", _ADAPTER)


def is_model_file(name: str) -> bool:
    """Checks whether whoever loads a model from a repository may read this file of it."""
    return "/" not in name and (name.endswith(_LOADED) or name in _CONFIGURED or name.startswith("tokenizer"))


def check_loadable(folder: Path, names: Collection[str]) -> None:
    """Checks that the files of a model are all there, and that others can get the base of an adapter.

    Args:
        folder: of the model.
        names: the files that are published.

    Raises:
        PublishError: a model without configuration or weights, or an adapter to a model of this machine.
    """
    adapter = _ADAPTER in names
    if (not adapter and "config.json" not in names) or not any(name.endswith(".safetensors") for name in names):
        raise PublishError(
            f"{str(folder)!r} holds no whole model: its list of files has no configuration, or no weights",
            valid="config.json or adapter_config.json, and *.safetensors",
            hint="train the model again into a new folder",
        )
    for name in [name for name in names if name.endswith(".safetensors.index.json")]:
        shards = set(_mapping(_document(folder / name).get("weight_map")).values())
        if missing := sorted(str(shard) for shard in shards if shard not in names):
            raise PublishError(
                f"{str(folder)!r} holds no whole model: {name} names {missing[0]}, which is not in its list of files",
                hint="train the model again into a new folder",
            )
    if adapter:
        _check_base(folder)


def _check_base(folder: Path) -> None:
    facts = _mapping(_document(folder / TRAINED).get("model"))
    if _mapping(facts.get("model_pins")).get("sha"):
        return
    base = _document(folder / _ADAPTER).get("base_model_name_or_path")
    raise PublishError(
        f"{str(folder)!r} holds an adapter to {base!r}, a model of this machine: nobody else could load it",
        valid="a whole model, or an adapter to a model of the Hub",
        hint="publish the base first (`prefdata push` takes one that it trained), then train with --model OWNER/NAME",
    )


def _document(path: Path) -> Mapping[str, JSON]:
    try:
        return read_object(path, path.parent)
    except InputError as error:
        raise PublishError(error.problem, valid=error.valid, hint="train the model again into a new folder") from None


def _mapping(value: JSON) -> Mapping[str, JSON]:
    return value if isinstance(value, Mapping) else {}
