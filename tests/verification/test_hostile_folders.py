"""A folder that somebody hostile made ends in mismatches or one message, never in a traceback or in their code."""

from __future__ import annotations

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forgery import recipe, rewrite, rewrite_json, with_hashes_made_again

from prefdata.verification import _folder, verify

TRAIN = "data/train-00000-of-00001.parquet"
ANSWERS = "candidates/train-00000-of-00001.parquet"


def kinds(folder):
    report = verify(with_hashes_made_again(folder), keep=None)
    assert not report.holds
    json.dumps(report.as_json(), ensure_ascii=False).encode()
    return report.counts


def test_a_link_out_of_the_folder_is_not_followed(dataset, tmp_path):
    secret = tmp_path / "secret.json"
    secret.write_text('{"password": "hunter2"}')
    for name in ("ledger.json", "recipe.json", TRAIN):
        (dataset / name).unlink()
        (dataset / name).symlink_to(secret)
    report = verify(dataset, keep=None)
    assert report.counts["link"] == 3
    assert "hunter2" not in json.dumps(report.as_json())


def test_links_to_folders_loops_and_pipes_end(dataset, tmp_path):
    (dataset / "loop").symlink_to(dataset)
    (dataset / "itself").symlink_to("itself")
    os.mkfifo(dataset / "audit.json.pipe")
    report = verify(dataset, keep=None)
    assert {
        mismatch_kinds.where for mismatch_kinds in report.mismatches if mismatch_kinds.what in ("link", "file")
    } >= {
        "loop",
        "itself",
        "audit.json.pipe",
    }


@pytest.mark.parametrize("name", ["recipe.json", "prefdata.lock.json", "ledger.json", "audit.json"])
@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        '{"a":' * 200_000,
        "[]",
        "null",
        "17",
        '"text"',
        "{}",
        "",
        "{",
        '{"a": 1, "a": 2}',
        '{"a": NaN}',
        '{"a": "\\ud800"}',
        f'{{"seed": {"9" * 5000}}}',
        '{"parts": 3, "pairs": [], "stages": 4, "prompts": {"kind": {}}, "table": 1, "columns": 2}',
        '{"parts": {"pairs": 3, "prompts": {"pins": 4, "key": []}}, "stages": [1, {}, {"out": "x", "drops": []}]}',
    ],
    ids=range(15),
)
def test_a_document_may_hold_anything(dataset, name, text):
    (dataset / name).write_text(text, "utf-8")
    assert kinds(dataset)


def test_a_document_that_is_too_large_is_not_read(dataset, monkeypatch):
    monkeypatch.setattr(_folder, "DOCUMENT_BYTES", 1000)
    with (dataset / "recipe.json").open("r+b") as file:
        file.truncate(10_000_000_000)
    mismatch_kinds = kinds_without_hashing(dataset, monkeypatch)
    assert mismatch_kinds["document"] >= 1


def kinds_without_hashing(folder, monkeypatch):
    monkeypatch.setattr(_folder, "manifest_entry", lambda path: {})
    return verify(folder).counts


@pytest.mark.parametrize("name", [TRAIN, ANSWERS, "drops.parquet", "drops_candidates.parquet"])
@pytest.mark.parametrize("how", ["other", "fewer", "types", "order", "features", "bytes", "empty"])
def test_a_table_may_be_anything(dataset, name, how):
    file = dataset / name
    table = pq.ParquetFile(file).read()
    if how == "other":
        pq.write_table(pa.table({"x": [1, 2]}), file)
    elif how == "fewer":
        pq.write_table(table.drop_columns(["prompt_id"]), file)
    elif how == "types":
        column = pa.array([{"a": 1}] * table.num_rows)
        pq.write_table(table.set_column(0, "prompt_id", column), file)
    elif how == "order":
        pq.write_table(table.select(table.column_names[::-1]), file)
    elif how == "features":
        pq.write_table(table.replace_schema_metadata({"huggingface": "{}"}), file)
    elif how == "bytes":
        data = bytearray(file.read_bytes())
        data[40:120] = b"x" * 80
        file.write_bytes(data)
    else:
        file.write_bytes(b"")
    assert {"schema", "unreadable"} & set(kinds(dataset))


def test_cells_may_hold_anything(dataset):
    def spoil(table):
        table[0] = dict.fromkeys(table[0])
        table[1].update(prompt=[None], chosen=[], rejected=[{"role": None, "content": None}])
        table[2].update(prompt_id="", pair_index=None, score_chosen=float("nan"), n_eligible=-(2**63))
        table[3].update(prompt_id="\x1b[31m", prompt=None)

    rewrite(dataset / TRAIN, spoil)
    assert {"field", "pair"} <= set(kinds(dataset))

    def spoil_answers(table):
        table[0] = dict.fromkeys(table[0])
        table[5].update(prompt=[None], score=float("nan"))
        table[9].update(prompt=None, source=None, index=None)
        table[12].update(score=float("inf"), unscored="both")
        table[20].update(prompt=[{"role": None, "content": "x"}], response=None)
        table[30].update(table[29])

    rewrite(dataset / ANSWERS, spoil_answers)
    rewrite(dataset / "drops.parquet", lambda table: table.append(dict.fromkeys(table[0])))
    rewrite(dataset / "drops_candidates.parquet", lambda table: table.append(dict.fromkeys(table[0])))
    assert {"answer", "prompt"} <= set(kinds(dataset))
    (dataset / ANSWERS).unlink()
    assert {"field", "pair"} <= set(kinds(dataset))


def test_a_card_may_hold_anything(dataset):
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(12)
    )
    for text in ("", "---\n", "---\n- [\n---\n", "---\n!!python/object/apply:os.getcwd []\n---\n", "---\n3\n---\n",
                 f"---\n{bomb}configs: *m\n---\n"):  # fmt: skip
        (dataset / "README.md").write_text(text, "utf-8")
        assert kinds(dataset)["card"] >= 1
    (dataset / "README.md").write_bytes(b"---\n\xff\xfe\n---\n")
    assert kinds(dataset)["document"] >= 1


def test_a_rule_of_python_code_does_not_run(dataset, prefdata, tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    for folder in (dataset, dataset / "data"):
        (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w')\ndef rule(frame):\n    return frame\n")
    rewrite_json(
        dataset / "recipe.json",
        lambda mismatch_kinds: mismatch_kinds.update(pairs={"kind": "python", "path": "evil:rule"}),
    )
    result = prefdata("verify", dataset)
    assert result.code == 2
    assert "--allow-code" in result.err
    result = prefdata("verify", dataset, "--allow-code")
    assert result.code == 2
    assert not ran.exists()


def test_python_code_that_is_allowed_runs_if_it_is_the_code_that_was_pinned(prefdata, tmp_path, monkeypatch):
    from forgery import write_tables

    write_tables(tmp_path)
    monkeypatch.chdir(tmp_path)
    code = "import polars as pl\n\ndef rule(frame):\n    return -pl.col('score'), pl.col('score')\n"
    (tmp_path / "my_code.py").write_text(code)
    rule = {"kind": "python", "path": "my_code:rule"}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe(pairs=rule).dump()))
    assert prefdata("build", "recipe.json", "--out", "build", "--allow-code", "--json").code == 0
    assert prefdata("verify", "build").code == 2
    result = prefdata("verify", "build", "--allow-code")
    assert (result.code, result.err) == (0, "")
    (tmp_path / "my_code.py").write_text(code + "# changed\n")
    result = prefdata("verify", "build", "--allow-code")
    assert result.code == 1
    assert "rule_pins" in result.out
