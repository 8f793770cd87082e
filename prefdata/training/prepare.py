"""Makes everything that a training process needs: files of tokens, keys of the reference, and the job as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from prefdata.errors import InputError, StoreError
from prefdata.lazy import np, pa, pq
from prefdata.models.embedded import cache_folder
from prefdata.models.folders import model_folder, model_pins
from prefdata.spec import JSON, fingerprint, sha256_of_file
from prefdata.training import checks
from prefdata.training.base import Training
from prefdata.training.batches import grouped_order, padding_ratio
from prefdata.training.plan import TrainingPlan, count_parameters, memory_by_strategy, step_counts
from prefdata.training.preflight import Preflight
from prefdata.training.reference import ReferenceCache, hash_tokens, hash_weights, reference_key
from prefdata.training.rows import Answers, SplitFiles, split_files
from prefdata.training.tokens import Encoder, load_tokenizer, token_schema, token_tables

__all__ = ["Prepared", "prepare"]

_TOKENS_A_BATCH = {"cpu": 8192, "cuda": 65536}
_BUNDLED = Path(__file__).parent / "deepspeed"


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
        dataset: a dataset folder, or a build that holds one.
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
    folder = dataset if (dataset / "data").is_dir() or not (dataset / "dataset").is_dir() else dataset / "dataset"
    splits = _splits(folder, split, training)
    checks.check_packages(training)
    checks.check_arguments(training)
    gpus = checks.gpu_count()
    processes = processes or (min(training.devices, gpus * nodes) if gpus else 1)
    checks.check_strategy(training, processes=processes, nodes=nodes, gpus=gpus)
    accumulation = checks.per_process_steps(training, processes)
    pins = model_pins(training.model, training.revision)
    model = model_folder(training.model, pins, training.revision)
    encoder = Encoder(load_tokenizer(model), training)
    work = out / "training"
    work.mkdir(parents=True, exist_ok=True)
    tokens, preflights = _tokens(work, splits, training, encoder, pins, limit)
    warnings = [line for preflight in preflights for line in preflight.check(training.limits)]
    for line in warnings:
        log(f"warning: {line}")
    device = "cuda" if gpus else "cpu"
    job = _job(training, model, work, tokens, device=device, processes=processes, accumulation=accumulation)
    rows = preflights[0].rows_trained
    steps, stop = step_counts(training, rows, processes, accumulation)
    job["stop_step"] = stop
    job["arguments"] |= _frequencies(training, steps) | dict(training.trl)
    job["references"] = _references(job, training, pins, cache) if _cached(training) else {}
    job["cache"] = str(cache or cache_folder() / "references")
    depends_on = [training.identity(), training.strategy, _hashes(tokens), job["weights"], processes, device]
    job["identity"] = fingerprint(depends_on)
    _check_folder(out, job)
    (work / "job.json").write_text(json.dumps(job, indent=2) + "\n", encoding="utf-8")
    plan = TrainingPlan(
        kind=training.dump()["kind"],
        model=training.model,
        out=str(out),
        rows_in=preflights[0].rows_in,
        rows_trained=rows,
        tokens=preflights[0].tokens,
        padding=_padding(tokens["train"], training, processes),
        batch_size=training.batch_size,
        processes=processes,
        accumulation=accumulation,
        steps=steps,
        stop_step=stop,
        parameters=(parameters := count_parameters(model)),
        memory=memory_by_strategy(training, parameters, processes, _config(model), preflights[0].longest),
        reference_rows=sum(_unknown(job, told) for told in job["references"].values()),
        command=_command(job, processes, nodes),
        warnings=tuple(warnings),
    )
    facts = {"model_pins": pins, "template_date": training.template_date if encoder.reads_the_date else None}
    return Prepared(training, out, job, plan, preflights, facts)


def _splits(folder: Path, name: str | None, training: Training) -> dict[str, SplitFiles]:
    """The files of `train` and, where there is one, of `test`."""
    found = split_files(folder)
    trained = [name] if name else [split for split in found if split.startswith("train")] or list(found)[:1]
    if trained[0] not in found or len(trained) > 1:
        raise InputError(
            f"{str(folder)!r} has no split {name!r}" if name else f"{str(folder)!r} has several splits to train on",
            valid=f"splits: {', '.join(found)}",
            hint="name one with --split",
        )
    tested = [split for split in found if split == trained[0].replace("train", "test", 1) and split != trained[0]]
    splits = {"train": found[trained[0]], **({"test": found[tested[0]]} if tested else {})}
    kind = training.dump()["kind"]
    for split in splits.values():
        split.check(training.columns, kind=kind, paired=training.trainer != "kto")
    if not splits["train"].rows:
        raise InputError(f"the split {trained[0]!r} of {str(folder)!r} has 0 rows", hint="name a dataset that has rows")
    return {role: split for role, split in splits.items() if split.rows}


def _tokens(
    work: Path,
    splits: Mapping[str, SplitFiles],
    training: Training,
    encoder: Encoder,
    pins: Mapping[str, JSON],
    limit: int | None,
) -> tuple[dict[str, Path], list[Preflight]]:
    """Writes the files of tokens, or finds those that are there: they are named after all that they depend on."""
    said = training.dump()
    named = ("kind", "max_length", "max_prompt_length", "truncation", "add_marks", "template_date", "seed")
    told = [
        *({name: said.get(name, getattr(training, name, None)) for name in named}.items()),
        [[sha256_of_file(file) for file in split.files] for split in splits.values()],
        [pins["tokenizer_sha256"], pins["chat_template_sha256"], limit],
    ]
    folder = work / f"tokens-{fingerprint(told)[:16]}"
    folder.mkdir(exist_ok=True)
    files: dict[str, Path] = {}
    preflights = []
    for role, split in splits.items():
        files[role], report = folder / f"{role}.parquet", folder / f"{role}.json"
        if not report.is_file():
            preflight = _write_tokens(files[role], role, split, training, encoder, limit if role == "train" else None)
            # Written last: it says that the tokens are whole.
            report.write_text(json.dumps(preflight.dump(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        preflights.append(Preflight.load(json.loads(report.read_text(encoding="utf-8"))))
    kept = {role: file for role, file in files.items() if role == "train" or pq.read_metadata(file).num_rows}
    return kept, [preflight for preflight in preflights if preflight.split in kept]


def _write_tokens(
    file: Path, role: str, split: SplitFiles, training: Training, encoder: Encoder, limit: int | None
) -> Preflight:
    paired = training.trainer != "kto"
    schema, preflight = token_schema(training.columns, paired=paired), Preflight(role)
    dropped: list[dict[str, JSON]] = []
    rows = split.read(training.columns, limit)
    if split.paired and not paired:
        rows = _halves(rows)
    tables = token_tables(rows, encoder, preflight, schema, dropped=dropped)
    if paired:
        with pq.ParquetWriter(file, schema) as writer:
            for table in tables:
                writer.write_table(table)
    else:
        table = pa.concat_tables([schema.empty_table(), *tables])
        order = np.random.default_rng(training.seed).permutation(table.num_rows)
        pq.write_table(table.take(pa.array(order)), file)
    drops = pa.schema([("row", pa.int64()), ("id", pa.string()), ("reason", pa.string())])
    pq.write_table(pa.Table.from_pylist(dropped, drops), file.with_name(f"{role}-dropped.parquet"))
    return preflight


def _halves(rows: Iterator[Answers]) -> Iterator[Answers]:
    """Each answer of a pair as a row of its own, the chosen one desirable."""
    for row in rows:
        for label, answer in zip((True, False), row.answers, strict=True):
            yield Answers(row.row, row.id, row.prompt, (answer,), label=label, prompts_differ=row.prompts_differ)


def _job(
    training: Training,
    model: Path,
    work: Path,
    tokens: Mapping[str, Path],
    *,
    device: str,
    processes: int,
    accumulation: int,
) -> dict[str, JSON]:
    precision = {"auto": "bf16" if device == "cuda" else "fp32"}.get(training.precision, training.precision)
    sharded = training.strategy.startswith("zero")
    half = precision == "bf16" and (sharded or training.lora is not None)
    model_arguments = {"dtype": "bfloat16" if half else "float32", "attn_implementation": training.attention}
    arguments: dict[str, JSON] = {
        **training.trl_arguments(),
        "output_dir": str(work / "checkpoints"),
        "gradient_accumulation_steps": accumulation,
        "per_device_eval_batch_size": training.per_device_batch_size,
        "bf16": precision == "bf16",
        "use_cpu": device == "cpu" and not sharded,
        "gradient_checkpointing": device == "cuda",
        "dataloader_pin_memory": device == "cuda",
        "report_to": "none",
        "disable_tqdm": not sys.stderr.isatty(),
        "eval_strategy": "epoch" if "test" in tokens else "no",
        "remove_unused_columns": training.trainer == "kto",
    }
    if training.trainer != "cpo":
        arguments["model_init_kwargs"] = model_arguments
    if training.trainer == "dpo":
        arguments["precompute_ref_log_probs"] = training.cache_reference
    if device == "cpu" and processes > 1 and not sharded:
        arguments["ddp_backend"] = "gloo"
    if training.strategy == "fsdp2":
        arguments |= {"fsdp": True, "fsdp_config": str(_BUNDLED / "fsdp2.json")}
    return {
        "training": training.dump(),
        "model_folder": str(model),
        "model_arguments": model_arguments,
        "weights": hash_weights(model),
        "tokens": {role: str(file) for role, file in tokens.items()},
        "work": str(work),
        "checkpoints": str(work / "checkpoints"),
        "device": device,
        "precision": precision,
        "strategy": training.strategy,
        "deepspeed": str(_BUNDLED / f"{training.strategy}.json") if sharded else None,
        "reference_tokens": _TOKENS_A_BATCH[device],
        "arguments": arguments,
    }


def _frequencies(training: Training, steps: int) -> dict[str, JSON]:
    """Numbers are logged a thousand times at most, checkpoints saved ten times; a short training saves its end only."""
    every = max(1, steps // 1000)
    return {
        "logging_steps": every,
        "logging_first_step": True,
        "save_strategy": "steps",
        "save_steps": steps // 10 if steps >= 20 else steps,
        "save_total_limit": 2,
    }


def _cached(training: Training) -> bool:
    return training.cache_reference and training.trainer == "dpo"


def _references(
    job: Mapping[str, JSON], training: Training, pins: Mapping[str, JSON], cache: Path | None
) -> dict[str, JSON]:
    from importlib.metadata import version

    shared = {
        "weights": job["weights"],
        "tokenizer": pins["tokenizer_sha256"],
        "template": pins["chat_template_sha256"],
        "limits": [training.max_length, training.max_prompt_length, training.truncation, training.add_marks],
        "dtype": [job["model_arguments"]["dtype"], job["precision"]],
        "attention": training.attention,
        "quantization": "none" if training.lora is None else training.lora.quantization,
        "ld_alpha": training.trl.get("ld_alpha"),
        "device": job["device"],
        "versions": [version("torch"), version("transformers")],
    }
    found = {}
    for role, file in job["tokens"].items():
        key = reference_key({**shared, "tokens": hash_tokens(Path(file))})
        found[role] = {"key": key, "rows": pq.read_metadata(file).num_rows}
    return found


def _unknown(job: Mapping[str, JSON], told: Mapping[str, JSON]) -> int:
    cache = ReferenceCache(Path(job["cache"]), told["key"], told["rows"])
    cache.load()
    return len(cache.missing())


def _hashes(files: Mapping[str, Path]) -> list[str]:
    return [hash_tokens(file) for file in files.values()]


def _check_folder(out: Path, job: Mapping[str, JSON]) -> None:
    """Refuses a folder that holds another training, or something else."""
    before = out / "training" / "job.json"
    if before.is_file():
        known = json.loads(before.read_text(encoding="utf-8")).get("identity")
        begun = (out / "training.json").exists() or any((out / "training").glob("checkpoints/checkpoint-*"))
        if known != job["identity"] and begun:
            raise StoreError(
                f"{str(out)!r} holds another training: other data, model, options or number of processes",
                hint="choose another folder with --out, or remove this one",
            )
    elif any(path.name != "training" for path in out.iterdir()):
        raise StoreError(f"{str(out)!r} is not empty and holds no training", hint="choose another folder with --out")


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


def _config(model: Path) -> dict[str, JSON]:
    config: dict[str, JSON] = json.loads((model / "config.json").read_text(encoding="utf-8"))
    return config


def _command(job: Mapping[str, JSON], processes: int, nodes: int) -> tuple[str, ...]:
    worker = ("-m", "prefdata.training._trainer_worker", str(Path(job["work"]) / "job.json"))
    if processes == 1 and job["strategy"] == "none":
        return (sys.executable, *worker)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes // nodes)]
    if nodes > 1:
        launcher += ["--nnodes", str(nodes), "--rdzv-backend", "c10d", "--rdzv-endpoint", "$MASTER_ADDR:29500"]
    else:
        launcher += ["--standalone"]
    return (*launcher, *worker)
