"""How lines look on a terminal of any width: no word is broken, nothing is lost, colour only where it is wanted."""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import prefdata.cli
from prefdata.cli.terminal import coloured, next_command
from prefdata.flow.fitting import fitted

WORDS = st.lists(st.text(st.sampled_from("abcé,.:-"), min_size=1, max_size=30), min_size=1, max_size=40)


@given(WORDS, st.integers(0, 4), st.integers(60, 200))
def test_lines_are_broken_between_words_only(words, indent, width):
    line = " " * indent + " ".join(words)
    pieces = list(fitted(line, width))
    assert " ".join(pieces).split() == line.split()
    assert max(map(len, pieces)) <= width
    assert all(piece == piece.rstrip() for piece in pieces)


@pytest.mark.parametrize(
    ("line", "second"),
    [
        ("dropped        " + "no_contrast 1, " * 20, 15),
        ("candidates-policy              1,000     1,000  " + "cut_off 1, " * 20, 48 - 8),
        ("  chosen   [5, a] a text  with  gaps " + "word " * 30, 11),
        ("  rejected [5, a] a text  with  gaps " + "word " * 30, 11),
        ("one sentence " * 20, 2),
    ],
)
def test_what_follows_begins_below_what_the_label_introduces(line, second):
    pieces = list(fitted(line.rstrip(), 80))
    assert len(pieces) > 1
    indents = {len(piece) - len(piece.lstrip()) for piece in pieces[1:]}
    assert indents == {second} or (second == 40 and indents == {31})


def test_a_command_that_is_broken_can_be_copied():
    where = 'margin < 1 and prompt contains "it\'s   so"'
    arguments = ["inspect", "builds/a folder", "--where", where, "--sort", "margin", "--config", "default", "--json"]
    pieces = list(fitted(f"Next:    prefdata {shlex.join(arguments)}", 70))
    assert len(pieces) > 2
    assert max(map(len, pieces)) <= 70
    copied = "\n".join(pieces).removeprefix("Next:").replace("prefdata", "printf '%s\\n'")
    ran = subprocess.run(["sh", "-c", copied], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == arguments


def test_letters_of_two_columns_are_counted_as_two_and_need_no_spaces():
    pieces = list(fitted("prompt   " + "你好吗" * 40, 80))
    assert "".join(piece.strip() for piece in pieces).replace("prompt   ", "") == "你好吗" * 40
    assert all(sum(2 if ord(letter) > 255 else 1 for letter in piece) <= 80 for piece in pieces)


def test_a_mark_is_there_without_colour():
    assert re.sub(r"\x1b\[\d+m", "", coloured("! worrying  x")) == "! worrying  x"
    assert coloured("plain") == "plain"


def on_a_terminal(
    arguments: list[str], cwd: object, columns: int, *, codes: tuple[int, ...] = (0, 1), **environment: str
) -> str:
    """Runs the command line with a terminal as its stdout and stderr, and returns what it wrote there."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "COLUMNS": str(columns), "LINES": "50", "TERM": "xterm", **environment}
    process = subprocess.Popen(
        [sys.executable, "-m", "prefdata", *arguments], stdout=theirs, stderr=theirs, cwd=str(cwd), env=env
    )
    os.close(theirs)
    text = b""
    while True:
        try:
            piece = os.read(ours, 65_536)
        except OSError:
            break
        if not piece:
            break
        text += piece
    os.close(ours)
    shown = text.decode().replace("\r\n", "\n")
    assert process.wait(timeout=300) in codes, shown
    return shown


def words(text: str) -> list[str]:
    """Returns the words of a text, whole commands too."""
    return text.replace(" \\\n", "\n").split()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    import pandas as pd

    from prefdata import pair

    folder = tmp_path_factory.mktemp("made")
    rows = [
        {
            "prompt": f"question {n} " * 20,
            "response": f"answer {k} " * (k + 1) * 30,
            "score": n * k,
            "source": f"source-{k}",
        }
        for n in range(9)
        for k in range(3)
    ]
    pd.DataFrame(rows).to_parquet(folder / "t.parquet")
    for rule in ("best_vs_worst", "wpo_hybrid_v1"):
        pair(folder / "t.parquet", rule, folder / rule, with_candidates=True)
    return folder


COMMANDS = {
    "inspect": ["inspect", "best_vs_worst"],
    "list": ["inspect", "best_vs_worst", "--where", "margin > 1", "--sort", "margin"],
    "audit": ["audit", "best_vs_worst"],
    "diff": ["diff", "best_vs_worst", "wpo_hybrid_v1"],
    "what-if": ["what-if", "t.parquet", "--rules", "best_vs_worst,wpo_hybrid_v2,snorkel_pairrm"],
    "check": ["check", "wpo_hybrid_v2", "--profile", "cpu", "--limit", "4"],
    "pair": ["pair", "t.parquet", "--rule", "best_vs_worst", "--out", "again", "--replace"],
    "dry run": ["pair", "t.parquet", "--dry-run"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_fits_the_terminal_and_says_the_same_in_a_pipe(made, fresh, name):
    piped = fresh(*COMMANDS[name], cwd=made)
    assert piped.code in (0, 1), piped.err
    assert "\x1b" not in piped.out
    narrow = on_a_terminal(COMMANDS[name], made, 80, NO_COLOR="1")
    assert "\x1b" not in narrow
    assert sorted(words(narrow)) == sorted([*piped.out.split(), *piped.err.split()])
    long = [line for line in narrow.splitlines() if len(line) > 80]
    assert [line for line in long if " " in line.strip()] == []
    wide = on_a_terminal(COMMANDS[name], made, 200)
    assert sorted(words(re.sub(r"\x1b\[[\d;]*m", "", wide))) == sorted([*piped.out.split(), *piped.err.split()])
    assert not re.search(r"\b0\.\d{4,}\b", piped.out.partition("pair 1")[0].partition("--- before/README.md")[0])
    if name != "audit":  # others' datasets have no next command of their own
        last = piped.out.rstrip().splitlines()[-1]
        assert last.startswith("Next:    prefdata ")


MISTAKES = {
    "a long list": ["pair", "t.parquet", "--rule", "best", "--out", "x"],
    "a wrong column": ["pair", "t.parquet", "--rule", "best_vs_worst", "--out", "x", "--columns", "scores=score"],
    "a folder of another kind": ["replay", "best_vs_worst", "--rule", "best_vs_worst"],
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_message_is_broken_between_words_too(made, fresh, name):
    piped = fresh(*MISTAKES[name], cwd=made)
    narrow = on_a_terminal(MISTAKES[name], made, 80, codes=(2,))
    assert narrow.split() == piped.err.split()
    assert max(map(len, piped.err.splitlines())) > 80
    assert [line for line in narrow.splitlines() if len(line) > 80 and " " in line.strip()] == []


def screen(text: str) -> list[str]:
    """Returns the lines that a terminal shows: `\\r` goes to the first column, `ESC[A` a line up."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[A|\x1b\[[\d;]*m|\r|\n|[^\x1b\r\n]+", text):
        if part == "\x1b[A":
            row -= 1
        elif part == "\r":
            column = 0
        elif part == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif not part.startswith("\x1b"):
            lines[row] = lines[row].ljust(column)[:column] + part + lines[row][column + len(part) :]
            column += len(part)
    return [line.rstrip() for line in lines]


def test_a_bar_and_the_line_below_it_leave_the_screen_as_they_found_it(tmp_path):
    lines = screen(on_a_terminal(["build", "ultrafeedback_binarized", "--profile", "cpu"], tmp_path, 80, NO_COLOR="1"))
    after = [line for line in lines if re.match(r"\s*(prompts|candidates-\S+|scores|pairs|dataset): \d", line)]
    assert len(after) >= 4
    assert [line for line in after if line.startswith(" ")] == []
    assert not any(re.fullmatch(r"\s+missing 1", line) for line in lines)
    assert lines[-2].startswith("Next:    prefdata inspect ")


def test_every_next_command_is_quoted_for_a_shell_in_one_place():
    assert shlex.split(next_command("inspect", "a folder", where="it's", config=None, prompt_id="0")) == [
        *("Next:", "prefdata", "inspect", "a folder", "--where", "it's", "--prompt-id", "0")
    ]
    files = Path(prefdata.cli.__file__).parent.glob("*.py")
    assert [path.name for path in files if "Next:" in path.read_text("utf-8")] == ["terminal.py"]
