"""What pins a model, and what is said when it can't be found."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from prefdata.errors import ModelError
from prefdata.models.folders import model_folder, model_name, model_pins

ROOT = str(Path(__file__).resolve().parents[2])


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "prefdata"


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "my-model"
    path.mkdir()
    (path / "config.json").write_text("{}")
    (path / "tokenizer.json").write_text('{"a": 1}')
    (path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    (path / "model.safetensors").write_bytes(b"weights")
    return path


def test_a_folder_is_pinned_by_its_files_wherever_it_lies(folder, tmp_path):
    pins = model_pins(str(folder))
    assert set(pins) == {"sha256", "tokenizer_sha256", "chat_template_sha256"}
    assert pins["chat_template_sha256"] == hashlib.sha256(b"{{ messages }}").hexdigest()
    moved = folder.rename(tmp_path / "elsewhere")
    assert model_pins(str(moved)) == pins


@pytest.mark.parametrize(
    ("name", "content", "changed"),
    [
        ("model.safetensors", b"other weights", {"sha256"}),
        ("config.json", b'{"rope_theta": 1}', {"sha256"}),
        ("modeling_own.py", b"code", {"sha256"}),
        ("tokenizer.json", b"{}", {"sha256", "tokenizer_sha256"}),
        ("chat_template.jinja", b"{{ 1 }}", {"sha256", "tokenizer_sha256", "chat_template_sha256"}),
        ("README.md", b"words", set()),
        ("training_args.bin", b"of a trainer", set()),
    ],
)
def test_each_file_that_can_change_an_answer_changes_its_pins(folder, name, content, changed):
    before = model_pins(str(folder))
    (folder / name).write_bytes(content)
    after = model_pins(str(folder))
    assert {key for key in before if before[key] != after[key]} == changed


def test_a_file_whose_size_and_time_are_known_is_not_read_again(folder):
    before = model_pins(str(folder))
    weights = folder / "model.safetensors"
    stat = weights.stat()
    weights.write_bytes(b"wEIGHTS")
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert model_pins(str(folder)) == before
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert model_pins(str(folder)) != before


def test_a_broken_cache_of_hashes_is_made_again(folder, cache):
    before = model_pins(str(folder))
    (kept,) = (cache / "hashes").iterdir()
    kept.write_text("{")
    assert model_pins(str(folder)) == before
    assert json.loads(kept.read_text()).keys() == {path.name for path in folder.iterdir()}


def test_a_folder_that_changed_since_the_lock_is_refused(folder):
    pins = model_pins(str(folder))
    assert model_folder(str(folder), pins) == folder
    (folder / "model.safetensors").write_bytes(b"trained further")
    with pytest.raises(ModelError, match="have changed since the build was planned"):
        model_folder(str(folder), pins)
    assert model_folder(str(folder), {}) == folder


def test_a_model_without_a_template_says_so(folder):
    (folder / "tokenizer_config.json").write_text("{}")
    assert model_pins(str(folder))["chat_template_sha256"] is None


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "weights.ckpt", "model.pkl"])
def test_pickled_weights_are_never_loaded(folder, name):
    (folder / name).write_bytes(b"pickled")
    # Beside safetensors weights they are not read.
    assert model_folder(str(folder), {}) == folder
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=f"pickled .{name}., and loading them would run code"):
        model_folder(str(folder), {})


def test_records_name_a_folder_by_its_last_part(folder):
    assert model_name(str(folder)) == "my-model"
    assert model_name("meta-llama/Meta-Llama-3-8B-Instruct") == "meta-llama/Meta-Llama-3-8B-Instruct"
    assert model_name("embedded:smollm2-135m-instruct") == "embedded:smollm2-135m-instruct"


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"no config\.json"):
        model_pins(str(tmp_path))
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="merge the adapter"):
        model_pins(str(tmp_path))


@pytest.mark.parametrize("model", ["./models/none", "/no/such/folder", "a/b/c", "~/nothing", "", "a b"])
def test_what_is_no_model_is_refused_and_shown(model, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError) as caught:
        model_pins(model)
    assert repr(model) in caught.value.problem
    assert caught.value.valid


def test_a_revision_is_for_hub_models_only(folder):
    with pytest.raises(ModelError, match="only Hub models have revisions"):
        model_pins(str(folder), "main")
    with pytest.raises(ModelError, match="only Hub models have revisions"):
        model_pins("embedded:smollm2-135m-instruct", "main")


def test_a_hub_model_without_a_hub_is_refused_by_name(tmp_path):
    code = """
from prefdata.errors import ModelError
from prefdata.models.folders import model_pins
try:
    model_pins("owner/name")
except ModelError as error:
    print(error)
"""
    env = {**os.environ, "PYTHONPATH": ROOT, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300)
    assert "'owner/name'" in done.stdout
    assert "  next:  " in done.stdout
