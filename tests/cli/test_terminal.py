"""Nothing from elsewhere reaches a terminal raw: one way out for each kind of message, and all of them are safe."""

from __future__ import annotations

import ast
import importlib
import json
import pickle
import pkgutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import prefdata as package
from prefdata.cli.options import display, print_json
from prefdata.errors import UserError, closest, printable
from prefdata.flow.progress import Progress, say

ROOT = Path(package.__file__).parent
ESCAPE = "\x1b]0;pwn\x07\u202e\x9b31m\x1b[2J\u2066"
HOSTILE = st.text(
    st.sampled_from([*ESCAPE, "\n", "\r", "\t", " ", "-", "a", "\u2028", "\ud800", "\u200b"]), max_size=30
)


def safe(text):
    return all(letter.isprintable() or letter == "\n" for letter in text)


def kinds(kind=UserError):
    return [kind, *(below for child in kind.__subclasses__() for below in kinds(child))]


@pytest.fixture(scope="module")
def every_kind():
    for module in pkgutil.walk_packages(package.__path__, "prefdata."):
        if not module.name.endswith("_worker") and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found = list(dict.fromkeys(kinds()))
    assert len(found) >= 12
    return found


def test_only_a_few_places_print():
    """All other code goes through them, so that what they promise holds for every message."""
    allowed = {"cli/options.py", "cli/main.py", "flow/progress.py", "hub/named_files.py", "training/_trainer_worker.py"}
    printing = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in ("print", "click.echo", "click.secho", "tqdm.write", "sys.stderr.write", "sys.stdout.write"):
                printing.add(path.relative_to(ROOT).as_posix())
    assert printing <= allowed


@given(HOSTILE, HOSTILE, HOSTILE)
def test_an_error_of_each_kind_is_safe_and_has_no_line_that_it_did_not_make(every_kind, problem, valid, hint):
    for kind in every_kind:
        error = UserError.__new__(kind)
        UserError.__init__(error, f"bad: {problem}", valid=f"x {valid}", hint=f"y {hint}")
        lines = str(error).split("\n")
        assert safe(str(error))
        assert lines[-1].startswith("  next:  y")
        assert lines[-2].startswith("  valid: x")
        assert all(line.startswith(("    ", "- ")) for line in lines[1:-2])
        assert str(error) == str(
            pickle.loads(pickle.dumps(UserError(error.problem, valid=error.valid, hint=error.hint)))
        )


def test_an_error_fits_on_a_screen():
    error = UserError("many:\n" + "    line\n" * 10_000, valid=closest("x", [f"c{n}" for n in range(10_000)]))
    assert len(str(error).split("\n")) < 70
    assert max(map(len, str(error).split("\n"))) <= 2_000
    assert "and 9,900 more" in str(error)


@given(HOSTILE)
def test_tables_progress_and_json_are_safe(text):
    import contextlib
    import io

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        display(f"a\n{text}")
        say(text)
        print_json({f"k{text}": [text, float("nan")]})
        with Progress.of(f"stage {text}", 1, "rows") as progress:
            progress.advance(1)
    shown = out.getvalue() + err.getvalue().replace("\r", "")
    assert safe(shown)
    start = out.getvalue().index("{\n")
    assert json.loads(out.getvalue()[start:]) == {f"k{text}": [text, "nan"]}


@given(HOSTILE, st.integers(1, 20))
def test_printable_is_one_safe_line_of_its_width(text, width):
    assert len(printable(text, width)) <= width
    assert safe(printable(text, width))
    assert "\n" not in printable(text, width)


class TestCommands:
    @pytest.fixture
    def where(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        return tmp_path

    def refused(self, said):
        assert said.code == 2, said
        assert said.err.startswith("prefdata: ")
        assert safe(said.out + said.err)
        assert "pwn" in said.err

    @pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
    def test_columns_of_a_table(self, prefdata, where, ending):
        import pyarrow as pa
        import pyarrow.parquet as pq

        row = {"prompt_id": "p", f"{ESCAPE}col": 1}
        if ending == "jsonl":
            (where / "t.jsonl").write_text(json.dumps(row) + "\n")
        elif ending == "csv":
            (where / "t.csv").write_text(",".join(row) + "\np,1\n")
        else:
            pq.write_table(pa.table({name: [value] for name, value in row.items()}), where / "t.parquet")
        table = f"t.{ending}"
        self.refused(prefdata("pair", table, "--rule", "best_vs_worst", "--out", "o"))
        self.refused(prefdata("replay", table, "--rule", "best_vs_worst"))
        self.refused(prefdata("what-if", table, "--rules", "best_vs_worst"))

    def test_cells_of_a_table(self, prefdata, where):
        rows = [
            {"prompt": f"{ESCAPE}?", "response": f"{text}{ESCAPE}", "score": score, "source": ESCAPE}
            for score, text in enumerate("abc")
        ]
        (where / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        said = prefdata("pair", "t.jsonl", "--rule", "best_vs_worst", "--out", "o")
        assert said.code == 0, said.err
        for command in (["inspect", "o"], ["verify", "o"], ["what-if", "t.jsonl", "--rules", "best_vs_worst"]):
            said = prefdata(*command)
            assert safe(said.out + said.err)
            assert "pwn" in said.out or command[0] == "verify"

    @pytest.mark.parametrize(
        "recipe",
        [
            {ESCAPE: 1},
            {"name": ESCAPE},
            {"name": "x", "prompts": {"kind": ESCAPE}},
            {"name": "x", "prompts": {"kind": "file", "path": "t.jsonl", ESCAPE: "x"}},
            {"name": "x", "pairs": {"kind": "best_vs_worst", ESCAPE: 3}},
        ],
    )
    def test_keys_and_values_of_a_recipe(self, prefdata, where, recipe):
        (where / "r.json").write_text(json.dumps(recipe))
        for command in ("check", "build"):
            self.refused(prefdata(command, "r.json"))
