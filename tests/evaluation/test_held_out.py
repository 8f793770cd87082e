"""Accuracy and margin are those of an independent computation, and the trainer's cache is used and filled."""

from __future__ import annotations

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_model import pair_rows, write_model
from trainings import command, run, workshop

from prefdata import evaluate
from prefdata.errors import InputError

pytestmark = pytest.mark.model

BETA = 0.1


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = workshop(tmp_path_factory.mktemp("held_out"))
    done = run(folder, command("dpo", "trained", beta=BETA, trl={"max_steps": 3}))
    assert done.returncode == 0, done.stderr[-4000:]
    rows = [
        {
            "prompt": row["prompt"][0]["content"],
            "chosen": row["chosen"][0]["content"],
            "rejected": row["rejected"][0]["content"],
            "subset": "made",
        }
        for row in pair_rows(9)[3:]
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "bench.parquet")
    return folder


@pytest.fixture(scope="module")
def others(shop):
    """An adapter, and a model that was trained with another reference; a third model."""
    write_model(shop / "first", seed=1)
    paths = {"beta": BETA, "trl": {"max_steps": 1}, "model": str(shop / "model")}
    for out, fields in (("adapter", {"lora": {"rank": 4}}), ("far", {"reference": str(shop / "first")})):
        done = run(shop, command("dpo", out, **paths, **fields))
        assert done.returncode == 0, done.stderr[-4000:]
    return shop


PLAIN = """
import json, sys
import pyarrow.parquet as pq
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

beta, files = float(sys.argv[1]), sys.argv[2:]
tokenizer = AutoTokenizer.from_pretrained("trained")
models = [AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32).eval() for name in ("trained", "model")]

def log_prob(model, prompt, answer):
    begin = len(tokenizer.apply_chat_template(prompt, tokenize=True, add_generation_prompt=True)["input_ids"])
    ids = tokenizer.apply_chat_template(prompt + answer, tokenize=True, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logits = model(ids).logits[0].double()
    return sum(logits[at - 1].log_softmax(-1)[ids[0, at]].item() for at in range(begin, ids.shape[1]))

def messages(role, cell):
    return [{"role": role, "content": cell}] if isinstance(cell, str) else cell

found = {}
for file in files:
    margins = []
    for row in pq.read_table(file).to_pylist():
        prompt = messages("user", row["prompt"])
        answers = [messages("assistant", row[side]) for side in ("chosen", "rejected")]
        rewards = [beta * (log_prob(models[0], prompt, a) - log_prob(models[1], prompt, a)) for a in answers]
        margins.append(rewards[0] - rewards[1])
    found[file] = [sum(m > 0 for m in margins) / len(margins), sum(margins) / len(margins)]
print(json.dumps(found))
"""


def test_the_numbers_are_those_of_plain_torch_and_the_reference_is_the_trainer_s(shop, fresh, monkeypatch):
    monkeypatch.chdir(shop)
    monkeypatch.setenv("XDG_CACHE_HOME", str(shop / "cache"))
    card = (shop / "trained" / "README.md").read_text()
    lines = []
    done = evaluate("trained", "held_out", dataset=["data", "bench.parquet"], reference="model", log=lines.append)
    test = "data/data/test-00000-of-00001.parquet"
    said = fresh(str(BETA), test, "bench.parquet", code=PLAIN, cwd=shop)
    assert said.code == 0, said.err[-3000:]
    expected = json.loads(said.out.splitlines()[-1])
    for name, file in (("data", test), ("bench.parquet", "bench.parquet")):
        found = done.results["sets"][name]
        assert found["accuracy"] == pytest.approx(expected[file][0], abs=1e-12)
        assert found["margin"] == pytest.approx(expected[file][1], abs=1e-5)
        assert found["margin"] == pytest.approx(found["reward_chosen"] - found["reward_rejected"], abs=1e-9)
    assert done.results["sets"]["data"]["split"] == "test"
    assert done.results["inputs"]["reference"]["is_what_training_started_from"] is True
    # The trainer had computed the reference of the test split: only the model's own numbers were missing.
    computed = [line for line in lines if "are cached" in line]
    assert computed == ["0 of 6 rows are cached", "0 of 6 rows are cached", "0 of 6 rows are cached"]
    lines.clear()
    again = evaluate("trained", "held_out", dataset=["data", "bench.parquet"], reference="model", log=lines.append)
    assert again.results["sets"] == done.results["sets"]
    assert [line for line in lines if "are cached" in line] == []
    after = (shop / "trained" / "README.md").read_text()
    assert "model-index" in after and "model-index" not in card


def chosen(shop, model, **options):
    done = evaluate(str(shop / model), "held_out", dataset=[str(shop / "bench.parquet")], **options)
    return done.results["sets"]["bench.parquet"]["reward_chosen"], done.results["inputs"]["reference"]


def test_the_reference_of_the_training_is_taken_and_no_path_of_it_is_published(others, monkeypatch, tmp_path):
    monkeypatch.chdir(others)
    monkeypatch.setenv("XDG_CACHE_HOME", str(others / "cache"))
    told = (others / "far" / "training.json").read_text()
    assert str(others) not in told
    assert json.loads(told)["training"]["reference"] == json.loads(told)["parameters"]["reference"] == "first"
    reward, facts = chosen(others, "far")
    assert (facts["name"], facts["is_that_of_training"], facts["is_what_training_started_from"]) == (
        "first",
        True,
        False,
    )
    assert chosen(others, "far", reference="first")[0] == reward
    from_model, facts = chosen(others, "far", reference="model")
    assert (facts["is_that_of_training"], facts["is_what_training_started_from"]) == (False, True)
    assert abs(from_model - reward) > 1e-3
    # It lies beside the model, wherever the command runs; a model that was moved alone has a name that leads nowhere,
    # and must not be looked for on the Hub.
    monkeypatch.chdir(others / "data")
    assert chosen(others, "far")[0] == reward
    shutil.copytree(others / "far", tmp_path / "far")
    with pytest.raises(InputError, match="where the reference is that its training had"):
        evaluate(str(tmp_path / "far"), "held_out", dataset=[str(others / "bench.parquet")])


def test_an_adapter_stays_on_its_base_whatever_the_reference_is(others, monkeypatch):
    monkeypatch.chdir(others)
    monkeypatch.setenv("XDG_CACHE_HOME", str(others / "cache"))
    of_base, _ = chosen(others, "adapter", reference="model")
    of_first, _ = chosen(others, "adapter", reference="first")
    # Policies are equal where rewards differ by what the two references say of each other alone.
    between, _ = chosen(others, "model", reference="first", settings={"beta": BETA}, out=others / "between")
    assert of_first - of_base == pytest.approx(between, abs=1e-5)
    assert abs(between) > 1e-3
    config = others / "adapter" / "adapter_config.json"
    named = json.loads(config.read_text())
    config.write_text(json.dumps({**named, "base_model_name_or_path": str(others / "first")}))
    with pytest.raises(InputError, match=r"the base .* is changed"):
        chosen(others, "adapter", reference="model")


def test_a_model_beside_the_trained_one_is_its_reference_while_it_is_the_same(shop, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(shop / "cache"))
    for name in ("trained", "model"):
        shutil.copytree(shop / name, tmp_path / "run" / name)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    given = {"suite": "held_out", "dataset": [str(shop / "bench.parquet")], "out": tmp_path / "out"}
    found = evaluate("../run/trained", **given).results["sets"]
    assert evaluate("../run/trained", **given, reference="../run/model").results["sets"] == found
    write_model(tmp_path / "run" / "model", seed=5)
    with pytest.raises(InputError, match="does not say where the model is"):
        evaluate("../run/trained", **{**given, "out": tmp_path / "again"})


def test_mistakes_are_one_message(shop, monkeypatch, tmp_path):
    monkeypatch.chdir(shop)
    monkeypatch.setenv("XDG_CACHE_HOME", str(shop / "cache"))
    pq.write_table(pa.table({"question": ["a"]}), tmp_path / "other.parquet")
    single = pa.table({"prompt": ["a"], "completion": ["b"], "label": [True]})
    pq.write_table(single, tmp_path / "single.parquet")
    mistakes = {
        "does not say where the model is": {},
        "needs a dataset of pairs": {"reference": "model", "dataset": []},
        "has no split 'dev'": {"reference": "model", "split": "dev"},
        "holds no pairs": {"reference": "model", "dataset": [str(tmp_path / "other.parquet")]},
        "holds single answers": {"reference": "model", "dataset": [str(tmp_path / "single.parquet")]},
        "training's beta": {"reference": "model", "settings": {"beta": -1}},
    }
    with monkeypatch.context() as elsewhere:
        shutil.copytree(shop / "trained", tmp_path / "alone" / "trained")
        for words, options in mistakes.items():
            where = {"out": tmp_path / "out", "dataset": [str(shop / "data")], **options}
            if not options:
                elsewhere.chdir(tmp_path)
            else:
                elsewhere.chdir(shop)
            with pytest.raises(InputError) as told:
                evaluate(str((shop if options else tmp_path / "alone") / "trained"), "held_out", **where)
            assert words in str(told.value), words
