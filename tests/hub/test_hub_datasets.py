"""Datasets of a Hub, read through the real clients."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq

CARD = b"""---
configs:
- config_name: default
  default: true
  data_files:
  - {split: train_prefs, path: data/train_prefs.parquet}
  - {split: test_prefs, path: data/test_prefs.parquet}
- config_name: other
  data_files:
  - {split: train_prefs, path: other/train_prefs.parquet}
---
"""


def parquet(*prompts: str) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"prompt": prompts, "extra": list(range(len(prompts)))}), sink)
    return sink.getvalue()


def published(hub) -> str:
    """A dataset of two splits and two configurations; the SHA of its commit."""
    return hub.put(
        "dataset",
        "alice/prefs",
        {
            "README.md": CARD,
            "data/train_prefs.parquet": parquet(*(f"question {number}" for number in range(300))),
            "data/test_prefs.parquet": parquet("held out"),
            "other/train_prefs.parquet": parquet("from the other configuration"),
        },
    )


def test_prompts_come_in_order_from_the_pinned_commit_although_main_moved_on(hub, client):
    first = published(hub)
    pins = client.run("result = HubPrompts(dataset='alice/prefs', split='train_prefs').pins()")
    assert pins == {"sha": first}

    second = hub.put("dataset", "alice/prefs", {"data/train_prefs.parquet": parquet("a new question")})
    hub.repos["dataset", "alice/prefs"].tags["v1"] = first
    result = client.run(f"""
part = HubPrompts(dataset="alice/prefs", split="train_prefs")
def read(part, **pins):
    return [[r.prompt_id, r.messages[0]["content"], r.origin] for r in part.read(Context(seed=0, pins=pins))]
result = {{
    "pinned": read(part, sha={first!r}),
    "now": read(part),
    "other": read(HubPrompts(dataset="alice/prefs", config="other", split="train_prefs")),
    "slice": read(HubPrompts(dataset="alice/prefs", split="train_prefs[:2]+test_prefs", revision="v1")),
    "tag": hub.resolve_dataset("alice/prefs", "v1"),
    "main": hub.resolve_dataset("alice/prefs"),
}}""")
    assert [row[1] for row in result["pinned"]] == [f"question {number}" for number in range(300)]
    assert result["pinned"][7][2] == "alice/prefs, train_prefs, row 8"
    assert [row[1] for row in result["now"]] == ["a new question"]
    assert [row[1] for row in result["other"]] == ["from the other configuration"]
    assert [row[1] for row in result["slice"]] == ["question 0", "question 1", "held out"]
    assert (result["tag"], result["main"]) == (first, second)


def test_each_wrong_name_is_one_message_that_lists_the_right_ones(hub, client):
    sha = published(hub)
    hub.put("dataset", "alice/private", {"train.jsonl": b'{"prompt": "hidden"}\n'})
    hub.repos["dataset", "alice/private"].private = True
    hub.put("dataset", "alice/gated", {"train.jsonl": b'{"prompt": "hidden"}\n'})
    hub.repos["dataset", "alice/gated"].gated = "manual"
    hub.put("dataset", "alice/empty", {"notes.bin": b"nothing to load"})
    hub.put("dataset", "alice/broken", {"train.parquet": b"not Parquet at all"})
    code = f"""
def rows(repo, config=None, split="train", sha=None, **more):
    return lambda: list(hub.dataset_table(repo, config, split, sha or hub.resolve_dataset(repo)).rows(**more))
result = {{
    "unknown": refused(lambda: hub.resolve_dataset("alice/perfs")),
    "private": refused(lambda: hub.resolve_dataset("alice/private")),
    "gated": refused(rows("alice/gated")),
    "revision": refused(lambda: hub.resolve_dataset("alice/prefs", "v2")),
    "name": refused(lambda: hub.resolve_dataset("a/b/c")),
    "split": refused(rows("alice/prefs", None, "train_pref", {sha!r})),
    "config": refused(rows("alice/prefs", "othr", "train_prefs", {sha!r})),
    "column": refused(rows("alice/prefs", None, "train_prefs", {sha!r}, only=["promt"])),
    "empty": refused(rows("alice/empty")),
    "broken": refused(rows("alice/broken")),
}}"""
    result = client.run(code, token="secret-of-bob")
    assert {name: answer[0] for name, answer in result.items()} == dict.fromkeys(result, "InputError")
    expected = {
        "unknown": "'alice/perfs' does not exist on http://127.0.0.1",
        "private": "or is private and can't be seen from here (HTTP 404)",
        "gated": "is gated: its owner must grant access first (HTTP 403)",
        "revision": "'alice/prefs' has no revision 'v2'",
        "name": "'a/b/c' is not a valid repository name",
        "split": "no split 'train_pref'\n  valid: splits: train_prefs, test_prefs (did you mean 'train_prefs'?)",
        "config": "no configuration 'othr'\n  valid: configurations: default, other (did you mean 'other'?)",
        "column": "no column 'promt'\n  valid: prompt, extra (did you mean 'prompt'?)",
        "empty": "'alice/empty' at ",
        "broken": "'alice/broken' at ",
    }
    for name, text in expected.items():
        assert text in result[name][1], result[name]
    assert "secret" not in json.dumps(result)


def test_a_refused_token_is_not_called_a_missing_repository_and_is_not_shown(hub, client):
    published(hub)
    kind, message = client.run("result = refused(lambda: hub.resolve_dataset('alice/prefs'))", token="secret-of-nobody")
    assert kind == "InputError"
    assert "refused the token" in message
    assert "secret-of-nobody" not in message


def test_a_passing_failure_is_outlasted_and_a_lasting_one_names_its_status(hub, client):
    sha = published(hub)
    hub.fail(status=503, path=r"/api/datasets/alice/prefs", times=1)
    hub.fail(status=503, method="GET", path=r"/resolve/.*parquet", times=1)
    read = f"len(list(hub.dataset_table('alice/prefs', None, 'train_prefs', {sha!r}).rows()))"
    assert client.run(f"result = [hub.resolve_dataset('alice/prefs'), {read}]") == [sha, 300]
    assert [status for _, _, status, _ in hub.log].count(503) == 2
    hub.fail(status=500, path=r"/api/datasets/alice/prefs", times=99)
    kind, message = client.run("result = refused(lambda: hub.resolve_dataset('alice/prefs'))")
    assert kind == "InputError"
    assert "failed to answer a request for the dataset 'alice/prefs' (HTTP 500)" in message


def test_without_a_network_the_cached_commit_is_read_and_no_other(hub, client):
    first = published(hub)
    read = "list(hub.dataset_table('alice/prefs', None, 'test_prefs', {!r}).rows(only=['prompt']))"
    assert client.run(f"result = {read.format(first)}") == [{"prompt": "held out"}]
    second = hub.put("dataset", "alice/prefs", {"data/test_prefs.parquet": parquet("changed")})
    result = client.run(
        f"""
result = {{
    "cached": {read.format(first)},
    "sha": hub.resolve_dataset("alice/prefs", {first!r}),
    "other": refused(lambda: {read.format(second)}),
    "main": refused(lambda: hub.resolve_dataset("alice/prefs")),
}}""",
        HF_HUB_OFFLINE="1",
    )
    assert result["cached"] == [{"prompt": "held out"}]
    assert result["sha"] == first
    assert result["other"][0] == "InputError"
    assert f"is not available at commit {second}" in result["other"][1]
    assert result["main"][0] == "InputError"
    assert "can't be reached" in result["main"][1]


def test_an_unreachable_hub_is_one_message(hub, client):
    sha = published(hub)
    result = client.run(
        f"""
result = [
    refused(lambda: hub.resolve_dataset("alice/prefs")),
    refused(lambda: hub.resolve_model("alice/prefs")),
    hub.resolve_dataset("alice/prefs", {sha!r}),
]""",
        HF_ENDPOINT="http://user:password@127.0.0.1:9",
    )
    assert [answer[0] for answer in result[:2]] == ["InputError", "ModelError"]
    assert "http://127.0.0.1:9 can't be reached for the dataset 'alice/prefs'" in result[0][1]
    assert "password" not in str(result)
    assert result[2] == sha


def test_a_folder_of_the_same_name_is_never_taken_for_the_dataset(hub, client):
    sha = published(hub)
    shadow = client.home / "alice" / "prefs"
    shadow.mkdir(parents=True)
    (shadow / "train.jsonl").write_text('{"prompt": "from the folder"}\n')
    kind, message = client.run(
        f"result = refused(lambda: list(hub.dataset_table('alice/prefs', None, 'train_prefs', {sha!r})))"
    )
    assert kind == "InputError"
    assert "the current folder holds a folder of this name" in message


def test_completions_of_a_hub_dataset_are_pinned_and_joined(hub, client):
    rows = [
        {"instruction": "a", "completions": [{"model": "m", "response": "first", "overall_score": 4.0}]},
        {"instruction": "b", "completions": [{"model": "m", "response": "other", "overall_score": 1.0}]},
    ]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    sha = hub.put("dataset", "alice/ultra", {"train.parquet": sink.getvalue()})
    result = client.run("""
from prefdata.records import Prompt, as_messages, prompt_id_of
from prefdata.sampling import ExistingCompletions, SampleTask
part = ExistingCompletions(name="ultra", dataset="alice/ultra", prompt_column="instruction",
    completions_column="completions", model_column="model", score_column="overall_score", source="model")
pins, counts = part.pins(), []
prompt = Prompt(prompt_id_of(as_messages("a")), as_messages("a"))
context = Context(seed=0, pins=pins, counted=lambda what, n: counts.append([what, n]))
[one] = part.sample([SampleTask(prompt, 0)], context)
result = [pins, [[c.source, c.index, c.response, c.given_score] for c in one.candidates], counts]
""")
    assert result == [{"sha": sha}, [["m", 0, "first", 4.0]], [["rows_of_other_prompts", 1]]]


def test_a_split_of_the_hub_is_a_table_at_a_commit(hub, client, tmp_path):
    rows = [{"instruction": "Why?", "generations": ["So.", "No."], "ratings": [2.0, score]} for score in (1.0, None)]
    lines = [json.dumps(row).encode() for row in rows]
    card = CARD.replace(b"test_prefs.parquet", b"train_prefs.jsonl").replace(b".parquet", b".jsonl")
    first = hub.put(
        "dataset",
        "alice/scored",
        {"README.md": card, "data/train_prefs.jsonl": lines[0], "other/train_prefs.jsonl": lines[1]},
    )
    hub.put("dataset", "alice/scored", {"data/train_prefs.jsonl": lines[1]})
    code = f"""
import prefdata
from prefdata.errors import UserError
def paired(where, split="train_prefs", **options):
    ledger = prefdata.pair(where, "best_vs_worst", {str(tmp_path / "out")!r}, split=split, **options)
    return ledger["pairs"]
result = [paired("hf:alice/scored@{first}"), paired("hf:alice/scored"), paired("hf:alice/scored", config="other")]
try:
    paired("hf:alice/scored", split="dev")
except UserError as error:
    result.append(str(error))
for split in ("train_prefs", "all"):
    result.append(prefdata.hub.find_table("hf:alice/scored", split=split).table.other_splits)
for config in (None, "other"):
    paired("hf:alice/scored@{first}", config=config)
    result.append(prefdata.verify({str(tmp_path / "out")!r}, table="hf:alice/scored@{first}").holds)
"""
    *pairs, message, others, none, one, other = client.run(code)
    assert pairs == [1, 0, 0]
    assert (others, none) == (["test_prefs"], [])
    assert one is other is True
    assert "has no split 'dev'" in message
