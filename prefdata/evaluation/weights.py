"""The files of the model that is evaluated: its folder, or an adapter's with that of its base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prefdata.errors import InputError
from prefdata.evaluation.subject import Subject
from prefdata.models.folders import model_folder, model_name, model_pins
from prefdata.spec import JSON
from prefdata.tables.documents import read_object

__all__ = ["Weights", "facts_of", "is_folder_of_another_machine", "path_of", "pins_of"]


def facts_of(subject: Subject) -> Mapping[str, JSON]:
    """Reads the `training.json` of a model that prefdata has trained; empty for any other."""
    path = Path(subject.model).expanduser() / "training.json"
    return read_object(path, path.parent) if path.is_file() else {}


def is_folder_of_another_machine(model: str, pins: Mapping[str, JSON]) -> bool:
    """Checks a name of `training.json`: the last part of a folder must not be taken for a model of the Hub."""
    return "sha256" in pins and not model.startswith("embedded:") and not Path(model).is_dir()


def path_of(named: str, pins: Mapping[str, JSON], trained: Path) -> str:
    """Gives the path of a model that `training.json` names, where that is a folder beside the trained model.

    The models of a run lie beside each other, and their records name folders by their last part.

    Args:
        named: as the record names it.
        pins: of the model; the folder must still have the same files.
        trained: the folder of the trained model.
    """
    folder = trained.expanduser().resolve().parent / Path(named).name
    if is_folder_of_another_machine(named, pins) and (folder / "config.json").is_file():
        return str(folder) if model_pins(str(folder))["sha256"] == pins["sha256"] else named
    return named


def pins_of(facts: Mapping[str, JSON], kind: str) -> Mapping[str, JSON]:
    """Gives the pins of the model that a training started from (`model_pins`), or of its reference."""
    return (facts.get("model") or {}).get(kind) or {}


@dataclass(frozen=True)
class Weights:
    """A model whose files are read."""

    name: str
    folder: Path
    """Of the whole model; of an adapter, that of its base."""
    hashed: Path
    """The folder whose files of weights are part of the key."""
    pins: Mapping[str, JSON]
    adapter: Path | None = None
    base_pins: Mapping[str, JSON] | None = None
    """Of an adapter's base."""

    @classmethod
    def of_model(cls, model: str, revision: str | None) -> Weights:
        """Finds a whole model.

        Raises:
            UserError: it can't be found.
        """
        pins = model_pins(model, revision)
        folder = model_folder(model, pins, revision)
        return cls(model_name(model), folder, folder, pins)

    @classmethod
    def of_subject(cls, subject: Subject, facts: Mapping[str, JSON]) -> Weights:
        """Finds the model that is evaluated.

        Args:
            subject: the model, not behind an endpoint.
            facts: its `training.json`, as `facts_of` reads it.

        Raises:
            UserError: its files, or those of an adapter's base, are not there or have changed.
        """
        if not subject.is_adapter:
            folder = model_folder(subject.model, subject.pins)
            return cls(subject.name, folder, folder, subject.pins)
        adapter = Path(subject.model).expanduser()
        base = cls._of_base(adapter, facts)
        return cls(subject.name, base.folder, adapter, {**base.pins, **subject.pins}, adapter, base.pins)

    @classmethod
    def _of_base(cls, adapter: Path, facts: Mapping[str, JSON]) -> Weights:
        """Finds the model that an adapter belongs to, whatever the reference is."""
        config = read_object(adapter / "adapter_config.json", adapter)
        named, pins = config.get("base_model_name_or_path"), pins_of(facts, "model_pins")
        base = None
        if isinstance(named, str):
            named = path_of(named, pins, adapter)
        if isinstance(named, str) and not is_folder_of_another_machine(named, pins):
            base = cls.of_model(named, pins.get("sha") or config.get("revision"))
        if base is None or pins.get("sha256", base.pins.get("sha256")) != base.pins.get("sha256"):
            raise InputError(
                f"the base {named!r} of the adapter in {str(adapter)!r} is {'not here' if base is None else 'changed'}",
                valid="the model that the adapter was trained on",
                hint="put it there, or name its folder as base_model_name_or_path in adapter_config.json",
            )
        return base
