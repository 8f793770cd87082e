"""A reference model that is another than training starts from: its log-probabilities, computed independently."""

from __future__ import annotations

import json

import pytest
from tiny_model import pair_rows, write_dataset, write_model
from trainings import SMALL, run_script

from prefdata.errors import ModelError
from prefdata.models.folders import model_pins
from prefdata.training import DPOTraining, SimPOTraining
from prefdata.training.launch import _published
from prefdata.training.options import LoRA
from prefdata.training.prepare import prepare

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


def saved_again(folder):
    """Other files of the same tokenizer, as a training leaves them; a reference needs no chat template."""
    (folder / "chat_template.jinja").unlink()
    told = json.loads((folder / "tokenizer_config.json").read_text())
    told.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps({**told, "saved": "again"}))


def swapped(folder):
    """Two tokens in each other's place: as many ids, of which two mean something else."""
    told = json.loads((folder / "tokenizer.json").read_text())
    ids = told["model"]["vocab"]
    ids["a"], ids["b"] = ids["b"], ids["a"]
    (folder / "tokenizer.json").write_text(json.dumps(told))


@pytest.fixture
def shop(tmp_path):
    write_model(tmp_path / "model", seed=0)
    write_model(tmp_path / "first", seed=1)
    write_dataset(tmp_path / "data", pair_rows(6))
    return tmp_path


def prepared(shop):
    training = DPOTraining(model=str(shop / "model"), reference=str(shop / "first"), **SMALL)
    return prepare(training, shop / "data", shop / "out", cache=shop / "references")


@pytest.mark.parametrize("change", [lambda folder: None, saved_again])
def test_the_pins_of_the_reference_are_kept_and_its_path_is_not(shop, change):
    change(shop / "first")
    done = prepared(shop)
    pins = model_pins(str(shop / "first"))
    assert done.facts["reference_pins"] == pins
    assert (pins["tokenizer_sha256"] == done.facts["model_pins"]["tokenizer_sha256"]) is (change is not saved_again)
    told = _published(done.training)
    assert (told.model, told.reference) == ("model", "first")


def test_a_reference_with_other_tokens_is_refused(shop):
    swapped(shop / "first")
    with pytest.raises(ModelError, match=r"has another tokenizer than .*: the token 'a' has the id"):
        prepared(shop)


def test_the_small_model_of_a_laptop_is_its_own_reference():
    assert DPOTraining(model="a/b", reference="c/d").on_a_laptop("e/f").reference is None
