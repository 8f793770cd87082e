"""From instructions to `evaluation.json`: what is answered once is kept, and what is missing is said in one message."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from chat_server import KEY, Reply, completion, serving
from evaluated import ASKED, FAILS, SETTINGS, Echo, write_annotations, write_baseline

from prefdata import evaluate
from prefdata.errors import InputError, ModelError, UserError
from prefdata.evaluation import alpaca_eval
from prefdata.evaluation.alpaca_eval import Annotator, annotate
from prefdata.evaluation.answering import Answer
from prefdata.evaluation.presets import PRESETS
from prefdata.evaluation.rows_of_files import Instruction

GOLDEN = Path(__file__).parent / "golden"


def outputs_of(folder):
    return json.loads((folder / "evaluation" / "alpaca_eval" / "model_outputs.json").read_text())


def answered(tmp_path, **options):
    return evaluate(Echo(), out=tmp_path / "out", baseline=write_baseline(tmp_path), **options)


def test_answers_are_alpaca_eval_s_own_file_and_follow_the_preset(tmp_path):
    done = answered(tmp_path)
    rows = outputs_of(tmp_path / "out")
    assert [set(row) for row in rows] == [{"dataset", "instruction", "output", "generator"}] * 6
    assert [row["instruction"] for row in rows] == [f"Say {n % 5}" for n in range(6)]
    assert SETTINGS[0] == PRESETS["wpo_hybrid_v2"].decoding
    # Two equal instructions are two requests with seeds of their own.
    assert len({request.key for request in ASKED}) == len({request.seed for request in ASKED}) == 6
    assert done.results["avg_length"] == int(sum(len(row["output"]) for row in rows) / 6)
    assert done.results["settings"]["decoding"]["top_k"] == 50


def test_what_is_answered_is_not_asked_again_and_the_rest_is(tmp_path):
    FAILS.update({"Say 1", "Say 3"})
    with pytest.raises(ModelError, match="2 of 6 instructions have no answer: prompt_too_long 2"):
        answered(tmp_path)
    FAILS.clear()
    ASKED.clear()
    answered(tmp_path)
    assert sorted(request.messages[0]["content"] for request in ASKED) == ["Say 1", "Say 3"]
    ASKED.clear()
    answered(tmp_path, limit=3)
    assert ASKED == []
    assert len(outputs_of(tmp_path / "out")) == 3
    # Other settings are other answers.
    answered(tmp_path, settings={"temperature": 0.1})
    assert len(ASKED) == 6


def test_win_rates_from_a_file_of_annotations(tmp_path):
    answered(tmp_path)
    outputs, baseline = outputs_of(tmp_path / "out"), json.loads((tmp_path / "baseline.json").read_text())
    preferences = [1.1, 1.9, 1.4, 1.6, 1.0, 2.0]
    file = write_annotations(tmp_path / "annotations.json", outputs, baseline, preferences)
    done = answered(tmp_path, judge=[f"annotations={file}"], no_length_control=True)
    assert done.results["win_rate"] == pytest.approx(100 * (sum(preferences) / 6 - 1))
    assert "length_controlled_winrate" not in done.results
    record = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert record["suites"]["alpaca_eval"] == json.loads(json.dumps(done.results))
    inputs = record["suites"]["alpaca_eval"]["inputs"]
    assert len(inputs["annotations_sha256"]) == len(inputs["instructions_sha256"]) == 64


@pytest.mark.parametrize("lacking", [None, -1])
def test_a_file_that_lacks_annotations_is_one_message_and_loses_nothing(tmp_path, lacking):
    answered(tmp_path)
    outputs, baseline = outputs_of(tmp_path / "out"), json.loads((tmp_path / "baseline.json").read_text())
    preferences = [1.1, lacking, 1.4, lacking, 1.0, 2.0]
    file = write_annotations(tmp_path / "annotations.json", outputs, baseline, preferences)
    ASKED.clear()
    with pytest.raises(InputError, match="lacks the annotations of 2 of 6 rows; the first is row 1"):
        answered(tmp_path, judge=[f"annotations={file}"], no_length_control=True)
    assert ASKED == []


def test_what_is_missing_is_said_before_anything_is_answered(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    annotations = tmp_path / "annotations.json"
    annotations.write_text("[]")
    wrong = tmp_path / "wrong.json"
    wrong.write_text('[{"question": "a"}]')
    bare = tmp_path / "bare.jsonl"
    bare.write_text('{"instruction": "a"}\n')
    mistakes = {
        "df_gamed.csv": {"judge": [f"annotations={annotations}"]},
        "OPENAI_API_KEY": {"judge": ["alpaca_eval=https://judge.example/v1"], "no_length_control": True},
        "does not exist": {"judge": ["annotations=none.json"], "no_length_control": True},
        "no column 'instruction'": {"baseline": wrong},
        "lacks the baseline's output": {
            "baseline": bare,
            "judge": [f"annotations={annotations}"],
            "no_length_control": True,
        },
        "needs the instructions": {"baseline": None},
        "is not KIND=VALUE": {"judge": ["gpt-4"]},
        "there is no judge 'gpt'": {"judge": ["gpt=4"]},
        "is not a preset": {"preset": "wpo"},
        "is not a generation setting": {"settings": {"temp": 1}},
        "there is no suite": {"suite": "alpaca"},
        "not an http or https address": {"judge": ["alpaca_eval=judge"], "no_length_control": True},
    }
    for words, options in mistakes.items():
        given = {"baseline": write_baseline(tmp_path), **options}
        with pytest.raises(UserError) as told:
            evaluate(Echo(), out=tmp_path / "out", **given)
        assert words in str(told.value), words
    assert ASKED == []


def verdict(_text, _times, body):
    """A judge that prefers the longer output, in AlpacaEval's way: log-probabilities of the labels m and M."""
    content = body["messages"][-1]["content"]
    reply = completion("m")
    tokens = [{"token": token, "logprob": math.log(p), "bytes": None} for token, p in (("m", 0.75), ("M", 0.25))]
    reply["choices"][0]["logprobs"] = {"content": [{**tokens[0], "top_logprobs": tokens}], "refusal": None}
    assert "Say" in content
    return Reply(body=reply)


def test_an_endpoint_annotates_what_is_not_kept_and_its_key_lands_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    lines = []
    with serving(verdict) as server:
        options = {"judge": [f"alpaca_eval={server.url}"], "judge_key_env": "JUDGE_KEY", "no_length_control": True}
        done = answered(tmp_path, log=lines.append, **options)
        asked = len(server.bodies)
        assert asked == 6
        assert server.authorizations == {f"Bearer {KEY}"}
        again = answered(tmp_path, log=lines.append, **options)
        assert len(server.bodies) == asked
    # The order in which the two outputs are shown is drawn from the instruction.
    rows = json.loads((tmp_path / "out" / "evaluation" / "alpaca_eval" / "annotations.json").read_text())
    assert {round(row["preference"], 6) for row in rows} <= {1.25, 1.75}
    mean = sum(row["preference"] - 1 for row in rows) / 6
    assert again.results["win_rate"] == done.results["win_rate"] == pytest.approx(100 * mean)
    written = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not any(KEY.encode() in content for content in [*written, *(line.encode() for line in lines)])


def test_an_endpoint_that_refuses_the_key_is_one_message_without_the_key(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    refused = {"error": {"message": f"Incorrect API key provided: {KEY}", "type": "invalid_request_error"}}
    with serving(lambda *_: Reply(401, refused)) as server, pytest.raises(ModelError) as told:
        answered(tmp_path, judge=[f"alpaca_eval={server.url}"], no_length_control=True)
    assert "AuthenticationError" in str(told.value)
    assert KEY not in str(told.value)


def test_length_control_of_other_instructions_is_stated(tmp_path):
    answered(tmp_path)
    outputs, baseline = outputs_of(tmp_path / "out"), json.loads((tmp_path / "baseline.json").read_text())
    file = write_annotations(tmp_path / "annotations.json", outputs, baseline, [1.1, 1.9, 1.4, 1.6, 1.0, 2.0])
    lines = []
    options = {"judge": [f"annotations={file}"], "df_gamed": GOLDEN / "df_gamed.csv", "allow_other_df_gamed": True}
    done = answered(tmp_path, log=lines.append, **options)
    assert 0 < done.results["length_controlled_winrate"] < 100
    assert done.results["lc_standard_error"] > 0
    inputs = done.results["inputs"]
    assert (inputs["df_gamed_is_published"], inputs["instructions_are_published"]) == (False, False)
    assert any("is not the published set" in line for line in lines)


def test_the_files_of_an_annotator_s_own_folder_are_part_of_what_its_answers_depend_on(tmp_path, monkeypatch):
    folder, asked = tmp_path / "mine", []
    (folder / "prompts").mkdir(parents=True)

    def worker(items, *_):
        for item in items:
            asked.append(item)
            yield {"preferences": [1.2 for _ in item["annotate"]]}

    monkeypatch.setattr(alpaca_eval, "_worker", worker)
    row = Answer(Instruction(0, "Say", None, "one"), "two", "stop", 3)
    annotator = Annotator(str(folder), endpoint="https://judge.example/v1")
    recorded = set()
    changes = (("configs.yaml", "a"), ("configs.yaml", "b"), ("prompts/p.txt", "a"), ("prompts/p.txt", "b"))
    for count, (name, text) in enumerate(changes, 1):
        (folder / name).write_text(text)
        for _ in range(2):
            assert annotate([row], annotator, tmp_path, lambda _: None)[0].preference == 1.2
            assert len(asked) == count
        recorded.add(json.dumps(annotator.inputs()))
    assert len(recorded) == 4
    assert Annotator("weighted_alpaca_eval_gpt4_turbo").files() == {}
