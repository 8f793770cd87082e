"""How lines look on a terminal of any width: no word is broken, nothing is lost, colour only where it is wanted."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.cli.terminal import coloured, fitted

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
        ("one sentence " * 20, 2),
    ],
)
def test_what_follows_begins_below_what_the_label_introduces(line, second):
    pieces = list(fitted(line.rstrip(), 80))
    assert len(pieces) > 1
    indents = {len(piece) - len(piece.lstrip()) for piece in pieces[1:]}
    assert indents == {second} or (second == 40 and indents == {31})


def test_letters_of_two_columns_are_counted_as_two_and_need_no_spaces():
    pieces = list(fitted("prompt   " + "你好吗" * 40, 80))
    assert "".join(piece.strip() for piece in pieces).replace("prompt   ", "") == "你好吗" * 40
    assert all(sum(2 if ord(letter) > 255 else 1 for letter in piece) <= 80 for piece in pieces)


def test_a_mark_is_there_without_colour():
    assert re.sub(r"\x1b\[\d+m", "", coloured("! worrying  x")) == "! worrying  x"
    assert coloured("plain") == "plain"


def on_a_terminal(arguments: list[str], cwd: object, columns: int, **environment: str) -> str:
    """Runs the command line with a terminal as its stdout, and returns what it wrote there."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "COLUMNS": str(columns), "LINES": "50", "TERM": "xterm", **environment}
    process = subprocess.Popen(
        [sys.executable, "-m", "prefdata", *arguments], stdout=theirs, stderr=subprocess.PIPE, cwd=str(cwd), env=env
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
    _, problems = process.communicate(timeout=300)
    assert process.returncode in (0, 1), problems
    return text.decode().replace("\r\n", "\n")


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
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_fits_the_terminal_and_says_the_same_in_a_pipe(made, fresh, name):
    piped = fresh(*COMMANDS[name], cwd=made)
    assert piped.code in (0, 1), piped.err
    assert "\x1b" not in piped.out
    narrow = on_a_terminal(COMMANDS[name], made, 80, NO_COLOR="1")
    assert "\x1b" not in narrow
    assert narrow.split() == piped.out.split()
    long = [line for line in narrow.splitlines() if len(line) > 80]
    assert [line for line in long if " " in line.strip()] == []
    wide = on_a_terminal(COMMANDS[name], made, 200)
    assert re.sub(r"\x1b\[[\d;]*m", "", wide).split() == piped.out.split()
    assert not re.search(r"\b0\.\d{4,}\b", piped.out.partition("pair 1")[0].partition("--- before/README.md")[0])
    if name != "audit":  # others' datasets have no next command of their own
        last = piped.out.rstrip().splitlines()[-1]
        assert last.startswith("Next:    prefdata ")
