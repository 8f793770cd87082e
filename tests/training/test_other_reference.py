"""A reference model that is another than training starts from: its log-probabilities, computed independently."""

from __future__ import annotations

import pytest
from tiny_model import pair_rows, write_dataset, write_model
from trainings import run_script

from prefdata.training import DPOTraining, SimPOTraining
from prefdata.training.options import LoRA

# Trains one step on all rows, and computes the rewards of that step with plain torch.
SCRIPT = """
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from tiny_model import pair_rows
from trainings import metrics, train_here

here = Path()
train_here(here, "dpo", "out", reference=str(here / "first"), per_device_batch_size=6, beta=0.5)
logged = metrics(here / "out" / "training")[0]

def answer_logps(folder):
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = []
    for row in pair_rows(6):
        begin = tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
        for side in ("chosen", "rejected"):
            whole = tokenizer.apply_chat_template(row["prompt"] + row[side], tokenize=False)
            ids = tokenizer(whole, add_special_tokens=False, return_tensors="pt")["input_ids"]
            skip = len(tokenizer(begin, add_special_tokens=False)["input_ids"])
            with torch.no_grad():
                table = model(ids).logits[0, :-1].log_softmax(-1)
            found.append(table.gather(1, ids[0, 1:, None])[skip - 1 :].sum().item())
    return torch.tensor(found).view(-1, 2)

rewards = 0.5 * (answer_logps("model") - answer_logps("first"))
loss = -torch.nn.functional.logsigmoid(rewards[:, 0] - rewards[:, 1]).mean().item()
print(json.dumps({"logged": logged, "loss": loss, "chosen": rewards[:, 0].mean().item()}))
"""


def test_the_first_step_compares_the_policy_with_the_named_reference(tmp_path):
    write_model(tmp_path / "model", seed=0)
    write_model(tmp_path / "first", seed=1)
    write_dataset(tmp_path / "data", pair_rows(6))
    found = run_script(tmp_path, SCRIPT)
    assert found["logged"]["loss"] == pytest.approx(found["loss"], abs=1e-4)
    assert found["logged"]["rewards/chosen"] == pytest.approx(found["chosen"], abs=1e-3)
    # Of one model under both names, both would be 0.
    assert abs(found["chosen"]) > 0.01


@pytest.mark.parametrize(
    ("kind", "fields"),
    [(DPOTraining, {"cache_reference": False}), (DPOTraining, {"lora": LoRA()}), (SimPOTraining, {})],
)
def test_a_reference_that_nothing_would_use_is_refused(kind, fields):
    with pytest.raises(ValueError, match="`reference` needs"):
        kind(model="a/b", reference="c/d", **fields)
