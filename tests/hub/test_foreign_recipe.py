"""A dataset of a stranger, built by a user who has read nothing of it: it runs, reads, sends and publishes nothing."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from command_text import COMMAND
from minihub import User
from minihub.store import Entry

BASE = {
    "name": "nice",
    "limit": 2,
    "prompts": {"kind": "sample"},
    "candidates": [{"kind": "sample_answers", "name": "teacher"}],
    "scores": {"kind": "baseline"},
    "pairs": {"kind": "best_vs_worst"},
}


def publish(hub, changes: dict, commits: dict | None = None, **files: bytes) -> str:
    """Puts a dataset of the attacker's on the Hub, and returns its commit."""
    return hub.put(
        "dataset",
        "attacker/nice-pairs",
        {
            "recipe.json": json.dumps({**BASE, **changes}).encode(),
            "prefdata.lock.json": json.dumps({"format": 2, "commits": commits or {}}).encode(),
            **files,
        },
    )


def asked(hub) -> set[str]:
    """What was asked of the Hub."""
    return {entry[1] for entry in hub.log}


EVIL = "import os; open({canary!r}, 'w').write(os.environ.get('HF_TOKEN', ''))"
SETS = {"kind": "decontaminate", "sets": [{"name": "e", "column": "q", "dataset": "attacker/nice-pairs"}]}


@pytest.mark.parametrize("way", ["PYTHONPATH", "reasoning_parser_plugin"])
def test_code_of_the_repository_never_runs(hub, client, tmp_path, way):
    canary = tmp_path / "ran"
    evil = EVIL.format(canary=str(canary)).encode()
    files = {"eval.jsonl": b'{"q": "a text of an evaluation"}\n', "sitecustomize.py": evil, "plugin.py": evil}
    sha = publish(hub, {}, **files)
    snapshot = client.home / "hub" / "datasets--attacker--nice-pairs" / "snapshots"
    model = "embedded:smollm2-135m-instruct"
    # The second commit names the folder of the first one, whose files the filter brings into the cache.
    generator = {
        "PYTHONPATH": {"kind": "transformers", "model": model, "env": {"PYTHONPATH": str(snapshot / sha)}},
        "reasoning_parser_plugin": {
            "kind": "vllm",
            "model": model,
            "max_model_len": 512,
            "engine": {"structured_outputs_config": {"reasoning_parser_plugin": str(snapshot / sha / "plugin.py")}},
        },
    }[way]
    sets = [{**SETS["sets"][0], "file": "eval.jsonl", "revision": sha}]
    sampler = {"kind": "samples", "name": "policy", "generator": generator, "n": 2, "max_tokens": 4}
    publish(hub, {"filters": [{**SETS, "sets": sets}], "candidates": [sampler]})
    result = client.run(
        f"""{COMMAND}
result = [command("check", "--from", "attacker/nice-pairs"), command("build", "--from", "attacker/nice-pairs")]
""",
        token="secret-of-alice",
    )
    assert not canary.exists()
    assert result == [2, 2]
    fetched = {path.rpartition("/")[2] for path in asked(hub) if "/resolve/" in path}
    assert fetched == {"recipe.json", "prefdata.lock.json"}
    assert not (client.home / "builds").exists()


class Listener(BaseHTTPRequestHandler):
    heard: list[str] = []  # noqa: RUF012 - replaced by each test

    def log_message(self, *_):
        pass

    def do_POST(self):
        self.heard.append(f"{self.path} {self.headers.get('Authorization')}")
        self.send_response(500)
        self.end_headers()


@pytest.fixture
def service(monkeypatch):
    """A service of this machine that takes whatever is posted to it."""
    monkeypatch.setattr(Listener, "heard", [])
    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("path", ["/containers/create", "/containers/create?name=evil&x="])
def test_nothing_is_posted_to_a_service_of_this_machine(near, prefdata, service, monkeypatch, tmp_path, path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLOUD_SECRET_KEY", "the-key-of-the-cloud")
    generator = {"kind": "chat_endpoint", "model": "m", "base_url": service + path, "api_key_env": "CLOUD_SECRET_KEY"}
    generator |= {"extra_body": {"Image": "evil", "Cmd": ["sh"]}, "max_retries": 0}
    publish(near.hub, {"candidates": [{"kind": "samples", "name": "policy", "generator": generator}]})
    said = prefdata("build", "--from", "attacker/nice-pairs", "--allow", "paths,env,engine,body,keys=OPENAI_API_KEY")
    assert said.code == 2
    assert Listener.heard == []
    assert "the-key-of-the-cloud" not in said.out + said.err
    if "?" in path:
        assert "holds a query or a fragment" in said.err
        return
    assert f"base_url sends requests to this address, with the key in `api_key_env`: '{service}{path}'" in said.err
    assert "keys=CLOUD_SECRET_KEY" in said.err
    allow = ("--allow", f"body,endpoint={service}{path}", "--allow", "keys=CLOUD_SECRET_KEY")
    # What the user has named is asked.
    prefdata("build", "--from", "attacker/nice-pairs", *allow)
    assert Listener.heard[0] == f"{path}/chat/completions Bearer the-key-of-the-cloud"


def poisoned(hub, name: str, files: dict[str, bytes], kind: str = "dataset") -> str:
    """Opens a pull request as anybody may; returns its commit."""
    repo = hub.repos[kind, name]
    repo.refs["refs/pr/1"] = repo.refs["main"]
    tree = {path: hub.put_regular(data) for path, data in files.items()}
    assert all(isinstance(entry, Entry) for entry in tree.values())
    return repo.commit("refs/pr/1", tree, "improve", "", "attacker").id


def rows(word: str) -> bytes:
    return "".join(json.dumps({"id": f"{word}{n}", "prompt": f"{word} {n}?"}) + "\n" for n in range(3)).encode()


SOURCE = {"prompts": {"kind": "hub", "dataset": "trusted/prompts", "prompt_id_column": "id"}}


@pytest.mark.parametrize("revision", ["main", "v1", "by its commit"])
def test_a_lock_pins_only_commits_of_the_branch_that_it_names(near, prefdata, monkeypatch, tmp_path, revision):
    monkeypatch.chdir(tmp_path)
    near.hub.put("dataset", "trusted/prompts", {"train.jsonl": rows("old")})
    near.hub.repos["dataset", "trusted/prompts"].tags["v1"] = near.hub.repos["dataset", "trusted/prompts"].refs["main"]
    sha = poisoned(near.hub, "trusted/prompts", {"train.jsonl": rows("poisoned")})
    revision = sha if revision == "by its commit" else revision
    source = {"prompts": {**SOURCE["prompts"], "revision": revision}}
    # A recipe that names the commit itself needs no lock for it.
    commits = {} if revision == sha else {f"dataset:trusted/prompts@{revision}": sha}
    publish(near.hub, source, commits)
    said = prefdata("build", "--from", "attacker/nice-pairs")
    assert said.code == 2
    assert f"the commit {sha[:12]} is not in the history of" in said.err
    assert "the dataset 'trusted/prompts'" in said.err
    assert not (tmp_path / "builds").exists()


def test_a_build_of_the_same_name_keeps_its_folder_and_its_lock(near, prefdata, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    near.hub.put("dataset", "trusted/prompts", {"train.jsonl": rows("theirs")})
    publish(near.hub, SOURCE)
    mine = tmp_path / "builds" / "nice" / "prefdata.lock.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    for verb in ("check", "build"):
        prefdata(verb, "--from", "attacker/nice-pairs")
        assert [path.name for path in mine.parent.iterdir()] == [mine.name]
        assert mine.read_text() == "mine"
    assert (tmp_path / "builds" / "from-elsewhere" / "nice" / mine.name).is_file()


def elsewhere(monkeypatch, tmp_path):
    """Works in one folder, and gives another one, whose recipes are a stranger's."""
    for name in ("mine", "theirs"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    return tmp_path / "theirs"


def trained_on_a_pull_request(hub) -> tuple[str, dict]:
    """Opens a pull request to a model; returns its commit, and a recipe that trains that."""
    hub.put("model", "trusted/model", {"config.json": b"{}"})
    sha = poisoned(hub, "trusted/model", {"config.json": b"{ }"}, "model")
    return sha, {"training": {"kind": "dpo", "model": "trusted/model", "revision": sha}}


@pytest.mark.parametrize("command", ["build", "check", "train", "run"])
@pytest.mark.parametrize("kind", ["dataset", "model"])
def test_a_recipe_in_a_file_names_only_commits_of_a_branch_or_tag(near, prefdata, monkeypatch, tmp_path, command, kind):
    theirs = elsewhere(monkeypatch, tmp_path)
    sha, changes = trained_on_a_pull_request(near.hub)
    if kind == "dataset":
        near.hub.put("dataset", "trusted/prompts", {"train.jsonl": rows("old")})
        sha = poisoned(near.hub, "trusted/prompts", {"train.jsonl": rows("poisoned")})
        changes = {"prompts": {**SOURCE["prompts"], "revision": sha}}
    (theirs / "recipe.json").write_text(json.dumps({**BASE, **changes}))
    said = prefdata(command, theirs / "recipe.json")
    assert (said.code, said.out) == (2, "")
    assert f"the commit {sha[:12]} is not in the history of 'main' of the {kind} 'trusted/" in said.err
    assert not (tmp_path / "mine" / "builds").exists()


def test_a_training_of_a_published_dataset_names_only_commits_of_a_branch_or_tag(near, prefdata, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    sha, changes = trained_on_a_pull_request(near.hub)
    publish(near.hub, changes)
    said = prefdata("train", "attacker/nice-pairs")
    assert (said.code, said.out) == (2, "")
    assert f"the commit {sha[:12]} is not in the history of 'main' of the model 'trusted/model'" in said.err
    assert not (tmp_path / "models").exists()


def test_a_pin_that_is_not_the_newest_commit_is_reported(near, prefdata, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    old = near.hub.put("dataset", "trusted/prompts", {"train.jsonl": rows("old")})
    publish(near.hub, SOURCE, {"dataset:trusted/prompts@main": old})
    from prefdata.flow.from_hub import fetch_recipe

    def fetched(out: str) -> str:
        said = []
        monkeypatch.setattr("prefdata.flow.from_hub.say", said.append)
        assert fetch_recipe("attacker/nice-pairs", out).name == "nice"
        return "\n".join(said)

    assert fetched("one") == ""
    near.hub.put("dataset", "trusted/prompts", {"train.jsonl": rows("new")})
    near.hub.put("dataset", "trusted/prompts", {"train.jsonl": rows("newer")})
    expected = f"lock: dataset trusted/prompts is pinned at {old[:12]}; 2 commits are newer in 'main'"
    assert fetched("two") == expected
    # What a build has pinned is the user's own from then on.
    assert fetched("two") == ""


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
@pytest.mark.parametrize("path", [None, "recipe.json"])
def test_where_to_publish_is_for_the_user_to_say(near, prefdata, monkeypatch, tmp_path, path):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    near.hub.users["secret-of-alice"] = User("alice", orgs=("bigcorp",))
    target = {"publish": {"repo": "bigcorp/leak", "public": True, "tag": "v1"}}
    target |= {"prompts": {"kind": "sample", "scored": True}}
    target |= {"candidates": [{"kind": "sample_answers", "name": "teacher", "scored": True}]}
    publish(near.hub, target)
    (tmp_path / "recipe.json").write_text(json.dumps({**BASE, **target}))
    given = ("--from", "attacker/nice-pairs") if path is None else (tmp_path / path,)
    said = prefdata("build", *given, "--push")
    assert said.code == 2
    assert "prefdata push FOLDER OWNER/NAME" in said.err
    assert ("dataset", "bigcorp/leak") not in near.hub.repos
    assert prefdata("build", *given).code == 0
    assert prefdata("push", "builds/from-elsewhere/nice", "alice/nice").code == 0
    assert near.hub.repos["dataset", "alice/nice"].private
    assert ("dataset", "bigcorp/leak") not in near.hub.repos


OUTSIDE = [
    "/etc/passwd",
    "~/.ssh/id_ed25519",
    "file:///etc/passwd",
    "../../secrets.jsonl",
    "data/../../../x.jsonl",
    "zip://x.jsonl::/home/me/x.zip",
    "https://collector.example/x.jsonl",
    "hf://datasets/victim/private/x.jsonl",
    "C:\\x.jsonl",
    "\\\\server\\share\\x.jsonl",
]


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("form", ["data_files: {path}", "data_files: [a.jsonl, {path}]", "data_dir: {path}"])
def test_a_card_that_names_files_outside_its_repository_is_refused(path, form):
    import huggingface_hub

    from prefdata.errors import InputError
    from prefdata.hub.cards import check_card

    text = form.format(path=json.dumps(path))
    for card in (
        f"---\nconfigs:\n- config_name: default\n  {text}\n---\n# A\n",
        f"---\nconfigs:\n- config_name: a\n  data_files: a.jsonl\n- config_name: b\n  {text}\n---\n",
    ):
        with pytest.raises(InputError, match="outside its repository"):
            check_card(huggingface_hub, "a/b", card)
        with pytest.raises(InputError, match="outside its repository"):
            check_card(huggingface_hub, "a/b", card.strip("-\n").partition("\n---")[0], ".huggingface.yaml")
    split = f"---\nconfigs:\n- config_name: a\n  data_files:\n  - split: train\n    path: {json.dumps(path)}\n---\n"
    with pytest.raises(InputError, match="outside its repository"):
        check_card(huggingface_hub, "a/b", split)


def test_a_card_of_its_own_files_is_read():
    import huggingface_hub

    from prefdata.hub.cards import check_card

    files = '{data_files: [{split: train, path: ["data/train-*.parquet", "x/**/*.jsonl.gz"]}], data_dir: data}'
    check_card(huggingface_hub, "a/b", f"---\nlicense: mit\nconfigs:\n- {files}\n---\n# A\n")
    check_card(huggingface_hub, "a/b", "# No header\n")


SECRET = '{"id": "s", "prompt": "the secret of the user", "response": "r"}\n'
CARD = "---\nconfigs:\n- config_name: default\n  data_files: {path}\n---\n"


@pytest.mark.parametrize("part", ["prompts", "candidates", "evaluation set"])
def test_a_dataset_whose_card_names_a_file_of_this_machine_is_not_opened(hub, client, tmp_path, part):
    secret = tmp_path / "secret.jsonl"
    secret.write_text(SECRET)
    card = CARD.format(path=secret).encode()
    hub.put("dataset", "attacker/prompts", {"README.md": card, "train.jsonl": b'{"id": "a", "prompt": "b"}\n'})
    source = {"dataset": "attacker/prompts", "prompt_id_column": "id"}
    publish(
        hub,
        {
            "prompts": {"prompts": {"kind": "hub", **source}},
            "candidates": {"candidates": [{"kind": "existing", "name": "r", **source}]},
            "evaluation set": {
                "filters": [{**SETS, "sets": [{**SETS["sets"][0], "dataset": "attacker/prompts", "split": "train"}]}]
            },
        }[part],
    )
    code, said = client.run(
        f"""{COMMAND}
import contextlib, io
err = io.StringIO()
with contextlib.redirect_stderr(err):
    code = command("build", "--from", "attacker/nice-pairs")
result = [code, err.getvalue()]
""",
        token="secret-of-alice",
    )
    assert code == 2
    assert "outside its repository" in said
    assert "the secret of the user" not in said
    made = [path for path in client.home.rglob("*") if path.is_file() and b"secret of the user" in path.read_bytes()]
    assert made == []


@pytest.mark.parametrize("verb", ["inspect", "diff", "what-if", "replay", "verify", "load"])
def test_no_command_fetches_a_file_that_it_does_not_need(near, prefdata, tmp_path, monkeypatch, verb):
    import prefdata as package

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("prefdata.hub.named_files._LARGE", 1)
    scored = {"prompts": {"kind": "sample", "scored": True}, "scores": {"kind": "given"}, "limit": 20}
    scored["candidates"] = [{"kind": "sample_answers", "name": "teacher", "scored": True}]
    (tmp_path / "recipe.json").write_text(json.dumps({**BASE, **scored}))
    made = package.build("recipe.json", "made").dataset
    content = {path.relative_to(made).as_posix(): path.read_bytes() for path in made.rglob("*") if path.is_file()}
    junk = ("junk.bin", "data/junk.bin", "sitecustomize.py", "data/train.pkl", "deep/er/x.safetensors")
    near.hub.put("dataset", "bob/pairs", {**content, **dict.fromkeys(junk, str(tmp_path).encode())})
    if verb == "load":
        assert package.load("bob/pairs").to("polars").pairs.height
    else:
        arguments = {
            "diff": ["bob/pairs"],
            "what-if": ["--rules", "best_vs_worst"],
            "replay": ["--rule", "best_vs_worst"],
        }
        said = prefdata(verb, "bob/pairs", *arguments.get(verb, []))
        assert said.code == (2 if verb == "replay" else 0), said.out + said.err
        # What is large is said before it is fetched.
        assert "files of 'bob/pairs', 0.0 GB" in said.err
    fetched = {path.partition("/resolve/")[2].partition("/")[2] for path in asked(near.hub)}
    assert any(name.endswith(".parquet") for name in fetched)
    assert fetched & set(junk) == set()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("#\n---\nconfigs:\n- config_name: default\n  data_files: /home/me/x.csv\n", ".huggingface.yaml"),
        ("---\n#\r---\rconfigs:\n- config_name: default\n  data_files: /etc/hostname\n---\n", "README.md"),
    ],
)
def test_a_card_is_read_as_datasets_reads_it(text, name):
    """Two parsers that disagree on where the header ends would let a path through."""
    import huggingface_hub

    from prefdata.errors import InputError
    from prefdata.hub.cards import check_card

    with pytest.raises(InputError):
        check_card(huggingface_hub, "a/b", text, name)


@pytest.mark.parametrize("levels", [1, 12])
def test_a_card_whose_lists_hold_themselves_or_each_other_many_times_is_checked_once(levels):
    import huggingface_hub

    from prefdata.hub.cards import check_card

    nested = "".join(
        f"x{level}: &x{level} [{', '.join([f'*x{level - 1}'] * 10) if level else 'a.csv'}]\n" for level in range(levels)
    )
    configs = f"configs:\n- data_files: *x{levels - 1}\n- data_files: &self [*self, a.csv]\n"
    check_card(huggingface_hub, "a/b", f"{nested}{configs}", ".huggingface.yaml")
