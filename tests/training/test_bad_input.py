"""Mistakes are told in one message, before a model is loaded."""

from __future__ import annotations

import dataclasses
import json

import pytest
from pydantic import TypeAdapter
from tiny_model import TEMPLATE, pair_rows, write_dataset, write_model

from prefdata.errors import UserError
from prefdata.training import AnyTraining, DPOTraining, LoRA, SPPOTraining, WPOTraining
from prefdata.training.checks import _config, check_arguments
from prefdata.training.prepare import prepare


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    write_model(folder / "model")
    write_model(folder / "silent", template=TEMPLATE.partition("{% if add_generation_prompt %}")[0])
    write_dataset(folder / "data", pair_rows(8))
    bare = [{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in pair_rows(8)]
    write_dataset(folder / "bare", bare)
    import pyarrow.parquet as pq

    write_dataset(folder / "empty", pair_rows(1))
    file = folder / "empty" / "data" / "train-00000-of-00001.parquet"
    pq.write_table(pq.read_table(file).slice(0, 0), file)
    write_dataset(folder / "other", [{"text": "x"}])
    return folder


def training(shop, kind=DPOTraining, **changed):
    known = {"model": str(shop / "model"), "devices": 1, "per_device_batch_size": 2, "gradient_accumulation_steps": 1}
    return kind(**{**known, "strategy": "none", **changed})


@pytest.mark.parametrize(
    ("data", "kind", "changed", "options", "said"),
    [
        ("bare", SPPOTraining, {}, {}, "reads chosen_probs_win, chosen_probs_lose, and the dataset has no"),
        ("other", DPOTraining, {}, {}, "holds no pairs: text"),
        ("empty", DPOTraining, {}, {}, "has 0 rows"),
        ("nowhere", DPOTraining, {}, {}, "holds no finished dataset"),
        ("data", DPOTraining, {"model": "./nowhere"}, {}, "is neither a local folder nor a Hub id"),
        ("data", DPOTraining, {"model": "SILENT"}, {}, "no generation prompt"),
        ("data", DPOTraining, {}, {"processes": 4096}, "4096 processes on this machine, which has no GPU"),
        ("data", DPOTraining, {}, {"processes": 3, "gpus": 2}, "3 processes on this machine, which has 2 GPUs"),
        ("data", DPOTraining, {"per_device_batch_size": 3}, {"processes": 2}, "doesn't divide over 2 processes"),
        ("data", DPOTraining, {"strategy": "zero3", "optimizer": "galore_adamw"}, {}, "can't shard the optimiser"),
        ("data", DPOTraining, {"strategy": "fsdp2"}, {}, "needs GPUs"),
        ("data", DPOTraining, {"precision": "bf16"}, {}, "precision = 'bf16' needs a GPU"),
        ("data", DPOTraining, {"lora": LoRA(quantization="4bit")}, {}, "4bit"),
        ("data", DPOTraining, {"optimizer": "adamm"}, {}, "optimizer: transformers has no 'adamm'"),
        ("data", DPOTraining, {"schedule": "wavy"}, {}, "schedule: transformers has no 'wavy'"),
        ("data", DPOTraining, {"trl": {"learning_rat": 1}}, {}, "trl.learning_rat: not an argument of trl.DPOConfig"),
        ("data", DPOTraining, {"trl": {"learning_rate": 1}}, {}, "trl.learning_rate: decided by learning_rate"),
        ("data", WPOTraining, {"trl": {"loss_type": ["ipo"]}}, {}, "trl.loss_type: decided by kind"),
        ("data", DPOTraining, {"trl": {"sync_ref_model": True}}, {}, "can't be cached"),
        ("data", DPOTraining, {}, {"split": "validation"}, "has no split 'validation'"),
        ("data", DPOTraining, {"max_length": 4, "truncation": "answer_start"}, {}, "no row of the split 'train'"),
    ],
)  # fmt: skip
def test_one_message_each(monkeypatch, shop, tmp_path, data, kind, changed, options, said):
    options = dict(options)
    gpus = options.pop("gpus", 0)
    monkeypatch.setattr("prefdata.training.checks.gpu_count", lambda: gpus)
    changed = {**changed, **({"model": str(shop / "silent")} if changed.get("model") == "SILENT" else {})}
    with pytest.raises(UserError, match=said):
        prepare(training(shop, kind, **changed), shop / data, tmp_path / "out", cache=tmp_path / "cache", **options)
    assert not list(tmp_path.rglob("job.json"))


COMMANDS = {
    "a dataset without the columns of an objective": (
        ("bare", "--set", "kind=sppo"),
        "the objective 'sppo' reads chosen_probs_win, chosen_probs_lose, and the dataset has no chosen_probs_win",
    ),
    "a model that is not there": (
        ("data", "--model", "./nowhere"),
        "'./nowhere' is neither a local folder nor a Hub id",
    ),
    "a template without generation prompt": (("data", "--model", "SILENT"), "no generation prompt"),
    "more processes than GPUs": (("data", "--processes", "3"), "3 processes on this machine, which has 2 GPUs"),
    "a dataset of 0 rows": (("empty",), "has 0 rows"),
    "a batch that does not divide": (
        ("data", "--processes", "2", "--set", "per_device_batch_size=3"),
        "a batch of 3 (3 x 1 x 1) doesn't divide over 2 processes of 3",
    ),
    "an optimiser that ZeRO-3 can't shard": (
        ("data", "--set", "strategy=zero3", "--set", "optimizer=galore_adamw"),
        "strategy = 'zero3' can't shard the optimiser 'galore_adamw'",
    ),
}


@pytest.mark.parametrize("mistake", COMMANDS)
def test_each_mistake_is_one_message_and_exit_code_2_before_anything_is_loaded(
    monkeypatch, shop, tmp_path, prefdata, mistake
):
    import transformers

    (data, *words), message = COMMANDS[mistake]
    words = [str(shop / "silent") if word == "SILENT" else word for word in words]
    model = [] if "--model" in words else ["--model", shop / "model"]
    shared = {"kind": "dpo", "devices": 1, "per_device_batch_size": 2, "gradient_accumulation_steps": 1}
    settings = [word for name, value in shared.items() for word in ("--set", f"{name}={value}")]
    loaded: list[object] = []
    monkeypatch.setattr("prefdata.training.checks.gpu_count", lambda: 2)
    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", lambda *words, **_: loaded.append(words))
    monkeypatch.setattr("subprocess.run", lambda *words, **_: loaded.append(words))
    said = prefdata("train", shop / data, "--out", tmp_path / "out", *model, *settings, *words)
    assert (said.code, said.out, loaded) == (2, "", [])
    (line,) = [line for line in said.err.splitlines() if line.startswith("prefdata: ")]
    assert message in line
    assert "  next:  " in said.err or "  valid: " in said.err
    assert len(said.err.splitlines()) <= 4


def test_the_command_exits_with_2(fresh, shop, tmp_path):
    done = fresh("train", "nowhere.py", cwd=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert "there is no recipe 'nowhere.py'" in done.err
    done = fresh("train", shop / "data", cwd=tmp_path)
    assert done.code == 2
    assert "says nothing of a training" in done.err
    done = fresh("train", shop / "data", "--model", "m", "--set", "kind=dpo", "--set", "betta=1", cwd=tmp_path)
    assert done.code == 2
    assert "training.dpo.betta" in done.err or "training.betta" in done.err
    done = fresh("train", shop / "data", "--set", "kind", cwd=tmp_path)
    assert done.code == 2
    assert "is not KEY=VALUE" in done.err


@pytest.mark.parametrize("kind", ["dpo", "simpo", "kto"])
def test_no_argument_of_trl_publishes_or_takes_the_hubs_token(kind):
    training = TypeAdapter(AnyTraining).validate_python({"kind": kind, "model": "m"})
    names = [field.name for field in dataclasses.fields(_config(training))]
    published = [name for name in names if "hub" in name]
    assert {"push_to_hub", "hub_token", "hub_model_id"} <= set(published)
    for name in published:
        with pytest.raises(UserError, match=f"trl.{name}: ") as refused:
            check_arguments(training.replace(trl={name: "secret-value"}))
        assert "secret-value" not in str(refused.value)


def test_a_folder_of_something_else_is_not_written_into(shop, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="is not empty and holds no training"):
        prepare(training(shop), shop / "data", tmp_path / "out", cache=tmp_path / "cache")


@pytest.mark.parametrize("name", ["training.json", "training/job.json", "training/.lock"])
def test_no_training_writes_through_a_link(shop, tmp_path, name):
    (tmp_path / "notes").write_text("mine")
    (tmp_path / "out" / "training").mkdir(parents=True)
    (tmp_path / "out" / "training" / "job.json").write_text("{}")
    (tmp_path / "out" / name).unlink(missing_ok=True)
    (tmp_path / "out" / name).symlink_to(tmp_path / "notes")
    with pytest.raises(UserError, match="is a link, and a training would write through it"):
        prepare(training(shop), shop / "data", tmp_path / "out", cache=tmp_path / "cache")
    assert (tmp_path / "notes").read_text() == "mine"


def test_a_training_that_has_begun_is_not_continued_with_other_numbers(shop, tmp_path):
    fields = {"cache": tmp_path / "cache"}
    write_dataset(tmp_path / "data", pair_rows(8))
    first = prepare(training(shop, SPPOTraining), tmp_path / "data", tmp_path / "out", **fields)
    (first.work / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    again = prepare(training(shop, SPPOTraining), tmp_path / "data", tmp_path / "out", **fields)
    assert again.job == first.job
    write_dataset(tmp_path / "other", [{**row, "chosen_probs_win": 0.51} for row in pair_rows(8)])
    with pytest.raises(UserError, match="holds another training"):
        prepare(training(shop, SPPOTraining), tmp_path / "other", tmp_path / "out", **fields)


def test_an_objective_that_reads_another_column_gets_its_own_tokens(shop, tmp_path):
    def prepared(columns):
        class Reading(DPOTraining):
            pass

        Reading.columns = columns
        Reading.__module__ = "prefdata.training.dpo"
        return prepare(training(shop, Reading), shop / "data", tmp_path / "out", cache=tmp_path / "cache").job

    assert prepared(())["tokens"] != prepared(("chosen_probs_win",))["tokens"]


def test_a_published_recipe_without_new_fields_loads_and_keeps_its_fingerprint():
    """Fields added later are not dumped at their defaults."""
    old = {
        "model": "m", "learning_rate": 1e-6, "beta": 0.01, "epochs": 2.0, "per_device_batch_size": 2,
        "gradient_accumulation_steps": 8, "devices": 8, "optimizer": "adamw_torch", "schedule": "cosine",
        "warmup": 0.1, "max_length": 2048, "seed": 1, "kind": "wpo",
    }  # fmt: skip
    assert WPOTraining(model="m").dump() == old
    assert WPOTraining.model_validate(old) == WPOTraining(model="m")
    assert WPOTraining(model="m", clamp=False).dump() == {**old, "clamp": False}
    assert json.loads(json.dumps(WPOTraining(model="m", lora=LoRA()).dump()))["lora"]["rank"] == 16
