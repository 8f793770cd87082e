"""The suite `held_out`: how often a model's implicit reward prefers the chosen answer, and by how much.

The implicit reward of an answer is beta times its log-probability under the model less that under the reference.
Tokens, and the reference's log-probabilities, are those of the trainer, from its own cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from prefdata import hub
from prefdata.errors import InputError
from prefdata.evaluation.judges import mean_and_error
from prefdata.evaluation.subject import Subject
from prefdata.evaluation.weights import Weights, facts_of, is_folder_of_another_machine, path_of, pins_of
from prefdata.flow.disk import make_folder
from prefdata.flow.versions import packages
from prefdata.lazy import np, pq
from prefdata.models.worker import stream
from prefdata.spec import JSON, sha256_of_file
from prefdata.tables.documents import check_regular
from prefdata.tables.own_files import cache_folder
from prefdata.training import AnyTraining, DPOTraining, Training, checks
from prefdata.training.batches import batches_by_length
from prefdata.training.job import make_job, reference_keys
from prefdata.training.reference import ReferenceCache, hash_tokens
from prefdata.training.rows import SplitFiles, split_files
from prefdata.training.token_files import write_token_files
from prefdata.training.tokens import Encoder, check_same_ids, load_tokenizer

__all__ = ["HeldOutOptions", "run_held_out"]

_WORKER = "prefdata.evaluation._log_probs_worker"
_ROWS_AT_ONCE = 64
_NO_REFERENCE = ("simpo", "cpo")
_BY_LENGTH = ("simpo", "dpo_norm")
"""Objectives whose reward is divided by the tokens of the answer."""


@dataclass(frozen=True)
class HeldOutOptions:
    """What the suite is given."""

    datasets: Sequence[str]
    """Dataset folders, builds, Parquet files, or datasets of the Hub."""
    split: str | None
    """Left out, the one whose name begins with `test`, or the only one."""
    reference: str | None
    """Left out, that of the training: the model that it started from, or its own `reference`."""
    settings: Mapping[str, JSON]
    """Fields of the training to change, such as `beta` or `max_length`."""
    limit: int | None


def run_held_out(subject: Subject, options: HeldOutOptions, log: Callable[[str], None]) -> dict[str, JSON]:
    """Computes accuracy and margin on each dataset.

    Raises:
        UserError: a model or dataset is missing or holds no pairs.
    """
    subject.weights("held_out")
    facts = facts_of(subject)
    training = _training(subject, options, facts)
    if not options.datasets:
        raise InputError(
            "the suite 'held_out' needs a dataset of pairs",
            valid="a dataset folder, a build, a Parquet file, or OWNER/NAME[@REVISION] of the Hub",
            hint="--dataset FOLDER",
        )
    splits = {_shown(where): _split(where, options.split) for where in options.datasets}
    kind = str(training.dump()["kind"])
    for split in splits.values():
        split.check((), kind=kind, paired=True)
    policy = Weights.of_subject(subject, facts)
    reference = None if kind in _NO_REFERENCE else _reference(subject, options, training, facts, policy)
    sets = {}
    for name, split in splits.items():
        log(f"{name}: {split.rows:,} rows of the split {split.name!r}")
        sets[name] = _measured(split, training, policy, reference, subject, options, log)
    names = ("beta", "max_length", "max_prompt_length", "truncation", "precision", "template_date")
    settings = {name: getattr(training, name) for name in names}
    reference_facts = None if reference is None else _reference_facts(reference, facts, log)
    return {
        "sets": sets,
        "settings": {**settings, "objective": kind},
        "inputs": {"reference": reference_facts},
        "versions": packages(),
    }


def _reference(
    subject: Subject, options: HeldOutOptions, training: Training, facts: Mapping[str, JSON], policy: Weights
) -> Weights:
    own, given = training.reference is not None, {**(facts.get("training") or {}), **options.settings}
    pins = pins_of(facts, "reference_pins" if own else "model_pins")
    named, revision = (training.reference, None) if own else (given.get("model"), training.revision)
    named = path_of(str(named), pins, Path(subject.model)) if named else None
    if options.reference is not None:
        named, revision = options.reference, None
    elif not named or is_folder_of_another_machine(str(named), pins):
        raise InputError(
            f"{subject.model!r} does not say where the {'reference' if own else 'model'} is that its training "
            f"{'had' if own else 'started from'}",
            valid="the reference of its implicit reward",
            hint="name it: --reference FOLDER",
        )
    found = Weights.of_model(str(named), revision)
    if found.pins["tokenizer_sha256"] != policy.pins["tokenizer_sha256"]:
        check_same_ids(load_tokenizer(policy.folder), subject.name, found.folder, found.name)
    return found


def _reference_facts(reference: Weights, facts: Mapping[str, JSON], log: Callable[[str], None]) -> dict[str, JSON]:
    def same(kind: str) -> bool | None:
        pins = pins_of(facts, kind)
        return all(pins.get(name) == value for name, value in reference.pins.items()) if pins else None

    own = {"is_that_of_training": same("reference_pins")} if pins_of(facts, "reference_pins") else {}
    started = same("model_pins")
    if own and not own["is_that_of_training"]:
        log(f"the reference {reference.name!r} is not the one of the training")
    elif not own and started is False:
        log(f"the reference {reference.name!r} is not the model that the training started from")
    return {"name": reference.name, "pins": dict(reference.pins), "is_what_training_started_from": started, **own}


def _training(subject: Subject, options: HeldOutOptions, facts: Mapping[str, JSON]) -> Training:
    """The training that made the model, or plain DPO around it, in the precision that it was trained in."""
    fields: dict[str, JSON] = dict(facts.get("training") or {})
    if fields.get("kind") == "python" or not fields:
        # Only beta and the limits act here: the reward of an objective of the user's own is taken to be DPO's.
        own = {name: value for name, value in fields.items() if name in Training.model_fields and name != "trl"}
        fields = {**own, "kind": "dpo"}
    # Only numbers are taken from it: a model without a training has no other to name.
    fields = {"model": subject.name, "precision": facts.get("precision") or "auto", **fields} | dict(options.settings)
    if "precision" not in options.settings:
        fields["precision"] = facts.get("precision") or "auto"
    try:
        training: Training = TypeAdapter(AnyTraining).validate_python(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(f"the training's {'.'.join(map(str, first['loc'][1:]))}: {first['msg']}") from error
    return training


def _plain(training: Training) -> Training:
    """DPO with the same tokens and the same numerics, whose log-probabilities are plain sums."""
    kept = {name: getattr(training, name) for name in Training.model_fields}
    kept |= {"trl": {}, "cache_reference": True}
    if training.lora is not None:
        kept["lora"] = training.lora.replace(quantization="none")
    return DPOTraining(**kept)


def _shown(where: str) -> str:
    path = Path(where).expanduser()
    return path.resolve().name if path.exists() else where


def _split(where: str, name: str | None) -> SplitFiles:
    found = hub.find_dataset(where, only=("data/*.parquet",))
    if found.path.is_file():
        if found.path.suffix != ".parquet":
            raise InputError(f"{where!r} is not a Parquet file", hint="prefdata pair makes a dataset of other tables")
        check_regular(found.path)
        return SplitFiles(name or found.path.stem, (found.path,), pq.read_schema(found.path))
    splits = split_files(found.dataset)
    named = [name] if name else [split for split in splits if split.startswith("test")] or list(splits)
    if len(named) > 1 or named[0] not in splits:
        raise InputError(
            f"{where!r} has no split {name!r}" if name else f"{where!r} has several splits to evaluate on",
            valid=f"splits: {', '.join(splits)}",
            hint="name one with --split",
        )
    return splits[named[0]]


def _measured(
    split: SplitFiles,
    training: Training,
    policy: Weights,
    reference: Weights | None,
    subject: Subject,
    options: HeldOutOptions,
    log: Callable[[str], None],
) -> dict[str, JSON]:
    work = subject.work / "held_out"
    make_folder(work)
    # The role `train` takes a limit of rows.
    role = "test" if options.limit is None else "train"
    plain, encoder = _plain(training), Encoder(load_tokenizer(policy.folder), training)
    files, preflights = write_token_files(work, {role: split}, plain, encoder, policy.pins, options.limit)
    if role not in files or not preflights[0].rows_trained:
        raise InputError(
            f"no row of the split {split.name!r} can be measured: {split.rows:,} in, all dropped",
            hint="the chat template and the limits of the training decide: --set max_length=N",
        )
    file, counted = files[role], preflights[0]
    numbers = [_log_probs(weights, file, plain, log) for weights in (policy, reference) if weights is not None]
    rewards = _rewards(file, numbers, str(training.dump()["kind"]), training.beta)
    margins = (rewards[:, 0] - rewards[:, 1]).tolist()
    accuracy, accuracy_error = mean_and_error([float(margin > 0) for margin in margins])
    margin, margin_error = mean_and_error(margins)
    return {
        "accuracy": accuracy,
        "accuracy_standard_error": accuracy_error,
        "margin": margin,
        "margin_standard_error": margin_error,
        "reward_chosen": float(rewards[:, 0].mean()),
        "reward_rejected": float(rewards[:, 1].mean()),
        "n_ties": sum(margin == 0 for margin in margins),
        "split": split.name,
        "rows": counted.dump(),
        "files_sha256": [sha256_of_file(path) for path in split.files],
    }


def _rewards(file: Path, numbers: Sequence[np.ndarray], kind: str, beta: float) -> np.ndarray:
    """Rewards of chosen and rejected answers, shape (rows, 2)."""
    values = numbers[0].astype(np.float64)
    if len(numbers) > 1:
        values = values - numbers[1].astype(np.float64)
    if kind in _BY_LENGTH:
        table = pq.read_table(file, columns=["chosen_ids", "rejected_ids"])
        lengths = [np.asarray(table[name].combine_chunks().value_lengths()) for name in table.column_names]
        values = values / np.stack(lengths, axis=1)
    return beta * values


def _log_probs(
    weights: Weights,
    file: Path,
    training: Training,
    log: Callable[[str], None],
) -> np.ndarray:
    """Sums of the answers' log-probabilities, shape (rows, 2), from the trainer's cache where they are there."""
    device = "cuda" if checks.gpu_count() else "cpu"
    job = make_job(training, weights.hashed, file.parent, {"test": file}, device=device, processes=1, accumulation=1)
    key = reference_keys(job, training, weights.pins, {"test": hash_tokens(file)})["test"]
    cache = ReferenceCache(cache_folder() / "references", key["key"], key["rows"])
    cache.load()
    missing = cache.missing()
    if missing:
        log(f"{key['rows'] - len(missing):,} of {key['rows']:,} rows are cached")
        config = {
            "folder": str(weights.folder),
            "adapter": None if weights.adapter is None else str(weights.adapter),
            "model_arguments": job["model_arguments"],
            "precision": job["precision"],
            "device": device,
        }
        env = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        waiting: list[tuple[int, float, float]] = []
        items = _items(file, missing, job["reference_tokens"])
        for result in stream(_WORKER, config, items, in_flight=2, env=env, name="the model"):
            waiting += [(row, chosen, rejected) for row, chosen, rejected in result["rows"]]
            if len(waiting) >= _ROWS_AT_ONCE:
                cache.append(waiting)
                waiting = []
        if waiting:
            cache.append(waiting)
        cache.finish()
    return np.stack(cache.columns(), axis=1)


def _items(file: Path, rows: Sequence[int], most_tokens: int) -> Iterator[dict[str, JSON]]:
    table = pq.read_table(file)
    lengths = table["length"].to_pylist()
    for batch in batches_by_length(list(rows), lengths, most_tokens):
        part = table.take(batch).select(["prompt_ids", "chosen_ids", "rejected_ids"]).to_pylist()
        yield {"rows": [[row, *example.values()] for row, example in zip(batch, part, strict=True)]}
