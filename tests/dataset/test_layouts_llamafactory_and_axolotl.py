"""LLaMA-Factory and axolotl by their published rules, written here as functions; `datasets` reads the files."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from prefdata.dataset import Axolotl, LlamaFactory
from prefdata.errors import InputError
from prefdata.publish.card.text import card_configs, header_text
from prefdata.publish.folder import with_features
from prefdata.tables.schemas import PAIRS, PROMPTS, write_parquet

SYSTEM = {"role": "system", "content": "Be brief"}
ASK = {"role": "user", "content": "Hi"}
ANSWER = {"role": "assistant", "content": "Hello"}
TOOL = {"role": "tool", "content": "42"}
FIT = [
    [ASK],
    [SYSTEM, ASK],
    [SYSTEM, ASK, ANSWER, ASK],
    [ASK, ANSWER, TOOL],
    [ASK, ANSWER, TOOL, ANSWER, ASK],
    [{"role": "system", "content": ""}, ASK],
]
UNFIT = {
    "its turn 2 is 'user'": [ASK, ASK],
    "its turn 3 is 'user'": [SYSTEM, ASK, ASK, ANSWER, ASK],
    "its turn 2 is 'tool'": [ASK, TOOL],
    "its turn 1 is 'assistant'": [ANSWER, ASK],
    "its turn 3 is 'system'": [ASK, ANSWER, SYSTEM, ASK],
    "its turn 2 is 'system'": [SYSTEM, SYSTEM, ASK],
    "its turn 1 is 'developer'": [{"role": "developer", "content": "Be brief"}, ASK],
    "it does not end in a turn to be answered": [ASK, ANSWER],
    "it does not end in a turn": [SYSTEM],
}


def tables(*talks, answers=("good", "bad")):
    prompts = [{"prompt_id": f"p{number}", "messages": talk} for number, talk in enumerate(talks)]
    pairs = [
        {"prompt_id": row["prompt_id"], "response_chosen": answers[0], "response_rejected": answers[1]}
        for row in prompts
    ]
    return pa.Table.from_pylist(pairs, PAIRS), pa.Table.from_pylist(prompts, PROMPTS)


# LLaMA-Factory: parser.py, loader.py and converter.py.


def described(dataset_dir: Path, name: str) -> dict[str, object]:
    """What the parser makes of an entry: what an entry with columns or tags leaves out is None."""
    entry = json.loads((dataset_dir / "dataset_info.json").read_text())[name]
    assert "hf_hub_url" not in entry
    attributes = {"path": str(dataset_dir / entry["script_url"])}
    attributes |= {key: entry.get(key, default) for key, default in (("formatting", "alpaca"), ("ranking", False))}
    attributes |= {"subset": entry.get("subset"), "split": entry.get("split", "train"), "folder": entry.get("folder")}
    columns = ["prompt", "query", "response", "history", "messages", "system", "tools", "images", "videos", "audios"]
    columns += ["chosen", "rejected", "kto_tag"]
    attributes |= {key: entry["columns"].get(key) for key in columns}
    tags = ["role_tag", "content_tag", "user_tag", "assistant_tag", "observation_tag", "function_tag", "system_tag"]
    attributes |= {key: entry["tags"].get(key) for key in tags}
    unknown = entry.keys() - {"script_url", "formatting", "ranking", "subset", "split", "columns", "tags"}
    assert not unknown | (entry["columns"].keys() - set(columns)) | (entry["tags"].keys() - set(tags))
    return attributes


def converted(row: dict, its: dict) -> tuple[list, list, str] | str:
    """A row of a preference dataset as LLaMA-Factory trains on it, or why it doesn't."""
    odd, even = (its["user_tag"], its["observation_tag"]), (its["assistant_tag"], its["function_tag"])
    turns, system = row[its["messages"]], ""
    if its["system_tag"] and turns and turns[0][its["role_tag"]] == its["system_tag"]:
        system, turns = turns[0][its["content_tag"]], turns[1:]
    for place, turn in enumerate(turns):
        if turn[its["role_tag"]] not in (odd, even)[place % 2]:
            return "invalid role tag"
    if len(turns) % 2 == 0:
        return "invalid message count"
    sides = row[its["chosen"]], row[its["rejected"]]
    if not (its["ranking"] and all(isinstance(side, dict) for side in sides)):
        return "a normal example"
    if any(side[its["role_tag"]] not in even for side in sides):
        return "invalid role tag"
    texts = [[turn[its["content_tag"]] for turn in part] for part in (turns, sides)]
    return (*texts, system)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A dataset folder with train in two files and test in one, as a large build has them."""
    folder = tmp_path_factory.mktemp("published")
    layout, (pairs, prompts) = LlamaFactory(), tables(*FIT)
    table = with_features(layout.rows(pairs, prompts))
    (folder / "llamafactory").mkdir()
    for name, part in {
        "train-00000-of-00002": table[:2],
        "train-00001-of-00002": table[2:4],
        "test-00000-of-00001": table[4:],
    }.items():
        write_parquet(folder / "llamafactory" / f"{name}.parquet", part)
    splits = ["train", "test"]
    card = {"configs": card_configs([], answers=False, also={"llamafactory": splits})[1:]}
    (folder / "README.md").write_text(header_text(card))
    for name, value in layout.documents("my_pairs", splits).items():
        (folder / name).write_text(json.dumps(value, sort_keys=True))
    return folder


@pytest.mark.parametrize(("name", "first", "last"), [("my_pairs", 0, 4), ("my_pairs_test", 4, 6)])
def test_llama_factory_takes_every_row_of_each_split_and_none_of_the_other(folder, tmp_path, name, first, last):
    datasets = pytest.importorskip("datasets")
    its = described(folder, name)
    rows = list(
        datasets.load_dataset(
            path=its["path"],
            name=its["subset"],
            data_dir=its["folder"],
            data_files=None,
            split=its["split"],
            cache_dir=str(tmp_path),
        )
    )
    assert [row["prompt_id"] for row in rows] == [f"p{number}" for number in range(first, last)]
    for row, talk in zip(rows, FIT[first:last], strict=True):
        system = talk[0]["content"] if talk[0]["role"] == "system" else ""
        turns = [turn["content"] for turn in talk if turn["role"] != "system"]
        assert converted(row, its) == (turns, ["good", "bad"], system)


def test_the_description_is_a_ranking_dataset_in_sharegpt_form_and_there_is_one_for_each_split():
    documents = LlamaFactory().documents("x", ["train"])
    assert list(documents) == ["dataset_info.json"]
    (entry,) = documents["dataset_info.json"].values()
    assert (entry["formatting"], entry["ranking"], entry["subset"]) == ("sharegpt", True, "llamafactory")
    assert entry["tags"] == {
        "role_tag": "from",
        "content_tag": "value",
        "user_tag": "human",
        "assistant_tag": "gpt",
        "observation_tag": "observation",
        "function_tag": "function_call",
        "system_tag": "system",
    }
    assert list(LlamaFactory().documents("x", ["test"])["dataset_info.json"]) == ["x_test"]


def test_every_role_gets_the_tag_of_llama_factory():
    (row,) = LlamaFactory().rows(*tables([SYSTEM, ASK, ANSWER, TOOL])).to_pylist()
    assert row["conversations"] == [
        {"from": "system", "value": "Be brief"},
        {"from": "human", "value": "Hi"},
        {"from": "gpt", "value": "Hello"},
        {"from": "observation", "value": "42"},
    ]
    assert (row["chosen"], row["rejected"]) == ({"from": "gpt", "value": "good"}, {"from": "gpt", "value": "bad"})


@pytest.mark.parametrize(("why", "talk"), UNFIT.items())
def test_a_prompt_that_llama_factory_would_skip_is_refused_by_its_id(why, talk):
    with pytest.raises(InputError, match="'p1' does not fit the layout 'llamafactory'") as error:
        LlamaFactory().rows(*tables([ASK], talk))
    assert why in error.value.problem
    assert error.value.valid
    assert error.value.hint


def test_what_is_refused_is_what_the_rules_skip():
    its = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected", "ranking": True}
    its |= LlamaFactory().documents("x", ["train"])["dataset_info.json"]["x"]["tags"]
    tags = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
    answer = {"from": "gpt", "value": "x"}
    for talk in (*FIT, *UNFIT.values()):
        turns = [{"from": tags.get(turn["role"], turn["role"]), "value": turn["content"]} for turn in talk]
        taken = not isinstance(converted({"conversations": turns, "chosen": answer, "rejected": answer}, its), str)
        assert taken is (talk in FIT)


# axolotl: prompt_strategies/dpo/chat_template.py, and what TRL then takes for a conversation.

ROLES = ("user", "assistant", "system", "tool")


def templated(messages, more=False):
    text = "".join(f"<|{message['role']}|>{message['content']}</s>" for message in messages)
    return f"{text}<|assistant|>" if more else text


def transformed(row):
    """A row after `chat_template.default` with its default fields, roles and columns to remove."""
    assert all(turn["role"] in ROLES for turn in row["messages"])
    made = {"prompt": templated(row["messages"], more=True)}
    for side in ("chosen", "rejected"):
        message = row[side] if isinstance(row[side], dict) else row[side][-1]
        assert message["role"] in ROLES
        text = templated([{"role": "user", "content": "[[dummy_message]]"}, message])
        made[side] = text[text.find(message["content"]) :].rstrip()
    return {key: cell for key, cell in row.items() if key != "messages"} | made


@pytest.mark.parametrize("talk", FIT, ids=str)
def test_axolotl_makes_texts_of_a_row_and_leaves_nothing_that_its_trainer_stumbles_over(talk):
    (row,) = Axolotl().rows(*tables(talk, answers=("Yes, it is.", "No, it isn't."))).to_pylist()
    assert transformed(row) == {
        "prompt_id": "p0",
        "prompt": templated(talk, more=True),
        "chosen": "Yes, it is.</s>",
        "rejected": "No, it isn't.</s>",
    }


def test_datasets_gives_axolotl_a_message_and_not_a_list(tmp_path):
    datasets = pytest.importorskip("datasets")
    write_parquet(tmp_path / "train.parquet", with_features(Axolotl().rows(*tables(*FIT))))
    loaded = datasets.load_dataset(str(tmp_path), split="train", cache_dir=str(tmp_path / "cache"))
    assert [row["messages"] for row in loaded] == FIT
    assert loaded[0]["chosen"] == {"role": "assistant", "content": "good"}
