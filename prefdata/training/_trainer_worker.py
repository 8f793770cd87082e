"""One process of a training: `python -m prefdata.training._trainer_worker JOB.json`, under torchrun or alone.

The job is plain JSON, written by `prefdata.training.prepare`. What comes of it is a checkpoint that is marked complete,
`metrics.jsonl` and `result.json` in the job's folder.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from prefdata.errors import UserError
from prefdata.models.worker_process import PARENT
from prefdata.spec import JSON

__all__ = ["main"]

_MISTAKE = 2


def main(path: Path) -> None:
    """Runs a job; of a mistake of the user's, the message is kept for the parent."""
    _end_with_command()
    job: dict[str, JSON] = json.loads(path.read_text(encoding="utf-8"))
    if job["device"] == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        _run(job)
    except UserError as error:
        (Path(job["work"]) / "mistake.json").write_text(
            json.dumps([error.problem, error.valid, error.hint], allow_nan=False)
        )
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        # Other processes may wait for this one in a collective call: leave without any.
        os._exit(_MISTAKE)


def _end_with_command() -> None:
    """Ends this process when the command that started the training ends, however it does.

    Otherwise two trainings would write one folder when the command is killed and started again. torchrun may be between
    this process and the command, so the kernel's signal at the death of a parent is not enough.
    """
    command = os.environ.pop(PARENT, None)
    if command is None or not hasattr(os, "pidfd_open"):
        return
    try:
        watched = os.pidfd_open(int(command))
    except ProcessLookupError:
        os._exit(1)
    except OSError:
        # Some sandboxes refuse the call.
        return

    def wait() -> None:
        select.select([watched], [], [])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def _run(job: dict[str, JSON]) -> None:
    if job["device"] == "cpu" and job["deepspeed"]:
        os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
        import deepspeed.ops
        from accelerate import PartialState

        # Its reduction in shared memory is compiled at the first start, for minutes; a kill then blocks all later ones.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        # accelerate chooses no backend for DeepSpeed on a CPU, so the state is made before any arguments are.
        PartialState(backend="gloo")
    training = _training(job)
    arguments = _arguments(job, training)
    state = arguments.distributed_state
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and (state.num_processes < 2 or state.distributed_type == "NO"):
        raise RuntimeError("processes would train apart: the distributed state was not initialised")
    started = time.monotonic()
    trainer = _trainer(job, training, arguments)
    prepared = time.monotonic()
    resumed = _last_checkpoint(Path(job["checkpoints"]))
    # A kill may have come after the last checkpoint and before the result.
    steps = 0 if resumed is None else _step_of(resumed)
    if steps < job["stop_step"]:
        trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed))
        steps = trainer.state.global_step
    if trainer.is_world_process_zero():
        result = _result(job, trainer, steps, prepared - started, time.monotonic() - prepared)
        (Path(job["work"]) / "result.json").write_text(json.dumps(result, allow_nan=False))


def _training(job: dict[str, JSON]) -> Any:
    from pydantic import TypeAdapter

    from prefdata.spec.code import allowing_code
    from prefdata.training import AnyTraining

    # An objective of the user's own was loaded by the parent already, from this folder.
    with allowing_code(job["code_folder"] is not None, job["code_folder"] or "."):
        return TypeAdapter(AnyTraining).validate_python(job["training"])


def _arguments(job: dict[str, JSON], training: Any) -> Any:
    arguments = dict(job["arguments"])
    if job["deepspeed"]:
        arguments["deepspeed"] = job["deepspeed"]
        if job["device"] == "cpu":
            arguments["accelerator_config"] = {"use_configured_state": True}
    if training.trainer == "cpo":
        os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
        from trl.experimental.cpo import CPOConfig as Config
    elif training.trainer == "kto":
        from trl import KTOConfig as Config
    else:
        from trl import DPOConfig as Config
    return Config(**arguments)


def _trainer(job: dict[str, JSON], training: Any, arguments: Any) -> Any:
    from datasets import Dataset
    from transformers import AutoTokenizer

    from prefdata.training._callbacks import MarkComplete, MetricsFile, StopAt

    cache = str(Path(job["work"]) / "datasets")
    splits = {name: Dataset.from_parquet(file, cache_dir=cache) for name, file in job["tokens"].items()}
    tokenizer = AutoTokenizer.from_pretrained(job["model_folder"], local_files_only=True)
    if not tokenizer.pad_token:
        tokenizer.pad_token = tokenizer.eos_token
    marks = MarkComplete(Path(job["checkpoints"]))
    shared = {
        "args": arguments,
        "train_dataset": splits["train"],
        "eval_dataset": splits.get("test"),
        "processing_class": tokenizer,
        "peft_config": _adapter(training),
        "callbacks": [MetricsFile(Path(job["work"]) / "metrics.jsonl"), StopAt(job["stop_step"]), marks],
    }
    trainer = _built(job, training, shared)
    marks.wait = trainer.accelerator.wait_for_everyone
    return trainer


def _built(job: dict[str, JSON], training: Any, shared: dict[str, Any]) -> Any:
    if training.trainer == "cpo":
        from transformers import AutoModelForCausalLM

        from prefdata.training._other_trainers import ReferenceFreeTrainer

        model = AutoModelForCausalLM.from_pretrained(
            job["model_folder"], use_safetensors=True, **job["model_arguments"]
        )
        return ReferenceFreeTrainer(training=training, model=model, **shared)
    shared |= {"model": job["model_folder"], "quantization_config": _quantization(training)}
    if training.trainer == "kto":
        from prefdata.training._other_trainers import AnswerTrainer

        return AnswerTrainer(**shared)
    from prefdata.training._trainer import PairCollator, PairTrainer
    from prefdata.training.reference import ReferenceCache

    collator = PairCollator(
        pad_token_id=shared["processing_class"].pad_token_id, pad_to_multiple_of=shared["args"].pad_to_multiple_of
    )
    collator.columns = training.columns
    folder = Path(job["cache"])
    references = {
        {"train": "train", "test": "eval"}[split]: ReferenceCache(folder, entry["key"], entry["rows"])
        for split, entry in job["references"].items()
    }
    other = _reference(job)
    trainer = PairTrainer(
        **other,
        training=training,
        references=references,
        reference_tokens=job["reference_tokens"],
        check_start=training.reference is None and (training.lora is None or training.lora.dropout == 0),
        data_collator=collator,
        **shared,
    )
    if other:
        # Its log-probabilities are kept; nothing needs the model any more.
        trainer.ref_model = None
    # What the reference's pass computed is no part of the training.
    collator.computed = collator.real = 0
    return trainer


def _reference(job: dict[str, JSON]) -> dict[str, Any]:
    """Gives the argument that is the reference model, where it is another than training starts from."""
    if "reference_folder" not in job:
        return {}
    from transformers import AutoModelForCausalLM

    folder, arguments = job["reference_folder"], job["model_arguments"]
    return {"ref_model": AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, **arguments)}


def _adapter(training: Any) -> Any:
    if training.lora is None:
        return None
    from peft import LoraConfig

    lora = training.lora
    modules = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=modules,
        task_type="CAUSAL_LM",
    )


def _quantization(training: Any) -> Any:
    if training.lora is None or training.lora.quantization == "none":
        return None
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_use_double_quant=True,
    )


def _last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end."""
    from prefdata.training.job import COMPLETE

    complete = [path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE}")]
    return max(complete, key=_step_of, default=None)


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _result(job: dict[str, JSON], trainer: Any, steps: int, preparing: float, training: float) -> dict[str, JSON]:
    import torch

    collator = trainer.data_collator
    memory = torch.cuda.max_memory_allocated() if job["device"] == "cuda" else None
    return {
        "steps": steps,
        "device": torch.cuda.get_device_name() if job["device"] == "cuda" else "cpu",
        "seconds_preparing": round(preparing, 3),
        "seconds_training": round(training, 3),
        "tokens_computed": getattr(collator, "computed", None),
        "tokens_real": getattr(collator, "real", None),
        "reference_batches": getattr(trainer, "reference_batches", None),
        "peak_memory_bytes": memory,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
