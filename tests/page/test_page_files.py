"""What is written: the same bytes for the same dataset, whole or not at all, and one message where it can't be."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import subprocess
import sys
import zlib

import pytest
from dataset_folders import written
from page_tables import paired

import prefdata
from prefdata import write_page
from prefdata.errors import UserError
from prefdata.page import writing
from prefdata.page.answers import LIST_COLUMNS, WHY_COLUMNS
from prefdata.page.vendored import FOLDER, libraries, listed


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return paired(tmp_path_factory.mktemp("made"), 300)


def test_the_same_dataset_gives_the_same_bytes(dataset, tmp_path):
    for name in ("one.html", "two.html", "folder", "again"):
        write_page(dataset, tmp_path / name)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    files = [sorted((path.relative_to(folder), path.read_bytes()) for path in folder.rglob("*") if path.is_file())
             for folder in (tmp_path / "folder", tmp_path / "again")]  # fmt: skip
    assert files[0] == files[1]
    assert str(tmp_path).encode() not in (tmp_path / "one.html").read_bytes()


def test_each_script_that_runs_is_in_the_policy_and_no_other(dataset, tmp_path):
    text = write_page(dataset, tmp_path / "page.html").path.read_text("utf-8")
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1])
    assert "unsafe-inline'" not in policy.partition("style-src")[0]
    scripts = re.findall(r'<script(?: type="text/plain" id="library-[^"]+")?>(.*?)</script>', text, re.S)
    hashes = {base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in scripts}
    # The program, and what tells it that the texts behind it are read.
    assert len(scripts) == len(listed()) + 2
    assert set(re.findall(r"'sha256-([^']+)'", policy)) == hashes
    assert not re.search(r"(?:src|href)=[\"']?https?:", text.partition("<script")[0])


def texts_of(page):
    found = b""
    for data in re.findall(r'<script type="text/plain" id="c\d+">([^<]+)</script>', page.read_text("utf-8")):
        found += zlib.decompress(base64.b64decode(data))
    return found.decode()


def test_a_page_holds_every_text_once_and_is_not_much_larger_than_that(dataset, tmp_path):
    page = write_page(dataset, tmp_path / "page.html")
    own = sum(len(library.code) + len(library.notice) for library in libraries())
    assert page.size == (tmp_path / "page.html").stat().st_size
    assert own < 3_000_000
    assert page.size - own < 0.55 * page.text_bytes + 300_000
    answers = prefdata.load(dataset).to("polars").candidates
    texts = texts_of(page.path)
    assert all(texts.count(text) == 1 for text in answers["response"].head(50))
    assert page.rows == 300


def test_a_sample_is_the_same_each_time_and_in_order(dataset, tmp_path):
    pages = [write_page(dataset, tmp_path / f"{n}.html", pairs=20) for n in range(2)]
    assert [page.rows for page in pages] == [20, 20]
    assert pages[0].path.read_bytes() == pages[1].path.read_bytes()
    assert write_page(dataset, tmp_path / "all.html", pairs=5_000).rows == 300


def test_only_a_page_is_replaced(dataset, tmp_path):
    write_page(dataset, tmp_path / "page.html", pairs=2)
    assert write_page(dataset, tmp_path / "page.html").rows == 300
    write_page(dataset, tmp_path / "folder", pairs=2)
    assert write_page(dataset, tmp_path / "folder").rows == 300
    (tmp_path / "mine.html").write_text("<p>mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    for name in ("mine.html", "mine"):
        with pytest.raises(UserError, match="something other than a page of prefdata"):
            write_page(dataset, tmp_path / name)
    assert (tmp_path / "mine.html").read_text() == "<p>mine"
    with pytest.raises(UserError, match="is a folder, not a page"):
        (tmp_path / "x.html").mkdir()
        write_page(dataset, tmp_path / "x.html")
    with pytest.raises(UserError, match="there is no folder"):
        write_page(dataset, tmp_path / "no" / "page.html")


def test_a_page_that_fails_leaves_nothing_and_the_old_one(dataset, tmp_path, monkeypatch):
    for name in ("page.html", "folder"):
        write_page(dataset, tmp_path / name, pairs=3)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "page_start", full)
    for name in ("page.html", "folder"):
        with pytest.raises(UserError, match="the disk is full"):
            write_page(dataset, tmp_path / name)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_what_a_killed_run_left_is_put_right(dataset, tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    write_page(dataset, tmp_path / "folder", pairs=3)
    (tmp_path / "folder").rename(tmp_path / f".folder.{ended.pid}.old")
    (tmp_path / f".folder.{ended.pid}.part").mkdir()
    (tmp_path / f".page.html.{ended.pid}.part").write_text("half")
    assert write_page(dataset, tmp_path / "folder").rows == 300
    assert write_page(dataset, tmp_path / "page.html").rows == 300
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "page.html"]


def test_too_much_for_one_file_names_the_other_ways(dataset, tmp_path, monkeypatch, prefdata):
    monkeypatch.setattr(writing, "_MOST_BYTES", 1_000_000)
    said = prefdata("inspect", dataset, "--html", tmp_path / "page.html")
    assert said.code == 2
    assert "--html DIR" in said.err
    assert "--html-pairs" in said.err
    assert prefdata("inspect", dataset, "--html", tmp_path / "folder").code == 0


def test_the_command_says_the_size_first_and_the_page_last(dataset, tmp_path, prefdata):
    said = prefdata("inspect", dataset, "--html", tmp_path / "page.html")
    assert said.code == 0
    assert "the page will have about" in said.err
    assert said.out.startswith(f"{tmp_path / 'page.html'}: 300 rows, ")
    assert prefdata("inspect", dataset, "--compare", dataset).code == 2


def test_what_can_not_be_shown_is_one_message(tmp_path, prefdata):
    empty = written(tmp_path / "empty", ids=[], drops=_no_drops(), candidate_drops=_no_candidate_drops())
    (tmp_path / "other_tool").mkdir()
    (tmp_path / "other_tool" / "config.toml").write_text("x = 1")
    old = tmp_path / "old"
    (old / "stages").mkdir(parents=True)
    (old / "prefdata.lock.json").write_text(json.dumps({"format": 1}))
    (tmp_path / "answers.jsonl").write_text('{"prompt": "a", "response": "b"}\n')
    for where in (empty, tmp_path / "other_tool", old, tmp_path / "answers.jsonl", tmp_path / "nothing"):
        said = prefdata("inspect", where, "--html", tmp_path / "page.html")
        assert said.code == 2, said
        assert said.err.count("prefdata: ") == 1, said.err
        assert "Traceback" not in said.err
        assert not (tmp_path / "page.html").exists()


def _no_drops():
    from prefdata.tables.schemas import DROPS

    return DROPS.empty_table()


def _no_candidate_drops():
    from prefdata.tables.schemas import CANDIDATE_DROPS

    return CANDIDATE_DROPS.empty_table()


@pytest.mark.parametrize("name", dict.fromkeys((*LIST_COLUMNS, *WHY_COLUMNS)))
@pytest.mark.parametrize("cell", ["long", True, [1], {"a": 1}, float("inf"), float("nan"), 10**400, None])
def test_a_column_of_any_type_under_a_name_of_the_trace_is_no_mistake(tmp_path, name, cell):
    row = {"prompt": "a", "chosen": "x y", "rejected": "w", name: cell}
    (tmp_path / "theirs.jsonl").write_text(json.dumps(row) + "\n")
    assert write_page(tmp_path / "theirs.jsonl", tmp_path / "page.html").rows == 1


def test_a_dataset_without_its_answers_has_its_trace_and_its_drops(tmp_path):
    page = write_page(written(tmp_path / "bare", ids=[f"p{n}" for n in range(40)]), tmp_path / "page.html")
    assert page.rows == 41


def test_each_vendored_file_is_the_pinned_one():
    files = {path.name for path in FOLDER.iterdir()} - {"libraries.json"}
    assert files == {row[f"{what}_file"] for row in listed() for what in ("code", "notice")}
    for row in listed():
        for what in ("code", "notice"):
            content = (FOLDER / row[f"{what}_file"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == row[f"{what}_sha256"]
    assert all(len(library.notice) > 300 for library in libraries())
