"""What a recipe says of its training is what the publications say, and TRL's configurations take it."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from pydantic import TypeAdapter, ValidationError

from prefdata.dataset import SnorkelLayout
from prefdata.tables.schemas import ANSWERS, PAIRS, PROMPTS
from prefdata.training import AnyTraining, DPOTraining, GPOTraining, SimPOTraining, SPPOTraining, WPOTraining

EVERY = [kind(model="m") for kind in (WPOTraining, DPOTraining, SPPOTraining, GPOTraining, SimPOTraining)]

CONSTRUCT = """
import importlib, json, sys

told = []
for where, arguments in json.loads(sys.argv[1]):
    module, _, name = where.rpartition(".")
    config = getattr(importlib.import_module(module), name)
    made = config(**arguments, output_dir="out", use_cpu=True, bf16=False, report_to="none")
    told.append({key: getattr(made, key) for key in arguments})
row = importlib.import_module("trl.data_utils").extract_prompt(json.loads(sys.argv[2]))
print("\\n" + json.dumps([told, row]))
"""


def snorkel_row():
    """A row of the layout `snorkel` without its column `prompt`."""
    given = [("a", "good", "bad")]
    pairs = pa.Table.from_pylist(
        [dict(zip(("prompt_id", "response_chosen", "response_rejected"), row, strict=True)) for row in given], PAIRS
    )
    messages = [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}]
    prompts = pa.Table.from_pylist([{"prompt_id": "a", "messages": messages}], PROMPTS)
    answers = pa.Table.from_pylist([{"prompt_id": "a", "response": "good", "score": 1.0}], ANSWERS)
    (row,) = SnorkelLayout().rows(pairs, prompts, answers).drop_columns(["prompt"]).to_pylist()
    return row


def test_trls_configurations_take_every_argument_and_its_reader_the_snorkel_layout(fresh, tmp_path):
    given = [[part.trl_config, part.trl_arguments()] for part in EVERY]
    row = json.dumps(snorkel_row())
    said = fresh(json.dumps(given), row, code=CONSTRUCT, cwd=tmp_path, TRL_EXPERIMENTAL_SILENCE="1")
    assert said.code == 0, said.err
    kept, read = json.loads(said.out.splitlines()[-1])
    assert kept == [arguments for _, arguments in given]
    assert {name: read[name] for name in ("prompt", "chosen", "rejected")} == {
        "prompt": [{"role": "user", "content": "SYSTEM: Be brief\n\nUSER: Hi"}],
        "chosen": [{"role": "assistant", "content": "good"}],
        "rejected": [{"role": "assistant", "content": "bad"}],
    }


# (kind, learning rate, beta, epochs, pairs a step, optimizer, schedule, warm-up, tokens, seed), as published: the
# model cards of WPO and GPO, run_sppo_*.sh, the handbook's and SimPO's YAML files.
PUBLISHED = [
    (WPOTraining, 1e-6, 0.01, 2, 128, "adamw_torch", "cosine", 0.1, 2048, 1),
    (DPOTraining, 5e-7, 0.01, 1, 128, "adamw_torch", "cosine", 0.1, 1024, 42),
    (SPPOTraining, 5e-7, 0.001, 1, 64, "rmsprop", "linear", 0.1, 1024, 42),
    (GPOTraining, 5e-7, 0.001, 6, 64, "rmsprop", "linear", 0.1, 1024, 42),
    (SimPOTraining, 1e-6, 10.0, 1, 128, "adamw_torch", "cosine", 0.1, 2048, 42),
]


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda published: published[0].__name__)
def test_the_defaults_are_the_published_ones(published):
    kind, *values = published
    part = kind(model="m")
    arguments = part.trl_arguments()
    names = (
        "learning_rate",
        "beta",
        "num_train_epochs",
        "optim",
        "lr_scheduler_type",
        "warmup_steps",
        "max_length",
        "seed",
    )
    found = [arguments[name] for name in names]
    found.insert(3, part.batch_size)
    assert found == values
    assert json.loads(json.dumps(arguments)) == arguments


def test_what_trl_calls_each_loss_and_what_it_lacks_of_it():
    wpo, dpo, sppo, gpo, simpo = EVERY
    assert [part.trl_arguments()["loss_type"] for part in EVERY] == [
        ["sigmoid"], ["sigmoid"], ["sppo_hard"], ["sppo_hard"], "simpo"
    ]  # fmt: skip
    assert wpo.trl_arguments()["use_weighting"] is True
    assert "use_weighting" not in dpo.trl_arguments()
    # TRL takes the margin, SimPO's files its ratio to beta: 0.3 x 10.
    assert (simpo.trl_arguments()["simpo_gamma"], simpo.trl_arguments()["cpo_alpha"]) == (3.0, 0.0)
    assert "clamp" in wpo.trl_lacks[0]
    assert "chosen_probs_win" in sppo.trl_lacks[0]
    assert "chosen_probs_win" in gpo.trl_lacks[0]
    assert gpo.trl_lacks[1].startswith("Training stops after 1 of 6 planned epochs")
    assert not any("Training stops" in lack for lack in sppo.trl_lacks)
    assert simpo.trl_lacks == ()


@pytest.mark.parametrize("part", EVERY, ids=lambda part: part.kind)
def test_a_training_survives_the_json_round_trip(part):
    assert TypeAdapter(AnyTraining).validate_json(json.dumps(part.dump())) == part


@pytest.mark.parametrize(
    "wrong", [{"beta": 0}, {"warmup": 1}, {"epochs": -1}, {"per_device_batch_size": 0}, {"loss": "x"}]
)
def test_impossible_numbers_are_refused(wrong):
    with pytest.raises(ValidationError):
        SPPOTraining(model="m", **wrong)
