"""A trained model is pushed like a dataset: the same verb, the same laws, and others load it by its name."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from command_text import COMMAND
from small_dataset import commits, files, repository
from small_model import model_folder, published, write_card
from tiny_model import pair_rows, write_dataset, write_model
from trainings import SMALL

from prefdata.errors import PublishError
from prefdata.publish import push
from prefdata.publish.manifest import MANIFEST, write_model_manifest
from prefdata.training.launch import _MODEL_FILES

# huggingface_hub 2.4 sends a file in a way that its own HTTP client calls old.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def model(tmp_path):
    return model_folder(tmp_path / "model")


@pytest.mark.parametrize("adapter", [False, True], ids=["whole", "adapter"])
def test_a_push_is_one_private_commit_of_model_tokenizer_card_and_records_and_nothing_else(near, tmp_path, adapter):
    model = model_folder(tmp_path / "model", adapter=adapter)
    (model / "training" / "references.parquet").write_text("private")
    done = push(model, "alice/prefs")
    assert list(near.hub.repos) == [("model", "alice/prefs")]
    assert repository(near.hub).private
    assert len(commits(near.hub)) == 2
    assert (done.new, done.kind, done.rows) == (True, "model", {})
    assert done.url == f"{near.hub.url}/alice/prefs/commit/{commits(near.hub)[0]}"
    there = files(near.hub)
    assert there == published(model)
    assert done.files == len(there)
    weights = "adapter_model.safetensors" if adapter else "model.safetensors"
    config = "adapter_config.json" if adapter else "config.json"
    assert set(there) == {
        *(weights, config, "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "README.md", "curves.svg"),
        *("metrics.jsonl", "training.json", "train-dropped.parquet", MANIFEST),
    }
    header = yaml.safe_load(there["README.md"].decode().split("---")[1])
    assert header["library_name"] == ("peft" if adapter else "transformers")
    assert header["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_the_same_model_again_makes_no_commit_and_sends_no_file(near, model, tmp_path):
    first = push(model, "alice/prefs", tag="v1")
    near.hub.log.clear()
    again = push(model_folder(tmp_path / "again" / "model"), "alice/prefs", tag="v1")
    assert (again.commit, again.new) == (first.commit, False)
    assert not [entry for entry in near.hub.log if entry[0] == "PUT" or "/commit/" in entry[1]]
    other = push(model_folder(tmp_path / "other", "better"), "alice/prefs", tag="v2")
    assert (other.new, len(commits(near.hub))) == (True, 3)
    assert repository(near.hub).tags == {"v1": first.commit, "v2": other.commit}


def test_weights_are_sent_as_large_files_when_the_hub_asks_for_it(near, model):
    near.hub.lfs_threshold = 8
    push(model, "alice/prefs")
    tree = repository(near.hub).resolve("main").tree
    assert {name for name in ("model.safetensors", "tokenizer.json") if tree[name].lfs} == {
        "model.safetensors",
        "tokenizer.json",
    }
    assert files(near.hub) == published(model)


def test_weights_go_through_xet_where_the_hub_has_it(near, model, monkeypatch):
    pytest.importorskip("hf_xet")
    from huggingface_hub import constants

    near.hub.xet, near.hub.lfs_threshold = "write", 8
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    done = push(model, "alice/prefs")
    assert any("/models/alice/prefs/xet-write-token" in entry[1] for entry in near.hub.log)
    assert not any("objects/batch" in entry[1] for entry in near.hub.log)
    assert files(near.hub) == published(model)
    assert push(model, "alice/prefs").commit == done.commit


def test_a_whole_model_takes_the_place_of_its_adapter(near, tmp_path):
    push(model_folder(tmp_path / "adapter", adapter=True), "alice/prefs")
    whole = model_folder(tmp_path / "whole")
    push(whole, "alice/prefs")
    assert files(near.hub) == published(whole)


def test_prose_of_others_on_the_card_stays(near, model, tmp_path):
    push(model, "alice/prefs")
    card = files(near.hub)["README.md"].decode()
    edited = card.replace("<!-- prefdata:begin curves -->", "A word of mine.\n\n<!-- prefdata:begin curves -->")
    edited = edited.replace("pipeline_tag: text-generation", "pipeline_tag: text-ranking\nlanguage:\n- en")
    near.hub.put("model", "alice/prefs", {"README.md": edited.encode(), "LICENSE": b"mine"})
    done = push(model_folder(tmp_path / "other", "better"), "alice/prefs")
    now = files(near.hub)["README.md"].decode()
    assert "A word of mine." in now
    assert "language:\n- en" in now
    assert done.kept == {"pipeline_tag": "text-ranking"}
    assert files(near.hub)["LICENSE"] == b"mine"


def test_public_only_when_asked(near, model):
    near.hub.put("model", "alice/prefs", {"a.txt": b"a"})
    with pytest.raises(PublishError, match="not published: the model 'alice/prefs' is public"):
        push(model, "alice/prefs")
    push(model, "alice/prefs", public=True)
    assert files(near.hub) == {**published(model), "a.txt": b"a"}


READ_BY_LOADERS = [
    re.sub(r"\*", "x", pattern) for pattern in _MODEL_FILES if pattern.endswith((".json", "safetensors"))
]
READ_BY_LOADERS += [
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "model.gguf",
    "model-00001-of-00002.safetensors",
]
UNREAD = ("special_tokens_map.json", "added_tokens.json")


@pytest.mark.parametrize("adapter", [False, True], ids=["whole", "adapter"])
@pytest.mark.parametrize("name", [name for name in READ_BY_LOADERS if name not in UNREAD])
def test_a_model_of_others_is_never_replaced_nor_taken_from_view(near, tmp_path, name, adapter):
    near.hub.put("model", "alice/prefs", {name: b"theirs"})
    repository(near.hub).private = True
    with pytest.raises(
        PublishError, match=re.escape(f"the model 'alice/prefs' holds files that prefdata did not write: {name}")
    ):
        push(model_folder(tmp_path / "model", adapter=adapter), "alice/prefs")
    assert files(near.hub) == {name: b"theirs"}


class TestRefusedBeforeAnythingIsSent:
    def refused(self, near, folder, message):
        with pytest.raises(PublishError, match=message) as refused:
            push(folder, "alice/prefs")
        assert str(refused.value).startswith("not published: ")
        assert refused.value.hint
        assert near.hub.log == []
        return str(refused.value)

    @pytest.mark.parametrize("name", ["model.safetensors", "training.json", "README.md", "curves.svg"])
    def test_a_file_that_has_changed_or_is_gone(self, near, model, name):
        content = (model / name).read_bytes()
        (model / name).write_bytes(content + b" ")
        self.refused(near, model, f"'{name}' of .* differs from the manifest")
        (model / name).unlink()
        self.refused(near, model, f"'{name}' of .* is missing" if name != "training.json" else "is not finished")

    def test_a_training_that_is_not_finished(self, near, model):
        (model / "training.json").unlink()
        (model / MANIFEST).unlink()
        assert "run its `prefdata train` command again" in self.refused(near, model, "is not finished")

    def test_a_model_of_an_earlier_version_without_a_list_of_its_files(self, near, model):
        (model / MANIFEST).unlink()
        assert "it trains nothing, and writes the list" in self.refused(near, model, "no list of its files")

    def test_an_adapter_to_a_model_of_this_machine(self, near, tmp_path):
        facts = {"model": {"model_pins": {"sha256": "3" * 64}, "template_date": None}}
        folder = model_folder(tmp_path / "model", adapter=True, **facts)
        assert "--model OWNER/NAME" in self.refused(near, folder, "nobody else could load it")

    @pytest.mark.parametrize("gone", ["config.json", "model.safetensors"])
    def test_half_a_model(self, near, model, gone):
        entries = json.loads((model / MANIFEST).read_text())
        entries["files"].pop(gone)
        (model / MANIFEST).write_text(json.dumps(entries))
        self.refused(near, model, "holds no whole model")

    @pytest.mark.parametrize("index", [{"weight_map": {"a": "model-2.safetensors"}}, {"weight_map": 3}, "no JSON", []])
    def test_a_model_in_parts_that_lacks_one(self, near, model, index):
        name = "model.safetensors.index.json"
        text = index if isinstance(index, str) else json.dumps(index)
        (model / name).write_text(text)
        relisted(model)
        if index == {"weight_map": 3}:
            assert push(model, "alice/prefs").new
        else:
            self.refused(near, model, "holds no whole model|not JSON|not a JSON object")

    def test_the_token_or_a_trackers_key_in_any_file(self, near, tmp_path, monkeypatch):
        monkeypatch.setenv("WANDB_API_KEY", "key-of-wandb-0123456789")
        tracked = {"model": "a/b", "kind": "wpo", "trl": {"report_to": "wandb", "run_name": "key-of-wandb-0123456789"}}
        folder = model_folder(tmp_path / "leaky" / "0", training=tracked)
        said = self.refused(near, folder, "contains the value of 'WANDB_API_KEY'")
        assert "key-of-wandb" not in said
        for place, changes in enumerate(({"words": "secret-of-alice"}, {"lineage": {"repo": "secret-of-alice/x"}}), 1):
            folder = model_folder(tmp_path / "leaky" / f"{place}", changes.pop("words", "good")[:8], **changes)
            if place == 1:
                (folder / "tokenizer.json").write_bytes(b" " * ((16 << 20) - 4) + b"secret-of-alice")
                relisted(folder)
            self.refused(near, folder, "contains the token for the Hub")


def relisted(folder):
    """Lists every file as it is now, as a first run does."""
    (folder / MANIFEST).unlink()
    write_model_manifest(folder, [path.name for path in folder.iterdir() if path.is_file()], written=())


def test_the_command_says_what_was_published(near, prefdata, model):
    said = prefdata("push", model, "alice/prefs")
    assert said.code == 0, said.err
    count = len(published(model))
    sha = commits(near.hub)[0]
    assert said.out.splitlines() == [f"published: a model of {count} files", f"{near.hub.url}/alice/prefs/commit/{sha}"]
    assert prefdata("push", model, "alice/prefs").out.startswith("already there: a model of ")
    report = json.loads(prefdata("push", model, "alice/prefs", "--json").out)
    assert (report["kind"], report["files"], report["new"]) == ("model", count, False)


def test_a_training_that_ran_again_lists_only_its_card_anew(model, tmp_path):
    before = json.loads((model / MANIFEST).read_text())
    weights = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(weights[:-1] + b"!")
    (model / "notes.safetensors").write_text("mine")
    (model / "tokenizer.json").unlink()
    (model / "README.md").write_text("damaged")
    again = model_folder(tmp_path / "again")
    write_card(model, json.loads((model / "training.json").read_text()))
    after = json.loads((model / MANIFEST).read_text())
    assert after == before
    assert (model / "README.md").read_bytes().replace(b"# model", b"# again") == (again / "README.md").read_bytes()


TRAIN = (
    COMMAND
    + """
import json, os
from pathlib import Path
settings = [word for name, value in {settings}.items() for word in ("--set", name + "=" + json.dumps(value))]

def trained(out, *more):
    return command("train", "data", "--model", "alice/base", "--out", out, *settings, *more)

codes = [trained("whole"), trained("adapter", "--set", 'lora={"rank": 4, "dropout": 0.0}')]
codes += [command("push", out, "alice/" + out) for out in ("whole", "adapter")]
result = codes
"""
)
LOAD = """
import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer

def weights(model):
    return {{name: tensor.double().sum().item() for name, tensor in model.state_dict().items()}}

there, here = (AutoModelForCausalLM.from_pretrained(name) for name in ("alice/whole", "{folder}/whole"))
peft, peft_here = (AutoPeftModelForCausalLM.from_pretrained(name) for name in ("alice/adapter", "{folder}/adapter"))
tokenizer = AutoTokenizer.from_pretrained("alice/whole")
base = AutoModelForCausalLM.from_pretrained("alice/base")
result = {{
    "whole": weights(there) == weights(here),
    "trained": weights(there) != weights(base),
    "adapter": weights(peft) == weights(peft_here) and len(weights(peft)) > len(weights(base)),
    "moved": any(bool(tensor.any()) for name, tensor in peft.state_dict().items() if "lora_B" in name),
    "text": tokenizer.apply_chat_template([{{"role": "user", "content": "red cat"}}], tokenize=False),
    "trained_again": str(hub.download_model("alice/whole", hub.resolve_model("alice/whole"))),
}}
"""


@pytest.mark.model
def test_a_model_that_was_trained_and_pushed_is_loaded_by_its_name(hub, client, tmp_path):
    base = write_model(tmp_path / "base")
    hub.put("model", "alice/base", {path.name: path.read_bytes() for path in base.iterdir()})
    write_dataset(client.home / "data", pair_rows(8))
    fields = {**SMALL, "kind": "wpo", "trl": {"max_steps": 2}}
    variables = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    codes = client.run(TRAIN.replace("{settings}", repr(fields)), token="secret-of-alice", **variables)
    assert codes == [0, 0, 0, 0]
    for name in ("whole", "adapter"):
        assert hub.repos["model", f"alice/{name}"].private
        there = files(hub, repo=f"alice/{name}")
        assert there == published(client.home / name)
        header = yaml.safe_load(there["README.md"].decode().split("---")[1])
        assert header["base_model"] == "alice/base"
        assert header["library_name"] == {"whole": "transformers", "adapter": "peft"}[name]
        assert not [file for file in there if file.startswith("training/") or "optimizer" in file or "job" in file]
        assert str(client.home).encode() not in b"".join(content for file, content in there.items())
    told = client.run(LOAD.format(folder=client.home), token="secret-of-alice")
    assert {name: told[name] for name in ("whole", "trained", "adapter", "moved")} == dict.fromkeys(
        ("whole", "trained", "adapter", "moved"), True
    )
    assert told["text"] == "<s><|im_start|>user\nred cat<|im_end|>\n"
