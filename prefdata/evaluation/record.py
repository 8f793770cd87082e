"""`evaluation.json`: what every evaluation of one model found, with the inputs that it depends on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from prefdata.errors import InputError
from prefdata.flow.disk import write_json
from prefdata.spec import JSON
from prefdata.tables.documents import read_object

__all__ = ["FILE", "Evaluation", "read_record", "write_record"]

FILE = "evaluation.json"
_FORMAT = 1


@dataclass(frozen=True)
class Evaluation:
    """The results of one suite."""

    folder: Path
    """Holds `evaluation.json` and the files of each suite."""
    suite: str
    """Name of the suite in the record."""
    results: dict[str, JSON]
    """Numbers, inputs, settings and versions."""


def read_record(where: Path) -> dict[str, JSON]:
    """Reads the record of a model's folder, or the file itself.

    Raises:
        InputError: there is none, or it is of another format.
    """
    path = where / FILE if where.is_dir() else where
    if not path.is_file():
        raise InputError(
            f"there is no evaluation in {str(where)!r}",
            valid=f"the folder of an evaluated model, or its {FILE}",
            hint="prefdata evaluate MODEL --suite SUITE makes one",
        )
    record = read_object(path, path.parent)
    suites, model = record.get("suites"), record.get("model")
    if record.get("format") != _FORMAT or not isinstance(suites, dict) or not isinstance(model, dict):
        raise InputError(f"{str(path)!r} is not an evaluation of this version", valid=f"format {_FORMAT}")
    if not all(isinstance(results, dict) for results in suites.values()):
        raise InputError(f"{str(path)!r} is not an evaluation: a suite is not an object", valid=f"format {_FORMAT}")
    return record


def write_record(
    folder: Path, model: Mapping[str, JSON], suite: str, results: Mapping[str, JSON], log: Callable[[str], None]
) -> dict[str, JSON]:
    """Adds the results of a suite to the record of a folder, and returns the record.

    Results of other weights are left out.

    Args:
        folder: of the model, or of its evaluation.
        model: `name` and `pins`.
        suite: takes the place of earlier results of this suite.
        results: as JSON.
        log: takes a line for the person who watches.
    """
    suites: dict[str, JSON] = {}
    if (folder / FILE).exists():
        earlier = read_record(folder)
        suites = dict(earlier["suites"])
        if earlier["model"].get("pins") != model["pins"] and suites:
            log(f"the model has changed: its earlier results leave {FILE}: {', '.join(sorted(suites))}")
            suites = {}
    record = {"format": _FORMAT, "model": dict(model), "suites": {**suites, suite: dict(results)}}
    write_json(folder / FILE, record)
    return record
