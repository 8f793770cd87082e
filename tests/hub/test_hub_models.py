"""Models of a Hub, downloaded through the real client."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save


def weights(name: str) -> bytes:
    return save({name: np.zeros((2, 2), dtype=np.float32)})


SHARDED = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}",
    "merges.txt": b"a b",
    "chat_template.jinja": b"{{ messages }}",
    "model-00001-of-00002.safetensors": weights("a"),
    "model-00002-of-00002.safetensors": weights("b"),
    "model.safetensors.index.json": json.dumps(
        {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    ).encode(),
    "pytorch_model.bin": b"a pickle",
    "modeling_custom.py": b"raise SystemExit",
    "original/consolidated.safetensors": weights("c"),
}


def test_a_model_is_fetched_at_its_commit_without_pickles_code_or_copies(hub, client):
    first = hub.put("model", "alice/tiny", SHARDED)
    hub.put("model", "alice/tiny", {"config.json": b'{"model_type": "another"}'})
    hub.repos["model", "alice/tiny"].tags["v1"] = first
    sha, folder, with_code = client.run("""
sha = hub.resolve_model("alice/tiny", "v1")
result = [sha, str(hub.download_model("alice/tiny", sha)), str(hub.download_model("alice/tiny", sha, code=True))]
""")
    assert sha == first
    assert folder == with_code
    assert json.loads((Path(folder) / "config.json").read_text()) == {"model_type": "llama"}
    downloaded = {path.split("/", 5)[5] for method, path, _, _ in hub.log if method == "GET" and "/resolve/" in path}
    assert downloaded == set(SHARDED) - {"pytorch_model.bin", "original/consolidated.safetensors"}
    assert (Path(folder) / "modeling_custom.py").exists()


def test_python_files_stay_away_unless_asked_for(hub, client):
    hub.put("model", "alice/tiny", SHARDED)
    folder = client.run("result = str(hub.download_model('alice/tiny', hub.resolve_model('alice/tiny')))")
    assert not list(Path(folder).glob("*.py"))


def test_each_unusable_model_is_one_message(hub, client):
    hub.put("model", "alice/pickled", {"config.json": b"{}", "pytorch_model.bin": b"a pickle"})
    hub.put("model", "alice/bare", {"model.safetensors": weights("a")})
    hub.put(
        "model",
        "alice/half",
        {name: data for name, data in SHARDED.items() if name != "model-00002-of-00002.safetensors"},
    )
    hub.put("model", "alice/gated", SHARDED)
    hub.repos["model", "alice/gated"].gated = "manual"
    result = client.run("""
def load(repo):
    return refused(lambda: hub.download_model(repo, hub.resolve_model(repo)))
result = {name: load("alice/" + name) for name in ("pickled", "bare", "half", "gated", "absent")}
result["offline"] = refused(lambda: hub.download_model("alice/half", "0" * 40))
""")
    assert {name: answer[0] for name, answer in result.items()} == dict.fromkeys(result, "ModelError")
    expected = {
        "pickled": "has no safetensors weights",
        "bare": "has no config.json",
        "half": "is incomplete: model-00002-of-00002.safetensors is missing",
        "gated": "is gated: its owner must grant access first (HTTP 401)",
        "absent": "does not exist on http://127.0.0.1",
        "offline": "has no revision '0000000000000000000000000000000000000000'",
    }
    for name, text in expected.items():
        assert text in result[name][1], result[name]


def test_a_model_is_pinned_by_commit_tokenizer_and_template_without_its_weights(hub, client):
    sha = hub.put("model", "alice/tiny", SHARDED)
    pins = client.run("from prefdata.models.folders import model_pins\nresult = model_pins('alice/tiny')")
    assert pins["sha"] == sha
    assert pins["chat_template_sha256"] == hashlib.sha256(b"{{ messages }}").hexdigest()
    assert len(pins["tokenizer_sha256"]) == 64
    assert not [path for method, path, _, _ in hub.log if method == "GET" and path.endswith(".safetensors")]


def test_a_locked_commit_stands_for_its_branch_although_the_branch_moved_on(hub, client):
    first = hub.put("model", "alice/tiny", SHARDED)
    hub.put("model", "alice/tiny", {"config.json": b"{}"})
    locked, anew, used = client.run(f"""
with hub.locked_commits({{"model:alice/tiny@main": "{first}", "model:alice/other@main": "unused"}}) as used:
    locked = hub.resolve_model("alice/tiny")
result = [locked, hub.resolve_model("alice/tiny"), used]
""")
    assert locked == first != anew
    assert used == {"model:alice/tiny@main": first}


def test_an_adapter_is_fetched_at_its_commit_and_pinned_by_it(hub, client):
    files = {"adapter_config.json": b'{"r": 4}', "adapter_model.safetensors": weights("a"), "adapter_model.bin": b"p"}
    first = hub.put("model", "alice/adapter", files)
    hub.put("model", "alice/adapter", {"adapter_config.json": b'{"r": 8}'})
    hub.repos["model", "alice/adapter"].tags["v1"] = first
    hub.put("model", "alice/tiny", SHARDED)
    pins, folder, whole = client.run("""
from prefdata.models import VLLM
from prefdata.models.folders import adapter_folder
pins = VLLM(model="alice/tiny", lora="alice/adapter", lora_revision="v1").pins()
folder = adapter_folder("alice/adapter", pins["lora"])
result = [pins, str(folder), refused(lambda: adapter_folder("alice/tiny", {}))]
""")
    assert pins["lora"] == {"sha": first}
    assert sorted(path.name for path in Path(folder).iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert json.loads((Path(folder) / "adapter_config.json").read_text()) == {"r": 4}
    assert whole[0] == "ModelError" and "'alice/tiny' has no adapter_config.json" in whole[1]
