"""Runs tasks of lm-evaluation-harness in a process of its own, with one model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefdata.errors import InputError, closest
from prefdata.models.worker import open_channel
from prefdata.spec import JSON

_CPU_BATCH = 4


def main() -> None:
    """Finds every task first, then loads the model, and runs one task after the other."""
    with open_channel() as channel:
        manager = _manager(channel.config)
        for name in channel.config["tasks"]:
            _check_task(manager, name)
        model = _model(channel.config)
        while items := channel.receive(at_most=1):
            channel.send(_result(model, manager, items[0], channel.config))


def _manager(config: Mapping[str, JSON]) -> Any:
    from lm_eval.tasks import TaskManager

    own = None
    if config["include"] is not None:
        # Reading the thousands of task files of the harness takes a while.
        own = TaskManager(include_path=config["include"], include_defaults=False)
    if own is not None and set(config["tasks"]) <= set(own.all_tasks):
        return own
    return TaskManager(include_path=config["include"])


def _check_task(manager: Any, name: str) -> None:
    """Loads a task, with its data.

    Raises:
        InputError: there is no such task, or its data can't be had.
    """
    from datasets.exceptions import DatasetsError

    if name not in manager.all_tasks:
        raise InputError(f"lm-evaluation-harness has no task {name!r}", valid=closest(name, manager.all_tasks))
    try:
        manager.load([name])
    # DatasetsError, OfflineModeIsEnabled and HTTP errors of the Hub's client are all among these.
    except (OSError, DatasetsError, ValueError) as error:
        said = str(error).strip().partition("\n")[0]
        raise InputError(
            f"the data of the task {name!r} is not in the cache and can't be fetched: {type(error).__name__}: {said}",
            valid="a network, or the task's dataset in the cache of `datasets`",
            hint="run once where there is a network (HF_HUB_OFFLINE unset), or name local tasks with --suite FILE.yaml",
        ) from error


_ADAPTER = {"hf": "peft", "vllm": "lora_local_path"}
"""Backend → the harness's name of the argument that is a folder of an adapter."""


def _model(config: Mapping[str, JSON]) -> Any:
    import torch
    from lm_eval.api.registry import get_model

    arguments, more = model_arguments(config, cuda=torch.cuda.is_available())
    return get_model(config["backend"]).create_from_arg_obj(arguments, more)


def model_arguments(config: Mapping[str, JSON], *, cuda: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Gives the arguments of the harness's class of a model, and those that every backend has.

    Args:
        config: of this worker.
        cuda: whether there is a GPU.
    """
    arguments: dict[str, Any] = {"pretrained": config["folder"], "dtype": "auto" if cuda else "float32"}
    if config["adapter"] is not None:
        arguments[_ADAPTER[config["backend"]]] = config["adapter"]
    settings = dict(config["settings"])
    batch = settings.pop("batch_size", None) or ("auto" if cuda else _CPU_BATCH)
    device = {"device": "cuda" if cuda else "cpu"} if config["backend"] == "hf" else {}
    return {**arguments, **settings}, {"batch_size": batch, **device}


def _result(model: Any, manager: Any, task: Mapping[str, JSON], config: Mapping[str, JSON]) -> dict[str, JSON]:
    from lm_eval import simple_evaluate

    name = task["task"]
    done = simple_evaluate(
        model=model,
        tasks=[name],
        num_fewshot=task["shots"],
        limit=config["limit"],
        task_manager=manager,
        log_samples=False,
    )
    found = done["results"][name]
    pairs = ((key, _number(value)) for key, value in found.items() if "," in key)
    numbers = {key: number for key, number in pairs if number is not None}
    metric = _metric(name, task["metric"], [key for key in numbers if "_stderr," not in key])
    measure, _, chosen = metric.partition(",")
    error = numbers.get(f"{measure}_stderr,{chosen}")
    return {
        "value": numbers[metric] * 100,
        "standard_error": None if error is None else error * 100,
        "metric": metric,
        "shots": done["n-shot"].get(name, task["shots"]),
        "version": _number(done["versions"].get(name)),
        "n_questions": sum(counted["effective"] for counted in done["n-samples"].values()),
        "seeds": {key: done["config"][key] for key in ("random_seed", "numpy_seed", "torch_seed", "fewshot_seed")},
        "all": numbers,
    }


def _metric(task: str, wanted: str | None, measured: list[str]) -> str:
    named = [key for key in measured if wanted is None or wanted in (key, key.partition(",")[0])]
    if not named:
        raise InputError(f"the task {task!r} has no metric {wanted!r}", valid=closest(wanted or "", measured))
    return named[0]


def _number(value: Any) -> float | None:
    """Numbers of NumPy are no JSON, and what was not measured is the text "N/A"."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


if __name__ == "__main__":
    main()
