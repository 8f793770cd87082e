"""The card of a model says where everything comes from, under true names, and shows no path of this machine."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import yaml
from small_model import training_facts

from prefdata.publish.card.curves import curves_svg
from prefdata.publish.card.model import model_card
from prefdata.training import LoRA, WPOTraining
from prefdata.training.launch import _parameters
from prefdata.training.preflight import MEANINGS, Preflight

RECIPE = {
    "name": "tiny",
    "prompts": {"kind": "hub", "dataset": "HuggingFaceH4/ultrafeedback_binarized"},
    "candidates": [{"kind": "samples", "generator": {"model": "meta-llama/Meta-Llama-3-8B-Instruct"}}],
    "pairs": {"kind": "wpo_hybrid_v2"},
}


def facts(**changed):
    training = WPOTraining(model="meta-llama/Meta-Llama-3-8B-Instruct", clamp=False, trl={"max_grad_norm": 0.5})
    preflight = Preflight("train", rows_in=10, rows_trained=9)
    preflight.count("a|b", ["prompt_fills"])
    preflight.count("c", ["answer_cut"])
    known = {
        "training": training.dump(),
        "parameters": _parameters(training),
        "lineage": {"repo": "me/pairs", "revision": "f" * 40, "recipe_fingerprint": "1" * 64, "lock_sha256": None},
        "plan": {"batch_size": 128, "processes": 4, "accumulation": 16, "steps": 20, "padding": 1.1713},
        "preflight": [preflight.dump()],
        "precision": "bf16",
        "model": {"model_pins": {"sha": "3" * 40}, "template_date": "2024-07-26"},
        "result": {"steps": 20, "device": "NVIDIA H100"},
    }
    return training_facts(**{**known, **changed})


def test_the_header_is_what_the_hub_reads():
    card = model_card("my-model", facts(), RECIPE, MEANINGS)
    header = yaml.safe_load(card.split("---")[1])
    assert header["base_model"] == "meta-llama/Meta-Llama-3-8B-Instruct"
    assert header["datasets"] == ["me/pairs"]
    assert header["library_name"] == "transformers"
    assert header["license"] == "llama3"
    assert {"preference", "prefdata", "wpo"} <= set(header["tags"])
    told = facts()
    # A folder of this machine may have the name of somebody's model on the Hub.
    told["training"] |= {"model": "models/mine", "lora": LoRA().dump()}
    told["model"] = {"model_pins": {"sha256": "3" * 64}}
    header = yaml.safe_load(model_card("m", told, None, MEANINGS).split("---")[1])
    assert "base_model" not in header
    assert header["library_name"] == "peft"


def test_it_says_everything():
    card = model_card("my-model", facts(), RECIPE, MEANINGS)
    for line in (
        "# my-model",
        "trained by `wpo` on `me/pairs` at commit `" + "f" * 40,
        "| learning_rate | 1e-06 |",
        "| clamp | False |",
        "| max_prompt_length | 1800 |",
        "| truncation | as_published |",
        "| trl.max_grad_norm | 0.5 |",
        "| batch (pairs an optimiser step) | 128 |",
        "| batches grouped by length | yes |",
        "| train | 10 | 9 | 1 |",
        "| train | prompt_fills | 1 | the prompt leaves no token for an answer |",
        "| train | answer_cut | 1 | an answer was cut to the limit |",
        "- recipe fingerprint: `" + "1" * 64,
        "- reference of train: `" + "2" * 64,
        "- model sha: `" + "3" * 40,
        "- date that the chat template saw: `2024-07-26`",
        "- torch: `2.13.0`",
        "- device: `NVIDIA H100`",
        "| base model | meta-llama/Meta-Llama-3-8B-Instruct |",
        "arXiv:2406.11827",
        "![loss and rewards by step](curves.svg)",
    ):
        assert line in card, line
    assert "lock sha256" not in card


def test_names_from_elsewhere_change_nothing():
    told = facts(lineage={"repo": "<script>|x", "revision": None})
    card = model_card("# a\n<!-- prefdata:end about -->", told, None, MEANINGS)
    assert "<script>" not in card.split("---", 2)[2]
    assert card.count("<!-- prefdata:end about -->") == 1


def test_curves_are_one_picture_with_a_plot_for_each_number():
    metrics = [{"step": step, "loss": 1 / (step + 1), "rewards/margins": step * 0.1} for step in range(900)]
    metrics += [{"step": 900, "eval_loss": 0.1}, {"step": 901, "loss": None}]
    drawn = ElementTree.fromstring(curves_svg(metrics))
    lines = [element for element in drawn.iter() if element.tag.endswith("polyline")]
    assert len(lines) == 2
    points = [tuple(map(float, point.split(","))) for point in lines[0].get("points").split()]
    assert len(points) <= 400
    assert points == sorted(points)
    # The first loss is the largest: it is drawn at the top.
    assert points[0][1] == min(y for _, y in points)
    ElementTree.fromstring(curves_svg([]))
