"""What `load_dataset` gave of others before a push, it gives after it: with the real clients, before and after."""

from __future__ import annotations

import base64
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_dataset import dataset_folder, files

from prefdata.errors import PublishError
from prefdata.publish import push

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

ROWS = b'{"x":1}\n{"x":2}\n'
TABLE = pa.BufferOutputStream()
pq.write_table(pa.table({"x": [1, 2]}), TABLE)
PARQUET = TABLE.getvalue().to_pybytes()
PICTURE = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")


def card(*configs: dict) -> bytes:
    return b"---\nconfigs: " + json.dumps(list(configs)).encode() + b"\n---\n# Mine\n"


def config(name: str, path: str, split: str = "train", **more: object) -> dict:
    return {"config_name": name, "data_files": [{"split": split, "path": path}], **more}


TAKEN = {
    "a file at the top": {"train.jsonl": ROWS},
    "files without a split": {"a.jsonl": ROWS, "b.jsonl": ROWS},
    "pictures": {"images/one.gif": PICTURE, "images/two.gif": PICTURE},
    "tables that are called like notices": {"LICENSES.jsonl": ROWS},
    "tables of citations": {"CITATIONS.parquet": PARQUET},
    "text": {"lines.txt": b"one\ntwo\n"},
    "data of another split": {"data/train_prefs-00000-of-00001.jsonl": ROWS},
    "a split of one of our names": {"data/test.jsonl": ROWS},
    "split folders": {"train/0.jsonl": ROWS, "test/0.jsonl": ROWS},
    "an export": {"default/train/0000.jsonl": ROWS},
    "folders below folders": {"en/2024/train/0.jsonl": ROWS},
    "a card that names our default": {"mine/a.jsonl": ROWS, "README.md": card(config("default", "mine/*.jsonl"))},
    "a card that names our answers": {"mine/a.jsonl": ROWS, "README.md": card(config("candidates", "mine/*.jsonl"))},
    "a card with a folder": {
        "mine/a.jsonl": ROWS,
        "README.md": card({"config_name": "default", "data_dir": "mine"}),
    },
    # `load_dataset` reads every configuration of a repository in the format of the first one.
    "another configuration of another format": {
        "mine/a.jsonl": ROWS,
        "README.md": card(config("raw", "mine/*.jsonl")),
    },
    "a stated default": {"mine/a.parquet": PARQUET, "README.md": card(config("raw", "mine/*", default=True))},
    "a pattern that would take ours too": {"mine/a.jsonl": ROWS, "README.md": card(config("raw", "**"))},
    "a file above the card": {
        "mine/a.jsonl": ROWS,
        ".huggingface.yaml": b"configs:\n- config_name: raw\n  data_files: mine/a.jsonl\n",
    },
}
KEPT = {
    "another configuration": {"mine/a.parquet": PARQUET, "README.md": card(config("raw", "mine/*.parquet", "human"))},
    "another configuration with a picture": {
        "mine/a.parquet": PARQUET,
        "assets/plot.gif": PICTURE,
        "README.md": card(config("raw", "mine/*")),
    },
    "two others": {
        "mine/a.parquet": PARQUET,
        "data/mine.parquet": PARQUET,
        "README.md": card(config("raw", "mine/*"), config("more", "data/mine.parquet")),
    },
}

LOOK = """
import datasets
datasets.config.USE_PARQUET_EXPORT = False
def look(repo):
    return {
        name: {split: rows.num_rows for split, rows in datasets.load_dataset(repo, name).items()}
        for name in datasets.get_dataset_config_names(repo)
    }
"""


@pytest.fixture
def repositories(near):
    """Puts each kind into a repository of its own; kind → its name."""
    names = {kind: f"alice/r{number}" for number, kind in enumerate({**TAKEN, **KEPT})}
    for kind, content in {**TAKEN, **KEPT}.items():
        near.hub.put("dataset", names[kind], content)
        near.hub.repos["dataset", names[kind]].private = True
    return names


def shown(client, repositories, home):
    """What a new process with an empty cache loads of each repository."""
    (client.home / home).mkdir()
    looks = {kind: f"look({repo!r})" for kind, repo in repositories.items()}
    code = f"{LOOK}\nresult = {{{', '.join(f'{kind!r}: {look}' for kind, look in looks.items())}}}"
    return client.run(code, token="secret-of-alice", HF_HOME=str(client.home / home))


def test_nothing_is_taken_from_view(near, client, folder, repositories):
    before = shown(client, repositories, "before")
    assert all(rows for configs in before.values() for splits in configs.values() for rows in splits.values())
    for kind in TAKEN:
        content = files(near.hub, repo=repositories[kind])
        for options in ({}, {"create_pr": True}):
            why = r"^not published: .*(take it from view|default configuration|would not show what is published)"
            with pytest.raises(PublishError, match=why):
                push(folder, repositories[kind], allow_schema_change=True, **options)
        assert files(near.hub, repo=repositories[kind]) == content, kind
        assert near.hub.repos["dataset", repositories[kind]].pulls == 0
    for kind in KEPT:
        push(folder, repositories[kind])
    after = shown(client, repositories, "after")
    assert {kind: after[kind] for kind in TAKEN} == {kind: before[kind] for kind in TAKEN}
    for kind in KEPT:
        assert {name: after[kind][name] for name in before[kind]} == before[kind], kind
        assert after[kind]["default"] == {"train": 4, "test": 2}


def test_a_standalone_file_above_the_card_that_would_hide_ours_is_refused(near, folder):
    above = {".huggingface.yaml": b"configs:\n- config_name: raw\n  data_files: none/*.parquet\n"}
    near.hub.put("dataset", "alice/prefs", above)
    near.hub.repos["dataset", "alice/prefs"].private = True
    with pytest.raises(PublishError, match="would not show what is published"):
        push(folder, "alice/prefs")
    assert files(near.hub) == above


def test_the_message_says_what_is_there_and_the_way_out_works(near, folder):
    near.hub.put("dataset", "alice/prefs", {"data/train_prefs-00000-of-00001.parquet": PARQUET})
    near.hub.repos["dataset", "alice/prefs"].private = True
    with pytest.raises(PublishError) as refused:
        push(folder, "alice/prefs")
    message = str(refused.value)
    assert "configuration 'default', split 'train_prefs': data/train_prefs-00000-of-00001.parquet" in message
    assert "under `configs`" in message
    near.hub.put("dataset", "alice/prefs", {"README.md": card(config("raw", "data/train_prefs-*"))})
    said = []
    push(folder, "alice/prefs", log=said.append)
    assert "load_dataset('alice/prefs') gave the configuration 'raw'; from now on that is read by its name" in said


def test_what_somebody_adds_to_a_dataset_of_ours_stays_in_view(near, folder, tmp_path):
    push(folder, "alice/prefs")
    theirs = files(near.hub)["README.md"].decode()
    split = "  - split: test\n    path: data/test-*.parquet\n"
    assert split in theirs
    edited = theirs.replace(split, f"{split}  - split: human\n    path: human/*.jsonl\n", 1)
    near.hub.put("dataset", "alice/prefs", {"human/a.jsonl": ROWS, "README.md": edited.encode()})
    with pytest.raises(PublishError, match=r"configuration 'default', split 'human': human/a\.jsonl"):
        push(dataset_folder(tmp_path / "two", "better"), "alice/prefs")
    assert files(near.hub)["README.md"] == edited.encode()


def test_pictures_licences_and_notes_are_in_nobodys_way(near, folder, tmp_path):
    others = {"LICENSE": b"mine", "LICENSE-MIT.txt": b"MIT", "notes.md": b"# Notes", "CITATION.cff": b"cff"}
    near.hub.put("dataset", "alice/prefs", others)
    near.hub.repos["dataset", "alice/prefs"].private = True
    push(folder, "alice/prefs")
    # Beside tables of ours, `load_dataset` shows no picture.
    others |= {"assets/plot.gif": PICTURE, "images/plot.gif": PICTURE, "plot.gif": PICTURE}
    near.hub.put("dataset", "alice/prefs", others)
    push(dataset_folder(tmp_path / "two", "better"), "alice/prefs")
    assert others.items() <= files(near.hub).items()


@pytest.mark.parametrize(
    "content",
    [
        card({"data_files": "a.jsonl"}),
        card(config("raw", "*a*a*a*a*a*a*a*a*a*b")),
        card({"config_name": "raw", "data_files": [f"{n}.jsonl" for n in range(2_001)]}),
    ],
    ids=["no name", "a pattern that takes for ever", "too many patterns"],
)
def test_a_card_of_which_it_cannot_be_said_what_it_shows_is_refused(near, folder, content):
    near.hub.put("dataset", "alice/prefs", {"README.md": content, "a.jsonl": ROWS, "a" * 200 + ".jsonl": ROWS})
    near.hub.repos["dataset", "alice/prefs"].private = True
    with pytest.raises(PublishError, match="not published"):
        push(folder, "alice/prefs")
    assert files(near.hub)["README.md"] == content


def test_an_address_that_a_card_names_is_kept_or_refused_and_never_opened(near, folder):
    outside = "https://127.0.0.1:9/rows.parquet"
    near.hub.put("dataset", "alice/prefs", {"README.md": card(config("default", outside))})
    near.hub.repos["dataset", "alice/prefs"].private = True
    with pytest.raises(PublishError, match=f"configuration 'default', split 'train': {outside}"):
        push(folder, "alice/prefs")
    near.hub.put("dataset", "alice/prefs", {"README.md": card(config("raw", outside))})
    push(folder, "alice/prefs")
    assert outside in files(near.hub)["README.md"].decode()
