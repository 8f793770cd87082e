"""Our trainer with the sigmoid loss is TRL's: losses, metrics and weights, bit for bit."""

from __future__ import annotations

import pytest
from trainings import run_script

COMPARE = """
import json, sys
from pathlib import Path
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer
from trl import DPOConfig, DPOTrainer
from tiny_model import pair_rows, write_dataset, write_model
from prefdata.training import DPOTraining
from prefdata.training._trainer import PairCollator, PairTrainer
from prefdata.training.objectives import sigmoid_loss
from prefdata.training.reference import ReferenceCache
from prefdata.training.prepare import prepare

torch.set_num_threads(1)
here = Path(".").absolute()
model = str(write_model(here / "model"))
data = write_dataset(here / "data", pair_rows(32), pair_rows(6))


class OwnSigmoid(DPOTraining):
    own_loss = True
    columns = ("chosen_probs_win",)

    def loss(self, pairs):
        assert set(pairs.columns) == {"chosen_probs_win"}
        return sigmoid_loss(pairs, beta=self.beta)


# Made up in this process: no file that another one could import it from.
OwnSigmoid.__module__ = "prefdata.training.dpo"
plain = dict(model=model, learning_rate=1e-3, beta=0.1, group_by_length=False, devices=1, max_length=256)
prepared = prepare(OwnSigmoid(**plain), data, here / "out", cache=here / "cache")
tokenizer = AutoTokenizer.from_pretrained(model)
splits = {name: Dataset.from_parquet(file, cache_dir="datasets") for name, file in prepared.job["tokens"].items()}


class Stock(DPOTrainer):
    def _prepare_dataset(self, dataset, *_):
        return dataset


def run(own, name, lora=None, **changed):
    arguments = {**prepared.job["arguments"], "max_steps": 6, "per_device_train_batch_size": 4, "warmup_steps": 0,
                 "gradient_accumulation_steps": 1, "eval_strategy": "no", "save_strategy": "no",
                 "precompute_ref_log_probs": False, "output_dir": f"{name}-{own}", **changed}
    shared = dict(model=model, args=DPOConfig(**arguments), train_dataset=splits["train"], eval_dataset=splits["test"],
                  processing_class=tokenizer, peft_config=lora and LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear"))
    collator = PairCollator(pad_token_id=tokenizer.pad_token_id)
    if own:
        collator.columns = OwnSigmoid.columns
        references = {}
        if arguments["precompute_ref_log_probs"]:
            rows = {"train": 32, "eval": 6}
            references = {split: ReferenceCache(here / "cache", f"{name}-{split}", n) for split, n in rows.items()}
        trainer = PairTrainer(training=OwnSigmoid(**plain), references=references, reference_tokens=500,
                              check_start=True, data_collator=collator, **shared)
    else:
        trainer = Stock(data_collator=collator, **shared)
        if arguments["precompute_ref_log_probs"]:
            # TRL's own pass pads other rows together, which moves last digits: both get the numbers of our pass.
            own_cache = [ReferenceCache(here / "cache", f"{name}-{split}", n) for split, n in (("train", 32), ("eval", 6))]
            for cache, attribute in zip(own_cache, ("train_dataset", "eval_dataset")):
                assert cache.load()
                chosen, rejected = cache.columns()
                before = getattr(trainer, attribute)
                for column, values in (("ref_chosen_logps", chosen), ("ref_rejected_logps", rejected)):
                    computed = torch.tensor(before[column])
                    torch.testing.assert_close(computed, torch.from_numpy(values.copy()), rtol=1e-5, atol=1e-4)
                    before = before.remove_columns(column).add_column(column, values)
                setattr(trainer, attribute, before)
    trainer.train()
    told = trainer.evaluate()
    skip = ("runtime", "per_second", "total_flos")
    history = [{k: v for k, v in entry.items() if not any(word in k for word in skip)} for entry in trainer.state.log_history]
    return history, {k: v.detach().clone() for k, v in trainer.model.state_dict().items()}


report = {}
for name, lora, changed in (
    ("online", None, {}),
    ("cached", None, {"precompute_ref_log_probs": True}),
    ("accumulated", None, {"gradient_accumulation_steps": 4, "per_device_train_batch_size": 1, "max_steps": 4}),
    ("lora", True, {"learning_rate": 1e-2}),
    ("checkpointing", None, {"gradient_checkpointing": True, "max_steps": 3}),
):
    ours, theirs = (run(own, name, lora, **changed) for own in (True, False))
    report[name] = {
        "history": ours[0] == theirs[0],
        "keys": sorted(ours[0][0]),
        "losses": [entry["loss"] for entry in ours[0] if "loss" in entry],
        "evaluated": [entry["eval_loss"] for entry in ours[0] if "eval_loss" in entry],
        "apart": max((ours[1][key].float() - theirs[1][key].float()).abs().max().item() for key in theirs[1]),
        "names": sorted(ours[1]) == sorted(theirs[1]),
    }
print("\\n" + json.dumps(report))
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return run_script(tmp_path_factory.mktemp("stock"), COMPARE)


@pytest.mark.parametrize("name", ["online", "cached", "accumulated", "lora", "checkpointing"])
def test_losses_metrics_and_weights_are_the_same(report, name):
    told = report[name]
    assert told["history"], "a logged number differs"
    assert {"loss", "rewards/margins", "entropy", "mean_token_accuracy", "num_tokens"} <= set(told["keys"])
    assert told["names"]
    assert told["apart"] == 0.0
    assert told["losses"][-1] < told["losses"][0]
    assert len(told["evaluated"]) == 1
