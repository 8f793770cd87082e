"""Models side by side, and their results on the card."""

from __future__ import annotations

import json

import pytest
import yaml
from evaluated import Echo, write_baseline
from huggingface_hub import ModelCard
from small_model import model_folder, write_card

from prefdata import compare, evaluate
from prefdata.errors import InputError, PublishError
from prefdata.evaluation.record import read_record, write_record
from prefdata.publish.card.blocks import NOTICE, block
from prefdata.publish.card.evaluation import with_evaluation
from prefdata.publish.outgoing import read_outgoing

ALPACA = {"win_rate": 41.5, "standard_error": 1.25, "avg_length": 1902, "n_answers": 805}
TASKS = {"tasks": {"gsm8k": {"value": 30.5, "standard_error": 1.0}, "mmlu": {"value": 40.0}}, "average": 35.25}
CARD = "---\nlicense: mit\n---\n" + "\n\n".join([NOTICE, block("about", "# m"), "Mine.", block("rows", "rows")]) + "\n"


def record(folder, name, **suites):
    folder.mkdir()
    for suite, results in suites.items():
        write_record(folder, {"name": name, "pins": {"sha256": name}}, suite, results, lambda _: None)
    return folder


def test_models_stand_beside_the_published_ones(tmp_path, prefdata):
    one = record(tmp_path / "one", "one", alpaca_eval=ALPACA, open_llm_v1=TASKS)
    other = record(tmp_path / "other", "other", alpaca_eval={**ALPACA, "win_rate": 2.0})
    compared = compare(one, other / "evaluation.json")
    assert compared.models[:2] == ("one", "other")
    assert [name.endswith("(published)") for name in compared.models[2:]] == [True, True]
    assert [cell and cell[0] for cell in compared.rows["alpaca_eval: win rate"]] == [
        *(41.5, 2.0),
        *(pytest.approx(57.33198613), pytest.approx(48.87200127)),
    ]
    assert [cell and cell[0] for cell in compared.rows["open_llm_v1: mmlu"]] == [40.0, None, None, 65.65]
    said = prefdata("compare", one, other, "--no-published")
    assert said.code == 0
    assert "| alpaca_eval: win rate | 41.50 ± 1.25 | 2.00 ± 1.25 |" in said.out
    assert "| open_llm_v1: average | 35.25 | - |" in said.out
    assert json.loads(prefdata("compare", one, "--json").out)["models"][0] == "one"


def test_a_folder_without_an_evaluation_is_one_message(tmp_path, prefdata):
    said = prefdata("compare", tmp_path)
    assert said.code == 2
    assert "there is no evaluation in" in said.err
    for text in ("[]", "{}", '{"format": 1, "model": {}, "suites": {"a": 1}}', "{"):
        (tmp_path / "evaluation.json").write_text(text)
        with pytest.raises(InputError):
            read_record(tmp_path)


def test_results_of_other_weights_leave_the_record(tmp_path):
    folder, lines = record(tmp_path / "m", "m", held_out={"sets": {}}), []
    write_record(folder, {"name": "m", "pins": {"sha256": "new"}}, "alpaca_eval", ALPACA, lines.append)
    assert list(read_record(folder)["suites"]) == ["alpaca_eval"]
    assert "held_out" in lines[0]


def test_the_card_s_header_is_what_the_hub_reads_and_text_of_others_stays():
    foreign = {"task": {"type": "text-generation"}, "dataset": {"name": "x", "type": "x"}, "metrics": []}
    index = yaml.dump({"model-index": [{"name": "m", "results": [foreign]}, {"name": "other", "results": []}]})
    card = CARD.replace("---\n", "---\n" + index, 1)
    once = with_evaluation(card, "m", {"alpaca_eval": ALPACA, "open_llm_v1": TASKS})
    twice = with_evaluation(once, "m", {"alpaca_eval": ALPACA, "open_llm_v1": TASKS})
    assert once == twice
    assert "Mine." in once and once.index("# m") < once.index("## Evaluation") < once.index("Mine.")
    assert "| alpaca_eval | win rate | 41.50 ± 1.25 |" in once
    header = yaml.safe_load(once.split("---")[1])
    assert header["license"] == "mit"
    other, ours = header["model-index"]
    assert other == {"name": "other", "results": []}
    assert ours["results"][0] == foreign
    results = {result["dataset"]["name"]: result for result in ours["results"][1:]}
    assert {"type": "win rate", "value": 41.5} in results["AlpacaEval 2"]["metrics"]
    assert {"type": "mmlu", "value": 40.0} in results["open_llm_v1"]["metrics"]
    read = ModelCard(once).data.eval_results
    assert {(result.dataset_name, result.metric_type, result.metric_value) for result in read} >= {
        ("AlpacaEval 2", "win rate", 41.5),
        ("open_llm_v1", "gsm8k", 30.5),
    }


def test_a_card_of_somebody_else_is_left_alone():
    assert with_evaluation("# Mine\n", "m", {"alpaca_eval": ALPACA}) is None
    assert with_evaluation("---\nlicense: mit\n---\n# Mine\n", "m", {"alpaca_eval": ALPACA}) is None


def test_an_evaluated_model_is_still_what_its_manifest_lists(tmp_path):
    folder = model_folder(tmp_path / "model")
    before = read_outgoing(folder)
    evaluate(Echo(), out=folder, baseline=write_baseline(tmp_path))
    after = read_outgoing(folder)
    assert set(after.entries) - set(before.entries) == {"evaluation.json"}
    assert "## Evaluation" in after.card and "## Evaluation" not in before.card
    changed = {name for name, entry in before.entries.items() if after.entries[name] != entry}
    assert changed == {"README.md"}
    # The training's command lists the results of a model that an earlier version evaluated.
    (folder / "prefdata.manifest.json").unlink()
    write_card(folder, json.loads((folder / "training.json").read_text()))
    again = read_outgoing(folder)
    assert (again.entries, again.card) == (after.entries, after.card)


def test_a_card_of_somebody_else_is_no_part_of_what_is_renewed(tmp_path):
    folder = model_folder(tmp_path / "model")
    (folder / "README.md").write_text("# Mine\n")
    evaluate(Echo(), out=folder, baseline=write_baseline(tmp_path))
    with pytest.raises(PublishError, match=r"'README.md' of .* differs from the manifest"):
        read_outgoing(folder)
