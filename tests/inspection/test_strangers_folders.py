"""Whatever a dataset folder of a stranger holds, each command that reads it ends with a report or one message."""

from __future__ import annotations

import json
import os
import resource
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_dataset import dataset_folder

TRAIN = "data/train-00000-of-00001.parquet"
ANSWERS = "candidates/train-00000-of-00001.parquet"
ESCAPE = "\x1b]0;pwn\x07\u202e\x9b31m"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return dataset_folder(tmp_path_factory.mktemp("whole") / "dataset", audit={"measures": {"tied_top": 0.5}})


@pytest.fixture(scope="module")
def secret(tmp_path_factory):
    path = tmp_path_factory.mktemp("secret") / "secret.json"
    path.write_text('{"password": "hunter2"}')
    return path


def document(name, text):
    def change(folder, secret):
        (folder / name).write_text(text, "utf-8", errors="surrogatepass")

    return change


def edited(name, path, value):
    def change(folder, secret):
        content = json.loads((folder / name).read_text("utf-8")) if (folder / name).exists() else {}
        at = content
        for key in path[:-1]:
            at = at.setdefault(key, {})
        at[path[-1]] = value
        (folder / name).write_text(json.dumps(content), "utf-8")

    return change


def table(name, make):
    def change(folder, secret):
        pq.write_table(make(pq.ParquetFile(folder / name).read()), folder / name)

    return change


def link(name):
    def change(folder, secret):
        (folder / name).unlink()
        (folder / name).symlink_to(secret)

    return change


def pipe(name):
    def change(folder, secret):
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return change


def recast(column, values):
    return lambda found: found.set_column(
        found.column_names.index(column), column, pa.array((values * found.num_rows)[: found.num_rows])
    )


DOCUMENTS = ("ledger.json", "audit.json", "recipe.json", "prefdata.lock.json")
TEXTS = {
    "a list": "[]",
    "empty": "",
    "null": "null",
    "deep": "[" * 100_000,
    "deep objects": '{"a":' * 100_000,
    "half": "{",
    "twice": '{"a": 1, "a": 2}',
    "long number": f'{{"prompts": {"9" * 5_000}}}',
    "a surrogate": '{"\\ud800": 1}',
    "not UTF-8": "\udcff",
}
CHANGES = {
    **{f"{name}: {what}": document(name, text) for name in DOCUMENTS for what, text in TEXTS.items()},
    **{f"{name}: link": link(name) for name in (*DOCUMENTS, "README.md", TRAIN, "drops.parquet", ANSWERS)},
    **{f"{name}: pipe": pipe(name) for name in (*DOCUMENTS, "README.md", TRAIN, "drops.parquet", ANSWERS)},
    "ledger: counts as text": edited("ledger.json", ["drops"], {"blank": "many"}),
    "ledger: escapes": edited("ledger.json", ["drops"], {ESCAPE: 1}),
    "ledger: stages of another shape": edited("ledger.json", ["stages"], [1, {}, {"out": "x"}]),
    "ledger: a great number": edited("ledger.json", ["prompts"], 10**400),
    "audit: another shape": edited("audit.json", ["measures"], [1]),
    "audit: escapes": edited("audit.json", ["measures"], {ESCAPE: 0.5}),
    "audit: infinite": document("audit.json", '{"measures": {"tied_top": Infinity, "tied_bottom": NaN}}'),
    "audit: limits": edited("audit.json", ["limits"], [{"holds": False}]),
    "recipe: backfill": edited("recipe.json", ["backfill"], ["x"]),
    "recipe: escapes": edited("recipe.json", ["pairs", ESCAPE], ESCAPE),
    "card: large": lambda folder, secret: os.truncate(folder / "README.md", 10**10),
    "ledger: large": lambda folder, secret: os.truncate(folder / "ledger.json", 10**10),
    "card: escapes": document("README.md", f"---\nlicense: {ESCAPE!r}\n---\n{ESCAPE}\n"),
    **{
        f"{name}: {what}": table(name, make)
        for name in (TRAIN, ANSWERS, "drops.parquet")
        for what, make in {
            "another table": lambda found: pa.table({"x": [1, 2]}),
            "no rows": lambda found: found.slice(0, 0),
            "no columns": lambda found: found.select([]),
            "no id": lambda found: found.drop_columns(["prompt_id"]),
            "ids are numbers": recast("prompt_id", [1, 2, 3]),
            "ids are null": recast("prompt_id", [None]),
            "ids are escapes": recast("prompt_id", [ESCAPE]),
            "a column of escapes": lambda found: found.append_column(ESCAPE, pa.array([ESCAPE] * found.num_rows)),
            "10,000 columns": lambda found: pa.table(
                {
                    **dict(zip(found.column_names, found.columns, strict=True)),
                    **{f"c{n}": pa.nulls(found.num_rows) for n in range(10_000)},
                }
            ),
            "a column twice": lambda found: found.append_column("prompt_id", found["prompt_id"]),
            "other features": lambda found: found.replace_schema_metadata({"huggingface": "{", "pandas": "[["}),
        }.items()
    },
    "lengths are texts": table(TRAIN, recast("length_chosen", ["long"])),
    "lengths are missing": table(TRAIN, lambda found: found.drop_columns(["length_chosen"])),
    "scores are not finite": table(TRAIN, recast("score_margin", [float("inf"), float("nan"), None])),
    "answers are numbers": table(TRAIN, recast("chosen", [1.5])),
    "answers are empty": table(TRAIN, recast("chosen", [[]])),
    "sources are escapes": table(TRAIN, recast("source_chosen", [ESCAPE])),
    "reasons are lists": table("drops.parquet", lambda found: pa.table({"prompt_id": ["a"], "reason": [["x"]]})),
    "half a table": lambda folder, secret: os.truncate(folder / TRAIN, 500),
    "no table": lambda folder, secret: (folder / TRAIN).write_bytes(b"PAR1" + b"\xff" * 4_000 + b"PAR1"),
    "a folder for a file": lambda folder, secret: ((folder / "ledger.json").unlink(), (folder / "ledger.json").mkdir()),
    "a folder for a table": lambda folder, secret: (folder / "data" / "x.parquet").mkdir(),
}
COMMANDS = {
    "inspect": lambda folder, other: ("inspect", folder),
    "inspect --json": lambda folder, other: ("inspect", folder, "--json"),
    "audit": lambda folder, other: ("audit", folder, "--json"),
    "diff": lambda folder, other: ("diff", folder, other),
    "diff, the other way": lambda folder, other: ("diff", other, folder, "--json"),
    "verify": lambda folder, other: ("verify", folder),
    "what-if": lambda folder, other: ("what-if", folder, "--rules", "best_vs_worst"),
    "replay": lambda folder, other: ("replay", folder, "--rule", "best_vs_worst"),
    "push": lambda folder, other: ("push", folder, "alice/prefs"),
    "build --from": lambda folder, other: ("build", "--from", folder, "--out", folder.parent / "again"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_command_ends_with_a_report_or_one_message(whole, secret, tmp_path, prefdata, monkeypatch, change):
    import prefdata as package
    from prefdata.errors import UserError

    monkeypatch.setenv("HF_TOKEN", "secret-of-nobody")
    folder = shutil.copytree(whole, tmp_path / "dataset")
    change(folder, secret)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, command in COMMANDS.items():
        said = prefdata(*command(folder, whole))
        printed = said.out + said.err
        assert said.code in (0, 1, 2), (name, printed)
        assert (said.code == 2) == bool(said.err.startswith("prefdata: ")), (name, printed)
        assert not [letter for letter in printed if not letter.isprintable() and letter != "\n"], (name, printed)
        assert "hunter2" not in printed
        if "--json" in command(folder, whole) and said.code != 2:
            json.loads(said.out, parse_constant=pytest.fail)
    try:
        loaded = package.load(folder).to("polars")
        for part in ("pairs", "candidates", "scores", "drops", "audit"):
            getattr(loaded, part)
    except UserError as error:
        assert str(error)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most < 1 << 20


def test_a_link_to_a_folder_elsewhere_is_not_read(whole, tmp_path, prefdata):
    folder = shutil.copytree(whole, tmp_path / "dataset")
    shutil.move(folder / "data", tmp_path / "elsewhere")
    (folder / "data").symlink_to(tmp_path / "elsewhere")
    for name, command in COMMANDS.items():
        said = prefdata(*command(folder, whole))
        reads_pairs = name not in ("what-if", "build --from")
        assert said.code in ((1, 2) if reads_pairs else (0, 2)), (name, said)
    said = {name: prefdata(*command(folder, whole)).err for name, command in COMMANDS.items()}
    assert "a link that leads out of its folder" in said["diff"], said
    assert "names files of the split 'train' that are not there" in said["replay"], said
