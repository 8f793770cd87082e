"""Suites of lm-evaluation-harness: which tasks, with how many shots, measured by what."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from prefdata.errors import InputError
from prefdata.evaluation.published import OPEN_LLM_V1
from prefdata.spec import JSON, Spec, sha256_of_file
from prefdata.spec.marks import FILE, Harmless
from prefdata.tables.documents import read_text

__all__ = ["OPEN_LLM_SUITE", "Suite", "Task", "read_suite", "runs_code"]


class Task(Spec):
    """One task of lm-evaluation-harness."""

    task: Annotated[str, Harmless, Field(min_length=1)]
    """Its name there: a task or a group."""
    shots: Annotated[int | None, Harmless] = None
    """Examples before each question; None takes the task's own number."""
    metric: Annotated[str | None, Harmless] = None
    """The number that is reported, such as `acc_norm` or `exact_match,strict-match`; None takes the task's first."""


class Suite(Spec):
    """A list of tasks."""

    name: Annotated[str, Harmless, Field(pattern=r"^[\w.-]{1,80}$")]
    """Its name in `evaluation.json`."""
    tasks: Annotated[tuple[Task, ...], Harmless, Field(min_length=1)]
    """In the order of the table."""
    include: Annotated[str | None, FILE] = None
    """A folder of task files, by its path from the suite's file; None takes those of lm-evaluation-harness only."""


_SHOTS = {"arc_challenge": 25, "hellaswag": 10, "mmlu": 5, "truthfulqa_mc2": 0, "winogrande": 5, "gsm8k": 5}
_METRICS = {"arc_challenge": "acc_norm", "hellaswag": "acc_norm", "gsm8k": "exact_match,strict-match"}
OPEN_LLM_SUITE = Suite(
    name="open_llm_v1",
    tasks=tuple(Task(task=name, shots=_SHOTS[name], metric=_METRICS.get(name, "acc")) for name in OPEN_LLM_V1),
)
"""The first Open LLM Leaderboard: the six tasks with the shots of the model card of GPO."""


def read_suite(name: str) -> tuple[Suite, Path | None, dict[str, JSON]]:
    """Reads a suite.

    Args:
        name: `open_llm_v1`, or a YAML file.

    Returns:
        The suite; the folder of its task files, if it has one; and the hashes of its files.

    Raises:
        InputError: the file is not a suite.
    """
    if name == OPEN_LLM_SUITE.name:
        return OPEN_LLM_SUITE, None, {}
    import yaml

    path = Path(name).expanduser()
    try:
        value = yaml.safe_load(read_text(path))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{name!r} is not YAML: {error}") from error
    try:
        suite = Suite.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise InputError(
            f"{name!r} is not a suite: {where}: {first['msg']}",
            valid="name: NAME, tasks: a list of {task: NAME, shots: N, metric: NAME}, include: FOLDER",
            hint="docs/evaluate.md shows one",
        ) from error
    hashes = {"suite_sha256": sha256_of_file(path)}
    if suite.include is None:
        return suite, None, hashes
    folder = path.parent / suite.include
    if not folder.is_dir():
        raise InputError(f"{name!r} includes the folder {suite.include!r}, which does not exist beside it")
    files = sorted(file for file in folder.rglob("*") if file.suffix in (".yaml", ".yml", ".py"))
    named = {file.relative_to(folder).as_posix(): sha256_of_file(file) for file in files}
    return suite, folder, {**hashes, "task_files": named}


def runs_code(folder: Path) -> Mapping[str, str]:
    """Lists the task files that run Python code: file → the line that says so."""
    found = {}
    for file in sorted(folder.rglob("*.y*ml")):
        for line in read_text(file).splitlines():
            if "!function" in line or line.strip().startswith("class:"):
                found[file.relative_to(folder).as_posix()] = line.strip()
    return found
