"""Runs a suite of lm-evaluation-harness, task by task; a finished task is not run again."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prefdata.errors import InputError, MissingExtraError
from prefdata.evaluation.subject import Subject
from prefdata.evaluation.suites import Suite, Task, runs_code
from prefdata.evaluation.weights import Weights, facts_of
from prefdata.flow.disk import make_folder, write_json
from prefdata.flow.versions import packages
from prefdata.models.worker import stream
from prefdata.spec import JSON, fingerprint
from prefdata.tables.documents import read_object

__all__ = ["HarnessOptions", "run_harness"]

_WORKER = "prefdata.evaluation._harness_worker"


@dataclass(frozen=True)
class HarnessOptions:
    """How a suite is run."""

    backend: Literal["hf", "vllm"]
    limit: int | None
    """Questions of each task."""
    settings: Mapping[str, JSON]
    """Further arguments of the harness's model class; `batch_size` left out is what a GPU takes, or 4 on a CPU."""
    allow_code: bool


def run_harness(
    subject: Subject,
    suite: Suite,
    include: Path | None,
    hashes: Mapping[str, JSON],
    options: HarnessOptions,
    log: Callable[[str], None],
) -> dict[str, JSON]:
    """Runs the tasks of a suite that are not finished yet, and returns the results of all.

    Args:
        subject: the model.
        suite: the tasks.
        include: the folder of the suite's task files.
        hashes: of the suite's files.
        options: how they are run.
        log: takes a line for the person who watches.

    Raises:
        UserError: a package or the data of a task is missing; nothing was computed yet.
    """
    subject.weights(suite.name)
    if not subject.is_adapter:
        subject.answering()
    _check(subject, include, options)
    weights = Weights.of_subject(subject, facts_of(subject))
    version = importlib.metadata.version("lm_eval")
    depends = [dict(subject.pins), options.backend, options.limit, dict(options.settings), dict(hashes), version]
    depends += [] if weights.base_pins is None else [dict(weights.base_pins)]
    work = subject.work / suite.name
    make_folder(work)
    keys = {task.task: fingerprint([*depends, task.dump()])[:16] for task in suite.tasks}
    files = {task.task: work / f"{_file_name(task)}-{keys[task.task]}.json" for task in suite.tasks}
    waiting = [task for task in suite.tasks if not files[task.task].is_file()]
    if waiting:
        log(f"{len(suite.tasks) - len(waiting)} of {len(suite.tasks)} tasks are finished")
        for task, result in zip(waiting, _results(waiting, weights, subject, include, options), strict=True):
            log(f"{task.task}: {result['value']:.2f}")
            write_json(files[task.task], result)
    tasks = {task.task: read_object(files[task.task]) for task in suite.tasks}
    return {
        "tasks": tasks,
        "average": sum(result["value"] for result in tasks.values()) / len(tasks),
        "settings": {
            "backend": options.backend,
            "limit": options.limit,
            "model_arguments": dict(options.settings),
            "tasks": suite.dump()["tasks"],
        },
        "inputs": {**hashes, **({} if weights.base_pins is None else {"base": dict(weights.base_pins)})},
        "versions": {**packages(), "lm_eval": version},
    }


def _check(subject: Subject, include: Path | None, options: HarnessOptions) -> None:
    for problem in MissingExtraError.all_of("a suite of lm-evaluation-harness", "evaluation", "lm_eval"):
        raise problem
    for problem in MissingExtraError.all_of("an adapter", "train", "peft") if subject.is_adapter else ():
        raise problem
    if options.backend == "vllm":
        try:
            importlib.metadata.version("vllm")
        except importlib.metadata.PackageNotFoundError:
            raise InputError(
                "lm-evaluation-harness runs vLLM only where its distribution is called 'vllm', and it is not installed",
                valid="--backend transformers",
                hint='pip install "prefdata[vllm]" on a machine with a GPU',
            ) from None
    if include is not None and not options.allow_code and (code := runs_code(include)):
        file, line = next(iter(code.items()))
        raise InputError(
            f"the task file {file!r} runs Python code: {line}", hint="read it, then run it with --allow-code"
        )


def _results(
    tasks: Sequence[Task], weights: Weights, subject: Subject, include: Path | None, options: HarnessOptions
) -> Iterator[dict[str, JSON]]:
    config = {
        "folder": str(weights.folder.resolve()),
        "adapter": None if weights.adapter is None else str(weights.adapter.resolve()),
        "backend": options.backend,
        "limit": options.limit,
        "settings": dict(options.settings),
        "include": None if include is None else str(include.resolve()),
        "tasks": [task.task for task in tasks],
    }
    env = {"TOKENIZERS_PARALLELISM": "false", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
    items = (task.dump() for task in tasks)
    return stream(_WORKER, config, items, in_flight=1, env=env, name=f"lm-evaluation-harness with {subject.name!r}")


def _file_name(task: Task) -> str:
    return "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in task.task)[:80]
