"""Starts a prepared training, and collects what comes of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from prefdata.errors import ModelError, StoreError, UserError
from prefdata.models.environment import import_folders, tracker_prefixes, worker_environment
from prefdata.models.folders import model_name
from prefdata.models.worker_process import PARENT
from prefdata.spec import JSON
from prefdata.tables.documents import document_text
from prefdata.tables.own_files import held
from prefdata.training.base import Training
from prefdata.training.job import COMPLETE
from prefdata.training.prepare import Prepared

__all__ = ["TrainedModel", "environment", "launch"]

_MODEL_FILES = (
    *("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json", "adapter_config.json"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "chat_template.jinja"),
)
_RECORDS = ("training.json", "metrics.jsonl", "*-dropped.parquet")
_PATHS = ("output_dir", "fsdp_config", "deepspeed")
_VERSIONS = ("prefdata", "torch", "transformers", "trl", "accelerate", "deepspeed", "peft", "datasets")


@dataclass(frozen=True)
class TrainedModel:
    """What a training left."""

    folder: Path
    """Model, tokenizer, `metrics.jsonl` and `training.json`."""
    facts: dict[str, JSON]
    """What the model card says: see `training.json`."""
    metrics: list[dict[str, JSON]]
    """Every logged number, in order."""

    @property
    def files(self) -> list[str]:
        """Names of the files of model, tokenizer and records; the user's own files are not among them."""
        patterns = (*_MODEL_FILES, *_RECORDS)
        return sorted({path.name for pattern in patterns for path in self.folder.glob(pattern) if path.is_file()})


def launch(
    prepared: Prepared, *, lineage: Mapping[str, JSON] | None = None, log: Callable[[str], None] = lambda _: None
) -> TrainedModel:
    """Runs a training, or goes on with it where it was stopped, and puts the model into its folder.

    Args:
        prepared: from `prefdata.training.prepare.prepare`.
        lineage: where the dataset comes from; kept in `training.json`.
        log: takes a line for the person who watches.

    Raises:
        UserError: a mistake that only the training process could find.
        ModelError: the training process failed; its own last lines say why.
    """
    finished = prepared.folder / "training.json"
    with _alone(prepared.work, log):
        if finished.is_file():
            log(f"already trained: {prepared.folder}")
        else:
            if _trained(prepared) is None:
                _run(prepared, log)
            _collect(prepared, dict(lineage or {}))
    lines = (prepared.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    facts: dict[str, JSON] = json.loads(finished.read_text(encoding="utf-8"))
    return TrainedModel(prepared.folder, facts, [json.loads(line) for line in lines])


def environment(training: Training) -> dict[str, str]:
    """Returns the environment of a training process: that of every worker, and the keys of the tracker that it uses."""
    bin_folder = str(Path(sys.executable).parent)
    quiet = {
        # Threads that wait by spinning bring a busy machine to a standstill.
        **{"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "TOKENIZERS_PARALLELISM": "false"},
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    trackers = tracker_prefixes(training.trl.get("report_to"))
    ours, given = import_folders(__name__)
    own = {
        **{name: os.environ.get(name, value) for name, value in quiet.items()},
        # DeepSpeed looks for ninja on the PATH.
        "PATH": os.pathsep.join([bin_folder, os.environ.get("PATH", "")]),
    }
    # Launchers start the processes, so no start code can say where the package is.
    return {**worker_environment(own, with_prefixes=trackers), "PYTHONPATH": os.pathsep.join([*ours, *given])}


def _run(prepared: Prepared, log: Callable[[str], None]) -> None:
    command = prepared.plan.command
    if "--nnodes" in command:
        raise UserError(
            "this training runs on several machines, and each has to start its processes",
            hint=f"start on each: {' '.join(command)}; then run this command again: it collects the model",
        )
    mistake = prepared.work / "mistake.json"
    mistake.unlink(missing_ok=True)
    log(f"training: {' '.join(command)}")
    # The processes' stdout is not this command's data.
    variables = environment(prepared.training) | {PARENT: str(os.getpid())}
    if prepared.job["device"] == "cuda" and "torch.distributed.run" not in command:
        # One process that sees several GPUs would spread each batch over them, which TRL refuses.
        variables["CUDA_VISIBLE_DEVICES"] = variables.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    done = subprocess.run(command, env=variables, stdout=sys.stderr.fileno() if _has_fileno() else None)
    if mistake.is_file():
        problem, valid, hint = json.loads(mistake.read_text(encoding="utf-8"))
        raise ModelError(problem, valid=valid, hint=hint)
    if done.returncode or _trained(prepared) is None:
        raise ModelError(
            f"the training process ended with exit code {done.returncode}; its last lines above say why",
            hint="run the same command again: it goes on from the last checkpoint. Out of memory: a smaller "
            "per_device_batch_size (the batch stays the same with more accumulation), or another strategy",
        )


def _has_fileno() -> bool:
    try:
        sys.stderr.fileno()
    except (OSError, ValueError):
        return False
    return True


def _trained(prepared: Prepared) -> Path | None:
    """The complete checkpoint of the last step; None where training is not done."""
    folder = prepared.work / "checkpoints" / f"checkpoint-{prepared.plan.stop_step}"
    return folder if (folder / COMPLETE).is_file() and (prepared.work / "result.json").is_file() else None


def _collect(prepared: Prepared, lineage: dict[str, JSON]) -> None:
    checkpoint, folder = _trained(prepared), prepared.folder
    assert checkpoint is not None
    for pattern in _MODEL_FILES:
        for path in checkpoint.glob(pattern):
            shutil.copyfile(path, folder / path.name)
    _name_base(folder, prepared.training.model)
    shutil.copyfile(prepared.work / "metrics.jsonl", folder / "metrics.jsonl")
    for path in Path(prepared.job["tokens"]["train"]).parent.glob("*-dropped.parquet"):
        shutil.copyfile(path, folder / path.name)
    result = json.loads((prepared.work / "result.json").read_text(encoding="utf-8"))
    training = _published(prepared.training)
    plan = {name: value for name, value in prepared.plan.dump().items() if name not in ("command", "out")}
    facts = {
        "training": training.dump(),
        "parameters": _parameters(training),
        "trl_arguments": {name: value for name, value in prepared.job["arguments"].items() if name not in _PATHS},
        "grouped": prepared.training.group_by_length,
        "lineage": lineage,
        "plan": {**plan, "model": training.model},
        "preflight": [preflight.dump() for preflight in prepared.preflights],
        "references": prepared.job["references"],
        "precision": prepared.job["precision"],
        "model": prepared.facts,
        "result": result,
        "versions": {name: number for name in _VERSIONS if (number := _version(name))},
    }
    # Written last: it says that the folder is whole.
    partial = folder / ".training.json"
    partial.write_text(document_text(facts), encoding="utf-8")
    partial.replace(folder / "training.json")
    shutil.rmtree(prepared.work / "checkpoints")
    shutil.rmtree(prepared.work / "datasets", ignore_errors=True)


def _published(training: Training) -> Training:
    """Gives the training with the names of its models in place of their paths here."""
    reference = None if training.reference is None else model_name(training.reference)
    return training.replace(model=model_name(training.model), reference=reference)


def _parameters(training: Training) -> dict[str, JSON]:
    """Every plain field, those at their defaults too, which a dump leaves out."""
    values = {name: getattr(training, name) for name in type(training).model_fields}
    return {name: value for name, value in values.items() if value is None or isinstance(value, str | int | float)}


def _name_base(folder: Path, model: str) -> None:
    """Names the base of an adapter as the recipe does, in place of a folder of the cache."""
    path = folder / "adapter_config.json"
    if path.is_file():
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        named = {**config, "base_model_name_or_path": model}
        path.write_text(json.dumps(named, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@contextmanager
def _alone(work: Path, log: Callable[[str], None]) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(held(work / ".lock", f"another process trains in {str(work.parent)!r}", log))
        except OSError as error:
            raise StoreError(
                f"{str(work / '.lock')!r} can't be opened: {error.strerror}", hint="choose another folder with --out"
            ) from error
        yield
