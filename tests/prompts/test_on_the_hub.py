"""Published splits and evaluation sets of a loopback Hub, through the real clients."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from minihub import MiniHub

SNORKEL = "snorkelai/Snorkel-Mistral-PairRM-DPO-Dataset"
PRELUDE = """
import json
from prefdata.errors import UserError
from prefdata.prompts import *
from prefdata.records import Drop, Prompt, as_messages
from prefdata.spec import Context

def told(part, context=Context(seed=0)):
    return [[r.prompt_id, r.split if isinstance(r, Prompt) else r.reason] for r in part.read(context)]
"""


def parquet(**columns) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def card(**files: str) -> bytes:
    splits = "".join(f"  - {{split: {split}, path: {path}}}\n" for split, path in files.items())
    return f"---\nconfigs:\n- config_name: default\n  data_files:\n{splits}---\n".encode()


@pytest.fixture
def hub(tmp_path):
    found = MiniHub(tmp_path / "hub").start()
    yield found
    found.stop()


@pytest.fixture
def on_the_hub(hub, fresh, tmp_path):
    """Runs code that sets `result` in a process that knows no other Hub, and returns it."""

    def run(code):
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        said = fresh(
            code=f"{PRELUDE}\n{code}\nprint('\\n' + json.dumps(result))",
            cwd=home,
            HF_ENDPOINT=hub.url,
            HF_HOME=str(home),
            HF_HUB_DISABLE_XET="1",
            HF_DATASETS_DISABLE_PROGRESS_BARS="1",
        )
        assert said.code == 0, said.err
        return json.loads(said.out.splitlines()[-1])

    return run


def test_the_published_split_is_read_at_its_commit(hub, on_the_hub, tmp_path):
    members = {"train_iteration_1": ["a"], "test_iteration_1": ["b"], "train_iteration_2": ["c", "a"]}
    members |= {"test_iteration_2": ["d"], "train_iteration_3": ["e"], "test_iteration_3": ["f"]}
    files = {f"data/{name}.parquet": parquet(prompt_id=ids, prompt=ids) for name, ids in members.items()}
    first = hub.put("dataset", SNORKEL, {"README.md": card(**{n: f"data/{n}.parquet" for n in members}), **files})
    hub.put("dataset", SNORKEL, {"data/train_iteration_2.parquet": parquet(prompt_id=["g"], prompt=["g"])})
    rows = "".join(json.dumps({"id": key, "prompt": f"ask {key}"}) + "\n" for key in "abcdefg")
    (tmp_path / "prompts.jsonl").write_text(rows)
    found = on_the_hub(f"""
source = FilePrompts(path={str(tmp_path / "prompts.jsonl")!r}, prompt_id_column="id")
part = SnorkelThreeWay(source=source, iteration=1, revision={first!r})
counts = []
context = Context(seed=0, pins=part.pins(), counted=lambda what, n: counts.append(what))
result = [part.pins()["ids"], told(part, context), counts, told(SnorkelThreeWay(source=source, iteration=2))]
""")
    assert found[0] == {"sha": first}
    other = [[key, "other_iteration"] for key in "cdef"]
    assert found[1] == [["a", "train"], ["b", "test"], *other, ["g", "in_no_part"]]
    assert found[2].count("published_ids_in_two_parts") == 1
    # Unpinned, it is what main says now.
    assert [key for key, what in found[3] if what == "train"] == ["g"]


def test_a_published_split_that_lacks_a_part_fails_with_one_message(hub, on_the_hub):
    files = {"README.md": card(train="data/a.parquet"), "data/a.parquet": parquet(prompt_id=["a"])}
    hub.put("dataset", SNORKEL, files)
    message = on_the_hub("""
try:
    told(SnorkelThreeWay(source=SamplePrompts(), iteration=1))
except UserError as error:
    result = str(error)
""")
    assert "the published three-way split can't be read" in message
    assert "has no split 'test_iteration_1'" in message
    assert 'split="seeded"' in message


def test_the_three_known_evaluation_sets_are_read_and_pinned(hub, on_the_hub):
    questions = [{"instruction": "What are the names of some famous actors that started their careers on Broadway?"}]
    shas = {
        "AlpacaEval": hub.put(
            "dataset",
            "tatsu-lab/alpaca_eval",
            {"alpaca_eval.json": json.dumps(questions).encode(), "alpaca_eval.py": b"raise SystemExit('never run')"},
        ),
        "MT-Bench": hub.put(
            "dataset",
            "HuggingFaceH4/mt_bench_prompts",
            {
                "data/train.parquet": parquet(
                    prompt=[["Compose an engaging travel blog post.", "Rewrite your previous response."]]
                )
            },
        ),
        "TruthfulQA": hub.put(
            "dataset",
            "truthfulqa/truthful_qa",
            {
                "README.md": b"---\nconfigs:\n- config_name: generation\n  data_files:\n"
                b"  - {split: validation, path: generation/validation.parquet}\n"
                b"- config_name: multiple_choice\n  data_files:\n  - {split: validation, path: other.parquet}\n---\n",
                "generation/validation.parquet": parquet(question=["What happens to you if you eat watermelon seeds?"]),
                "other.parquet": parquet(question=["Another question of the other configuration?"]),
            },
        ),
    }
    found = on_the_hub("""
part = Decontaminate()
texts = (
    "what happens to you, if you eat watermelon seeds",
    "Please: compose an engaging travel blog post!",
    "what are the names of some famous actors that started their careers on broadway",
    "Rewrite your previous response.",
    "Another question of the other configuration?",
)
pins = part.pins()
prompts = [Prompt(text, as_messages(text)) for text in texts]
kept = part.filter(prompts, Context(seed=0, pins=pins))
result = [pins, [r.detail.partition(":")[0] if isinstance(r, Drop) else None for r in kept]]
""")
    assert found[0] == {f"sets.{place}": {"sha": sha} for place, sha in enumerate(shas.values())}
    assert found[1] == ["TruthfulQA, row 1", "MT-Bench, row 1", "AlpacaEval, row 1", "MT-Bench, row 1", None]


def test_a_file_that_the_repository_lacks_is_named(hub, on_the_hub):
    hub.put("dataset", "alice/evals", {"other.json": b"[]"})
    message = on_the_hub("""
part = Decontaminate(sets=(EvalSet(name="x", dataset="alice/evals", file="evals.json", column="q"),))
try:
    list(part.filter([], Context(seed=0)))
except UserError as error:
    result = str(error)
""")
    assert "no file 'evals.json'" in message
    assert "other.json" in message
