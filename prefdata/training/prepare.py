"""`prepare`: checks a training and makes all that its processes need, before any model is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prefdata.errors import InputError, StoreError
from prefdata.lazy import np, pq
from prefdata.models.folders import model_folder, model_pins
from prefdata.spec import JSON, fingerprint, sha256_of_file
from prefdata.spec.own import pins_of
from prefdata.tables.own_files import cache_folder
from prefdata.training import checks
from prefdata.training.base import Training
from prefdata.training.batches import grouped_order, padding_ratio
from prefdata.training.job import frequencies, launch_command, make_job, reference_keys
from prefdata.training.plan import TrainingPlan, count_parameters, memory_by_strategy, step_counts
from prefdata.training.preflight import Preflight
from prefdata.training.reference import ReferenceCache, hash_tokens
from prefdata.training.rows import SplitFiles, split_files
from prefdata.training.token_files import write_token_files
from prefdata.training.tokens import Encoder, check_same_ids, load_tokenizer

__all__ = ["Prepared", "prepare"]


@dataclass
class Prepared:
    """A training that is ready to start."""

    training: Training
    folder: Path
    """Where the model will be."""
    job: dict[str, JSON]
    plan: TrainingPlan
    preflights: list[Preflight]
    facts: dict[str, JSON] = field(default_factory=dict)
    """Lineage of the model, for its card."""

    @property
    def work(self) -> Path:
        """The folder of the job, its tokens, checkpoints and metrics."""
        return self.folder / "training"


def prepare(
    training: Training,
    dataset: Path,
    out: Path,
    *,
    limit: int | None = None,
    processes: int | None = None,
    nodes: int = 1,
    cache: Path | None = None,
    split: str | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> Prepared:
    """Checks a training, writes its files of tokens and its job, and plans it.

    Args:
        training: objective and hyper-parameters.
        dataset: a dataset folder.
        out: where the model will be.
        limit: at most this many rows of the train split.
        processes: on all nodes together; left out, one a GPU, at most as many as the recipe's devices, or one.
        nodes: machines.
        cache: where reference log-probabilities are kept; left out, the user's cache folder.
        split: of the dataset; left out, its train split.
        log: takes a line for the person who watches.

    Raises:
        UserError: something can't work; nothing was loaded yet.
    """
    splits = _splits(dataset, split, training)
    _check_ours(out)
    checks.check_packages(training)
    checks.check_arguments(training)
    gpus = checks.gpu_count()
    processes = processes or (min(training.devices, gpus * nodes) if gpus else 1)
    checks.check_strategy(training, processes=processes, nodes=nodes, gpus=gpus)
    accumulation = checks.per_process_steps(training, processes)
    pins = model_pins(training.model, training.revision)
    model = model_folder(training.model, pins, training.revision)
    encoder = Encoder(tokenizer := load_tokenizer(model), training)
    other, reference = _reference(training, tokenizer, pins)
    work = out / "training"
    work.mkdir(parents=True, exist_ok=True)
    tokens, preflights = write_token_files(work, splits, training, encoder, pins, limit)
    for line in (warnings := tuple(line for each in preflights for line in each.check(training.limits))):
        log(f"warning: {line}")
    device = "cuda" if gpus else "cpu"
    job = make_job(
        *(training, model, work, tokens), device=device, processes=processes, accumulation=accumulation, other=other
    )
    steps, job["stop_step"] = step_counts(training, preflights[0].rows_trained, processes, accumulation)
    job["arguments"] |= frequencies(steps) | dict(training.trl)
    job["references"] = reference_keys(job, training, pins, {role: hash_tokens(file) for role, file in tokens.items()})
    job["cache"] = str(cache or cache_folder() / "references")
    job["identity"] = _identity(training, job, tokens, processes)
    _check_same(out, job)
    (work / "job.json").write_text(json.dumps(job, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    plan = _plan(training, out, model, job, preflights[0], processes=processes, nodes=nodes, steps=steps)
    date = training.template_date if encoder.reads_the_date else None
    facts = {"model_pins": pins, "template_date": date, **reference}
    return Prepared(training, out, job, replace(plan, warnings=warnings), preflights, facts)


def _reference(training: Training, tokenizer: Any, pins: Mapping[str, JSON]) -> tuple[Path | None, dict[str, JSON]]:
    """The folder and the facts of the reference model, where it is another one."""
    if training.reference is None:
        return None, {}
    found = model_pins(training.reference)
    folder = model_folder(training.reference, found)
    if found["tokenizer_sha256"] != pins["tokenizer_sha256"]:
        check_same_ids(tokenizer, training.model, folder, training.reference)
    return folder, {"reference_pins": found}


def _identity(training: Training, job: Mapping[str, JSON], tokens: Mapping[str, Path], processes: int) -> str:
    # The whole files: an objective's numbers and the labels count as well as the ids.
    files = [sha256_of_file(file) for file in tokens.values()]
    strategy, code = training.strategy, pins_of(training)
    other = [job["reference_weights"]] if "reference_weights" in job else []
    return fingerprint([training.identity(), strategy, files, code, job["weights"], processes, job["device"], *other])


def _plan(
    training: Training,
    out: Path,
    model: Path,
    job: Mapping[str, JSON],
    preflight: Preflight,
    *,
    processes: int,
    nodes: int,
    steps: int,
) -> TrainingPlan:
    parameters = count_parameters(model)
    config: dict[str, JSON] = json.loads((model / "config.json").read_text(encoding="utf-8"))
    return TrainingPlan(
        kind=training.dump()["kind"],
        model=training.model,
        out=str(out),
        rows_in=preflight.rows_in,
        rows_trained=preflight.rows_trained,
        tokens=preflight.tokens,
        padding=_padding(Path(job["tokens"]["train"]), training, processes),
        batch_size=training.batch_size,
        processes=processes,
        accumulation=job["arguments"]["gradient_accumulation_steps"],
        steps=steps,
        stop_step=job["stop_step"],
        parameters=parameters,
        memory=memory_by_strategy(training, parameters, processes, config, preflight.longest),
        reference_rows=sum(_unknown(job, entry) for entry in job["references"].values()),
        command=launch_command(job, processes, nodes),
    )


def _splits(folder: Path, name: str | None, training: Training) -> dict[str, SplitFiles]:
    """The files of `train` and, where there is one, of `test`."""
    splits_there = split_files(folder)
    trained = (
        [name] if name else [split for split in splits_there if split.startswith("train")] or list(splits_there)[:1]
    )
    if trained[0] not in splits_there or len(trained) > 1:
        raise InputError(
            f"{str(folder)!r} has no split {name!r}" if name else f"{str(folder)!r} has several splits to train on",
            valid=f"splits: {', '.join(splits_there)}",
            hint="name one with --split",
        )
    tested = [
        split for split in splits_there if split == trained[0].replace("train", "test", 1) and split != trained[0]
    ]
    splits = {"train": splits_there[trained[0]], **({"test": splits_there[tested[0]]} if tested else {})}
    kind = training.dump()["kind"]
    for split in splits.values():
        split.check(training.columns, kind=kind, paired=training.trainer != "kto")
    if not splits["train"].rows:
        raise InputError(f"the split {trained[0]!r} of {str(folder)!r} has 0 rows", hint="name a dataset that has rows")
    return {role: split for role, split in splits.items() if split.rows}


def _unknown(job: Mapping[str, JSON], entry: Mapping[str, JSON]) -> int:
    cache = ReferenceCache(Path(job["cache"]), entry["key"], entry["rows"])
    cache.load()
    return len(cache.missing())


def _check_ours(out: Path) -> None:
    """Refuses a folder that holds something else than a training."""
    others = [path.name for path in out.iterdir() if path.name != "training"] if out.is_dir() else ["it"] * out.exists()
    if others and not (out / "training" / "job.json").is_file():
        raise StoreError(f"{str(out)!r} is not empty and holds no training", hint="choose another folder with --out")
    # A folder from elsewhere may hold links to files of the user's, which writing would change.
    for folder in (folder for folder in (out, out / "training") if folder.is_dir()):
        for path in folder.iterdir():
            if path.is_symlink() and not path.is_dir():
                raise StoreError(
                    f"{str(path)!r} is a link, and a training would write through it",
                    hint="remove the link, or choose another folder with --out",
                )


def _check_same(out: Path, job: Mapping[str, JSON]) -> None:
    """Refuses a folder in which another training has begun."""
    before = out / "training" / "job.json"
    begun = (out / "training.json").exists() or any((out / "training").glob("checkpoints/checkpoint-*"))
    if begun and before.is_file():
        identity = json.loads(before.read_text(encoding="utf-8")).get("identity")
        if identity != job["identity"]:
            raise StoreError(
                f"{str(out)!r} holds another training: other data, model, options or number of processes",
                hint="choose another folder with --out, or remove this one",
            )


def _padding(file: Path, training: Training, processes: int) -> float:
    if training.trainer == "kto":
        return 1.0
    table = pq.read_table(file, columns=["prompt_ids", "chosen_ids", "rejected_ids"])
    prompt, chosen, rejected = (np.asarray(table[name].combine_chunks().value_lengths()) for name in table.column_names)
    sides = list(zip((prompt + chosen).tolist(), (prompt + rejected).tolist(), strict=True))
    batch = training.per_device_batch_size
    if training.group_by_length:
        order = grouped_order([max(row) for row in sides], batch * processes, seed=training.seed, epoch=0)
    else:
        order = np.random.default_rng(training.seed).permutation(len(sides)).tolist()
    return round(padding_ratio(sides, order, batch), 4)
