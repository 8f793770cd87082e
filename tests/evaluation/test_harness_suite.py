"""lm-evaluation-harness runs for real on local tasks; the numbers are those of a direct `simple_evaluate`."""

from __future__ import annotations

import ast
import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from prefdata import evaluate
from prefdata.errors import InputError, UserError
from prefdata.evaluation._harness_worker import model_arguments
from prefdata.evaluation.suites import OPEN_LLM_SUITE, read_suite
from prefdata.models.embedded import embedded_folder

MODEL = "smollm2-135m-instruct"

CHOICE = """
task: made_choice
dataset_path: json
dataset_kwargs:
  data_files:
    test: {folder}/choice.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - metric: acc
  - metric: acc_norm
"""
GENERATION = """
task: made_generation
dataset_path: json
dataset_kwargs:
  data_files:
    test: {folder}/generation.jsonl
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs:
  until: ["\\n"]
  max_gen_toks: 4
metric_list:
  - metric: exact_match
"""
SUITE = """
name: made
include: tasks
tasks:
  - task: made_choice
    shots: 0
    metric: acc_norm
  - task: made_generation
"""


def write_suite(folder: Path) -> Path:
    (folder / "tasks").mkdir()
    questions = ["The sky is", "Grass is", "Snow is", "Coal is", "Blood is", "The sun is"]
    colours = [" blue", " green", " white", " black", " red", " yellow"]
    rows = [{"question": question, "choices": colours, "answer": place} for place, question in enumerate(questions)]
    (folder / "choice.jsonl").write_text("\n".join(map(json.dumps, rows)))
    rows = [{"question": f"{n} {n + 1} {n + 2} {n + 3} ", "answer": str(n + 4)} for n in range(1, 5)]
    (folder / "generation.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "tasks" / "choice.yaml").write_text(CHOICE.format(folder=folder))
    (folder / "tasks" / "generation.yaml").write_text(GENERATION.format(folder=folder))
    (folder / "made.yaml").write_text(SUITE)
    return folder / "made.yaml"


DIRECT = """
import json, sys
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

manager = TaskManager(include_path="tasks", include_defaults=False)
done = simple_evaluate(
    model="hf", model_args={"pretrained": sys.argv[1], "dtype": "float32"}, device="cpu", batch_size=4,
    tasks=["made_choice", "made_generation"], num_fewshot=0, task_manager=manager, log_samples=False,
)
named = {"made_choice": "acc_norm,none", "made_generation": "exact_match,none"}
print(json.dumps({task: float(done["results"][task][metric]) for task, metric in named.items()}))
"""


@pytest.mark.model
def test_two_local_tasks_give_what_simple_evaluate_gives(tmp_path, fresh, monkeypatch):
    suite = write_suite(tmp_path)
    monkeypatch.chdir(tmp_path)
    # Nothing may be fetched: any host would be refused.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = evaluate(f"embedded:{MODEL}", str(suite), out=tmp_path / "out")
    said = fresh(str(embedded_folder(MODEL)), code=DIRECT, cwd=tmp_path, HF_HUB_OFFLINE="1")
    assert said.code == 0, said.err[-3000:]
    expected = json.loads(said.out.splitlines()[-1])
    tasks = done.results["tasks"]
    assert {name: result["value"] for name, result in tasks.items()} == {
        name: pytest.approx(100 * value, abs=1e-9) for name, value in expected.items()
    }
    assert done.results["average"] == pytest.approx(50 * sum(expected.values()))
    assert [result["n_questions"] for result in tasks.values()] == [6, 4]
    assert tasks["made_choice"]["standard_error"] > 0
    # A finished task is not run again: without its data it could not be.
    (tmp_path / "choice.jsonl").unlink()
    again = evaluate(f"embedded:{MODEL}", str(suite), out=tmp_path / "out")
    assert again.results["tasks"] == tasks
    record = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert list(record["suites"]) == ["made"]


ADAPTER = """
import json, sys, torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

torch.manual_seed(0)
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
get_peft_model(model, lora).save_pretrained("adapter")

from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

manager, numbers = TaskManager(include_path="tasks", include_defaults=False), []
for more in ({}, {"peft": "adapter"}):
    done = simple_evaluate(
        model="hf", model_args={"pretrained": sys.argv[1], "dtype": "float32", **more}, device="cpu", batch_size=4,
        tasks=["made_score"], num_fewshot=0, task_manager=manager, log_samples=False,
    )
    numbers.append(float(done["results"]["made_score"]["word_perplexity,none"]))
print(json.dumps(numbers))
"""
SCORE = """
task: made_score
dataset_path: json
dataset_kwargs:
  data_files:
    test: {folder}/choice.jsonl
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{question}}}}"
metric_list:
  - metric: word_perplexity
"""


@pytest.mark.model
def test_an_adapter_is_put_on_its_base_and_its_numbers_are_not_those_of_the_base(tmp_path, fresh, monkeypatch):
    suite = write_suite(tmp_path)
    suite.write_text("name: made\ninclude: tasks\ntasks:\n  - task: made_score\n    shots: 0\n")
    (tmp_path / "tasks" / "score.yaml").write_text(SCORE.format(folder=tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    said = fresh(str(embedded_folder(MODEL)), code=ADAPTER, cwd=tmp_path, HF_HUB_OFFLINE="1")
    assert said.code == 0, said.err[-3000:]
    base, adapted = json.loads(said.out.splitlines()[-1])
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": f"embedded:{MODEL}"}))
    done = evaluate(tmp_path / "adapter", str(suite))
    assert done.results["tasks"]["made_score"]["all"]["word_perplexity,none"] == pytest.approx(adapted, rel=1e-6)
    assert abs(adapted - base) > 1
    assert done.results["inputs"]["base"]["sha256"] != done.results["inputs"].get("sha256")
    assert done.folder == tmp_path / "adapter"


@pytest.mark.parametrize(("backend", "file"), [("hf", "huggingface"), ("vllm", "vllm_causallms")])
@pytest.mark.parametrize("adapter", [None, "/an/adapter"])
@pytest.mark.parametrize("cuda", [False, True])
def test_every_argument_is_one_of_the_harness_s_class(backend, file, adapter, cuda):
    # vLLM's class can only be imported where the distribution `vllm` is installed.
    source = Path(find_spec("lm_eval.models").submodule_search_locations[0], f"{file}.py").read_text()
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    (start,) = [node for node in classes[0].body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    names = {argument.arg for argument in (*start.args.args, *start.args.kwonlyargs)}
    config = {"backend": backend, "folder": "/a/model", "adapter": adapter, "settings": {"max_length": 512}}
    arguments, more = model_arguments(config, cuda=cuda)
    assert {*arguments, *more} <= names
    assert ("/an/adapter" in arguments.values()) == (adapter is not None)
    assert arguments["max_length"] == 512


@pytest.mark.model
def test_a_task_that_needs_the_network_while_it_is_off_is_one_message(tmp_path, monkeypatch):
    suite = write_suite(tmp_path)
    (tmp_path / "tasks" / "choice.yaml").write_text("task: made_choice\ndataset_path: allenai/ai2_arc\n")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    with pytest.raises(InputError) as told:
        evaluate(f"embedded:{MODEL}", str(suite), out=tmp_path / "out")
    assert "the data of the task 'made_choice' is not in the cache and can't be fetched" in str(told.value)
    assert not (tmp_path / "out" / "evaluation.json").exists()


def test_the_leaderboard_has_the_card_s_tasks_and_shots():
    shots = {task.task: task.shots for task in OPEN_LLM_SUITE.tasks}
    assert shots == {
        "arc_challenge": 25, "truthfulqa_mc2": 0, "winogrande": 5, "gsm8k": 5, "hellaswag": 10, "mmlu": 5
    }  # fmt: skip
    assert read_suite("open_llm_v1")[0] == OPEN_LLM_SUITE


def test_mistakes_in_a_suite_are_one_message(tmp_path):
    suite = write_suite(tmp_path)
    good = suite.read_text()
    code = (tmp_path / "tasks" / "choice.yaml").read_text() + "process_docs: !function utils.docs\n"
    (tmp_path / "tasks" / "code.yaml").write_text(code)
    mistakes = {
        "runs Python code": (good, {}),
        "is not YAML": ("a: [", {}),
        "is not a suite: tasks": ("name: a", {}),
        "tasks.0.shot": (good.replace("shots", "shot"), {}),
        "which does not exist beside it": (good.replace("include: tasks", "include: none"), {}),
        "distribution is called 'vllm'": (good, {"backend": "vllm", "allow_code": True}),
        "is behind an endpoint": (good, {"endpoint": "http://127.0.0.1:9/v1"}),
    }
    for words, (text, options) in mistakes.items():
        suite.write_text(text)
        with pytest.raises(UserError) as told:
            evaluate(f"embedded:{MODEL}", str(suite), out=tmp_path / "out", **options)
        assert words in str(told.value), words


def test_a_change_in_any_subfolder_of_tasks_is_seen(tmp_path):
    suite = write_suite(tmp_path)
    for part in ("one", "two"):
        (tmp_path / "tasks" / part).mkdir()
        (tmp_path / "tasks" / part / "_default.yaml").write_text(part)
    before = read_suite(str(suite))[2]["task_files"]
    assert {"one/_default.yaml", "two/_default.yaml", "choice.yaml"} <= set(before)
    for name in before:
        with (tmp_path / "tasks" / name).open("a") as file:
            file.write("# changed")
        after = read_suite(str(suite))[2]["task_files"]
        assert [other for other in before if before[other] != after[other]] == [name]
        before = after
