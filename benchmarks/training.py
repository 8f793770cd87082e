"""Our trainer against plain TRL with the same settings, side by side in one run.

    python benchmarks/training.py                  # 480 pairs with made-up lengths, 2 and 4 a batch
    python benchmarks/training.py --data FILE      # lengths of a JSON-lines file of prompt, chosen, rejected

The model is a Llama of two layers with random weights; lengths are those of UltraFeedback's pairs, cut at 1,024 tokens.
Every design trains one epoch on the same rows in float32, on one thread, with the sigmoid loss. CPU seconds are of the
training alone; the reference's pass is timed on its own. Rounds are interleaved.

`trl`: TRL's defaults (random order, the reference in every step). `own loss`: the same, with our override of
`compute_loss`. `cached`: the reference from our cache. `cached, grouped`: and batches of nearly one length.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

MAX_LENGTH = 1024


@dataclass
class Setting:
    """What is trained, and on what."""

    folder: Path
    device: str = "cpu"
    dtype: str = "float32"
    vocabulary: int = 512
    hidden: int = 64
    layers: int = 2
    inner: int = 128
    heads: int = 4
    attention: str = "sdpa"
    reference_tokens: int = 8192
    designs: tuple[str, ...] = ("trl", "own loss", "cached", "cached, grouped")
    lengths: list[tuple[int, int, int]] = field(default_factory=list)
    """Tokens of prompt, chosen and rejected of each pair."""

    @property
    def model(self) -> str:
        return str(self.folder / "model")

    def clock(self) -> float:
        """Seconds: of the processor on a CPU, of the wall, with all kernels done, on a GPU."""
        if self.device == "cpu":
            return time.process_time()
        import torch

        torch.cuda.synchronize()
        return time.monotonic()


def made_up_lengths(pairs: int) -> list[tuple[int, int, int]]:
    """Lengths like UltraFeedback's: prompts of 180 tokens in the mean, answers of 290 and 250, alike in a pair."""
    draw = random.Random(5)
    lengths = []
    for _ in range(pairs):
        prompt = max(8, round(draw.lognormvariate(4.7, 1.0)))
        common = draw.gauss(0, 0.7)
        answers = [max(4, round(2.718281828 ** (mean + common + draw.gauss(0, 0.45)))) for mean in (5.4, 5.25)]
        prompt = min(prompt, MAX_LENGTH - 64)
        lengths.append((prompt, *(min(answer, MAX_LENGTH - prompt) for answer in answers)))
    return lengths


def lengths_of(file: str, pairs: int) -> list[tuple[int, int, int]]:
    """Lengths of real pairs, in tokens of the embedded model."""
    from prefdata.models.embedded import embedded_folder
    from prefdata.training import WPOTraining
    from prefdata.training.rows import Answers
    from prefdata.training.tokens import Encoder, load_tokenizer

    training = WPOTraining(model="m", max_length=MAX_LENGTH, max_prompt_length=None, truncation="answer_start")
    encoder = Encoder(load_tokenizer(embedded_folder("smollm2-135m-instruct")), training)
    rows = []
    with gzip.open(file, "rt") if file.endswith(".gz") else Path(file).open() as lines:
        for number, line in enumerate(lines):
            row = json.loads(line)
            turn = {"role": "user", "content": row["prompt"]}
            sides = tuple([{"role": "assistant", "content": row[side]}] for side in ("chosen", "rejected"))
            rows.append(Answers(number, str(number), [turn], sides))
    kept = [done.pair for done in encoder.encode(rows) if done.pair is not None][:pairs]
    return [(len(pair.prompt), len(pair.chosen), len(pair.rejected)) for pair in kept]


def write_inputs(setting: Setting) -> None:
    """The model, its tokenizer, and the file of tokens."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {"<pad>": 0, "<eos>": 1, **{f"w{number}": number for number in range(2, setting.vocabulary)}}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, "<pad>")), pad_token="<pad>", eos_token="<eos>"
    )
    config = LlamaConfig(
        vocab_size=setting.vocabulary,
        hidden_size=setting.hidden,
        intermediate_size=setting.inner,
        num_hidden_layers=setting.layers,
        num_attention_heads=setting.heads,
        num_key_value_heads=max(1, setting.heads // 4),
        max_position_embeddings=2 * MAX_LENGTH,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
        dtype=setting.dtype,
    )
    torch.manual_seed(0)
    with torch.device(setting.device):
        model = LlamaForCausalLM(config).to(getattr(torch, setting.dtype))
    model.save_pretrained(setting.model)
    del model
    if setting.device == "cuda":
        torch.cuda.empty_cache()
    tokenizer.save_pretrained(setting.model)
    draw = random.Random(1)
    rows = [
        {
            "prompt_ids": [draw.randrange(2, setting.vocabulary) for _ in range(prompt)],
            "chosen_ids": [draw.randrange(2, setting.vocabulary) for _ in range(chosen)],
            "rejected_ids": [draw.randrange(2, setting.vocabulary) for _ in range(rejected)],
            "length": prompt + max(chosen, rejected),
        }
        for prompt, chosen, rejected in setting.lengths
    ]
    ids = pa.list_(pa.int32())
    schema = pa.schema([("prompt_ids", ids), ("chosen_ids", ids), ("rejected_ids", ids), ("length", pa.int32())])
    pq.write_table(pa.Table.from_pylist(rows, schema), setting.folder / "tokens.parquet")


def build(setting: Setting, design: str, pairs: int, *, rows: int | None = None) -> Any:
    """A trainer of one design, with `pairs` pairs a batch."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    from prefdata.training import DPOTraining
    from prefdata.training._trainer import PairCollator, PairTrainer
    from prefdata.training.objectives import sigmoid_loss
    from prefdata.training.reference import ReferenceCache

    class Stock(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    class OwnLoss(DPOTraining):
        own_loss = True

        def loss(self, given: Any) -> Any:
            return sigmoid_loss(given, beta=self.beta)

    data = Dataset.from_parquet(str(setting.folder / "tokens.parquet"), cache_dir=str(setting.folder / "datasets"))
    data = data.select(range(rows)) if rows else data
    cached = design.startswith("cached")
    shutil.rmtree(setting.folder / "run", ignore_errors=True)
    arguments = DPOConfig(
        output_dir=str(setting.folder / "run"),
        per_device_train_batch_size=pairs,
        gradient_accumulation_steps=1,
        num_train_epochs=1,
        learning_rate=1e-6,
        beta=0.1,
        max_length=MAX_LENGTH,
        bf16=setting.dtype == "bfloat16",
        use_cpu=setting.device == "cpu",
        gradient_checkpointing=setting.device == "cuda",
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        logging_steps=10_000,
        remove_unused_columns=False,
        precompute_ref_log_probs=cached,
        optim="adamw_torch_fused" if setting.device == "cuda" else "adamw_torch",
        model_init_kwargs={"dtype": setting.dtype, "attn_implementation": setting.attention},
        dataloader_pin_memory=setting.device == "cuda",
    )
    tokenizer = AutoTokenizer.from_pretrained(setting.model)
    shared = {"model": setting.model, "args": arguments, "train_dataset": data, "processing_class": tokenizer}
    multiple = int(design.rpartition(" ")[2]) if design[-1].isdigit() else None
    collator = PairCollator(pad_token_id=0, pad_to_multiple_of=multiple)
    if design == "trl":
        return Stock(data_collator=collator, **shared)
    kind = OwnLoss if design == "own loss" else DPOTraining
    training = kind(model="m", beta=0.1, group_by_length="grouped" in design)
    caches = {"train": ReferenceCache(setting.folder / "cache", f"reference-{len(data)}", len(data))} if cached else {}
    return PairTrainer(
        training=training,
        references=caches,
        reference_tokens=setting.reference_tokens,
        check_start=cached,
        data_collator=collator,
        **shared,
    )


def train(setting: Setting, design: str, pairs: int) -> dict[str, float]:
    """One epoch: seconds, tokens, and the peak of memory on a GPU."""
    import torch

    trainer = build(setting, design, pairs)
    trainer.data_collator.computed = trainer.data_collator.real = 0
    if setting.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = setting.clock()
    trainer.train()
    seconds = setting.clock() - start
    told = {
        "seconds": seconds,
        "computed": trainer.data_collator.computed,
        "real": trainer.data_collator.real,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if setting.device == "cuda" else 0.0,
        "loss": trainer.state.log_history[-1]["train_loss"],
    }
    del trainer
    release(setting)
    return told


def release(setting: Setting) -> None:
    """Gives memory back between two runs."""
    import gc

    import torch

    gc.collect()
    if setting.device == "cuda":
        torch.cuda.empty_cache()


def reference_pass(setting: Setting) -> tuple[float, float]:
    """Seconds of our reference pass, and of a hand-written loop over the same batches."""
    import torch

    from prefdata.training.batches import batches_by_length
    from prefdata.training.reference import ReferenceCache

    trainer = build(setting, "cached", 2)
    data, cache = trainer.train_dataset, ReferenceCache(setting.folder / "cache", "timed", len(setting.lengths))
    shutil.rmtree(setting.folder / "cache" / "timed.parts", ignore_errors=True)
    # The first forward pass of a new model costs more, whoever makes it.
    warm = ReferenceCache(setting.folder / "cache", "warm", 4)
    trainer._run_reference(warm, data.select(range(4)))
    start = setting.clock()
    trainer._run_reference(cache, data)
    ours = setting.clock() - start
    by_hand = torch.zeros(len(data), 2)
    start = setting.clock()
    for rows in batches_by_length(list(range(len(data))), list(data["length"]), setting.reference_tokens):
        examples = [data[row] for row in rows]
        sides = [[row["prompt_ids"] + row[side] for row in examples] for side in ("chosen_ids", "rejected_ids")]
        ids = [torch.tensor(each) for side in sides for each in side]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=0).to(setting.device)
        lengths = torch.tensor([len(each) for each in ids], device=setting.device)
        begins = torch.tensor([len(row["prompt_ids"]) for row in examples] * 2, device=setting.device)
        place = torch.arange(padded.shape[1], device=setting.device)
        inside = (place < lengths[:, None]).long()
        labels = padded.masked_fill((place < begins[:, None]) | (inside == 0), -100)
        with torch.no_grad(), trainer.accelerator.autocast():
            out = trainer.model(input_ids=padded, attention_mask=inside, labels=labels, fused_lm_head=True)
        by_hand[rows] = out.log_probs.sum(1).float().cpu().reshape(2, -1).T
    hand = setting.clock() - start
    apart = (by_hand.numpy() - cache.values).__abs__().max()
    assert apart < (1e-2 if setting.dtype == "float32" else 5.0), f"the two passes differ by {apart}"
    del trainer
    release(setting)
    return ours, hand


def table(setting: Setting, batches: list[int], rounds: int, *, until: float | None = None) -> dict[str, Any]:
    """Runs every design in turn, prints a row each, and returns all numbers.

    Args:
        setting: what is trained.
        batches: pairs a batch.
        rounds: how often.
        until: on the clock of the wall; what would start later is left out, and said so.
    """
    designs = list(setting.designs)
    build(setting, "cached", 2)  # fills the cache, and compiles what is compiled once
    build(setting, "trl", 2, rows=min(16, len(setting.lengths))).train()
    release(setting)
    found: dict[tuple[int, str], list[dict[str, float]]] = {}
    for number in range(rounds):
        for pairs in batches:
            for design in designs if number % 2 == 0 else designs[::-1]:
                if until is not None and time.monotonic() > until:
                    print(f"left out, no time: {pairs} pairs, {design}", flush=True)
                    continue
                found.setdefault((pairs, design), []).append(train(setting, design, pairs))
                print(f"  round {number}: {pairs} pairs, {design}: {found[pairs, design][-1]}", flush=True)
    print("\n| pairs a batch | design | first | fastest | against trl | computed / real | real tokens/s | peak GiB |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    fastest = {key: min(run["seconds"] for run in runs) for key, runs in found.items()}
    for (pairs, design), runs in found.items():
        seconds, run = fastest[pairs, design], runs[0]
        base = fastest.get((pairs, "trl"), 0.0)
        print(
            f"| {pairs} | {design} | {run['seconds']:.2f} | {seconds:.2f} | {base / seconds:.2f} x | "
            f"{run['computed'] / run['real']:.3f} | {run['real'] / seconds:,.0f} | {run['peak_gib']:.1f} |"
        )
    return {f"{pairs}/{design}": runs for (pairs, design), runs in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=480)
    parser.add_argument("--data")
    parser.add_argument("--batches", default="2,4")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(Path(folder))
        setting.lengths = lengths_of(given.data, given.pairs) if given.data else made_up_lengths(given.pairs)
        write_inputs(setting)
        table(setting, [int(number) for number in given.batches.split(",")], given.rounds)
        passes = [reference_pass(setting) for _ in range(3)]
        ours, hand = (statistics.median(times) for times in zip(*passes, strict=True))
        print(f"\nreference pass: {ours:.2f} s, by hand {hand:.2f} s: {hand / ours:.2f} x")


if __name__ == "__main__":
    main()
