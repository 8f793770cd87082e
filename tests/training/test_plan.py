"""What a training will do on machines that are not this one: batch, processes, precision, memory, command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_model import pair_rows, write_dataset, write_model

from prefdata.errors import UserError
from prefdata.training import DPOTraining, GPOTraining, LoRA, WPOTraining
from prefdata.training.launch import launch
from prefdata.training.plan import memory_by_strategy, step_counts
from prefdata.training.prepare import prepare


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    write_model(folder / "model")
    write_dataset(folder / "data", pair_rows(40))
    return folder


@pytest.fixture
def planned(monkeypatch, shop, tmp_path):
    def run(kind, gpus, **options):
        fields = options.pop("fields", {})
        monkeypatch.setattr("prefdata.training.checks.gpu_count", lambda: gpus)
        training = kind(model=str(shop / "model"), **fields)
        return prepare(training, shop / "data", tmp_path / "out", cache=tmp_path / "cache", **options)

    return run


def test_the_batch_is_the_published_one_on_any_number_of_gpus(planned):
    eight = planned(WPOTraining, 8)
    assert (eight.plan.batch_size, eight.plan.processes, eight.plan.accumulation) == (128, 8, 8)
    assert "--nproc-per-node 8 --standalone" in " ".join(eight.plan.command)
    two = planned(WPOTraining, 2)
    assert (two.plan.batch_size, two.plan.processes, two.plan.accumulation) == (128, 2, 32)


def test_a_gpu_computes_in_bfloat16_with_float32_weights_kept_somewhere(planned):
    whole = planned(WPOTraining, 1).job
    assert (whole["precision"], whole["model_arguments"]["dtype"], whole["deepspeed"]) == ("bf16", "float32", None)
    sharded = planned(GPOTraining, 8).job
    assert sharded["model_arguments"]["dtype"] == "bfloat16"
    # DeepSpeed keeps float32 master weights where its configuration says bf16.
    told = json.loads(Path(sharded["deepspeed"]).read_text())
    assert told["zero_optimization"]["stage"] == 3
    assert told["bf16"] == {"enabled": "auto"}
    assert planned(DPOTraining, 1, fields={"lora": LoRA()}).job["model_arguments"]["dtype"] == "bfloat16"
    assert planned(DPOTraining, 1, fields={"precision": "fp32"}).job["arguments"]["bf16"] is False


def test_bundled_files_exist_for_every_strategy(planned):
    for name, stage in (("zero2", 2), ("zero3", 3), ("zero3_offload", 3)):
        told = json.loads(Path(planned(DPOTraining, 2, fields={"strategy": name}).job["deepspeed"]).read_text())
        assert told["zero_optimization"]["stage"] == stage
        assert ("offload_optimizer" in told["zero_optimization"]) == (name == "zero3_offload")
    arguments = planned(DPOTraining, 2, fields={"strategy": "fsdp2"}).job["arguments"]
    assert arguments["fsdp"] is True
    assert json.loads(Path(arguments["fsdp_config"]).read_text())["version"] == 2


def test_several_machines_get_a_command_each_to_start(planned):
    prepared = planned(WPOTraining, 4, nodes=2)
    assert prepared.plan.processes == 8
    assert "--nproc-per-node 4 --nnodes 2 --rdzv-backend c10d" in " ".join(prepared.plan.command)
    with pytest.raises(UserError, match="runs on several machines"):
        launch(prepared)


@pytest.mark.parametrize(
    ("rows", "fields", "processes", "accumulation", "steps"),
    [
        (61_135, {}, 8, 8, (956, 956)),
        (19_766, {"epochs": 6, "stop_after": 1, "per_device_batch_size": 8, "gradient_accumulation_steps": 1}, 8, 1,
         (1854, 309)),
        (10, {"epochs": 1}, 1, 64, (1, 1)),
        (1000, {"trl": {"max_steps": 5}}, 8, 8, (5, 5)),
    ],
)  # fmt: skip
def test_steps(rows, fields, processes, accumulation, steps):
    assert step_counts(WPOTraining(model="m", **fields), rows, processes, accumulation) == steps


def test_memory_falls_with_each_stage():
    config = {"hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336}
    told = memory_by_strategy(WPOTraining(model="m"), 8_030_261_248, 8, config, 2048)
    whole, two, three, offload = (told[name]["device_gib"] for name in ("none", "zero2", "zero3", "zero3_offload"))
    assert whole > two > three > offload
    # 16 bytes a parameter of 8 billion are 120 GiB.
    assert 119 < whole - (three - 16 * 8_030_261_248 / 8 / 2**30) < 121
    assert told["zero3_offload"]["host_gib"] > 10
    adapter = memory_by_strategy(WPOTraining(model="m", lora=LoRA()), 8_030_261_248, 1, config, 2048)
    assert adapter["none"]["device_gib"] < 0.25 * whole
    light = memory_by_strategy(WPOTraining(model="m", optimizer="rmsprop"), 8_030_261_248, 8, config, 2048)
    assert light["none"]["device_gib"] < whole
