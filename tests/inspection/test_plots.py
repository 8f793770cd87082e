"""Plots: the numbers that they draw, what they refuse, and that nothing loads Matplotlib before the first one."""

from __future__ import annotations

import importlib.util
import json

import pandas as pd
import polars as pl
import pytest

from prefdata import load, pair
from prefdata.errors import InputError, MissingExtraError

HOSTILE = ["$a$ formula", "_hidden", "\x1b[31m\u202e", "<b>", "名前", "x" * 500]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    rows = [
        {"prompt": f"q{n}", "response": f"a{k}" * (k + 1), "score": n * k, "source": HOSTILE[k]}
        for n in range(6)
        for k in range(4)
    ]
    folder = tmp_path_factory.mktemp("made") / "out"
    pair(pd.DataFrame(rows), "best_vs_worst", folder, with_candidates=True)
    return load(folder)


def test_margins_and_lengths_are_those_of_the_pairs(made):
    axes = made.plot.margins().axes[0]
    assert axes.get_xlabel() == "score margin: chosen minus rejected"
    [outline] = axes.patches
    assert max(outline.get_xy()[:, 0]) == 15
    assert min(outline.get_xy()[:, 0]) == 3
    labels = [text.get_text() for text in made.plot.lengths().axes[0].get_legend().get_texts()]
    assert labels == ["chosen", "rejected"]


def test_the_axis_of_lengths_names_the_unit_that_is_known(made, tmp_path):
    def label(data):
        return data.plot.lengths().axes[0].get_xlabel()

    assert label(made) == "length of the answer, in characters"
    rows = [{"prompt": "q", "response": text, "score": len(text)} for text in ("a b", "c")]
    pair(pd.DataFrame(rows), "best_vs_worst", tmp_path / "words", length="words")
    assert label(load(tmp_path / "words")) == "length of the answer, in words"
    theirs = {"prompt": "p", "chosen": "a b", "rejected": "b"}
    assert label(load(pd.DataFrame([theirs]))) == "length of the answer, in characters"
    measured = {**theirs, "length_chosen": 9, "length_rejected": 7}
    assert label(load(pd.DataFrame([measured]))) == "length of the answer"


def test_the_flow_has_every_row(made):
    axes = made.plot.flow().axes[0]
    ledger = json.loads((made.path / "ledger.json").read_text())
    drawn = sum(bar.get_width() for bar in axes.patches)
    assert drawn == sum(stage["in"] for stage in ledger["stages"])


def test_sources_are_counted_and_their_names_are_plain(made):
    axes = made.plot.sources().axes[0]
    assert sum(bar.get_width() for bar in axes.patches) == 10
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert len(names) == 2
    assert r"\$a\$ formula" in names


def test_every_plot_is_a_picture_of_the_same_bytes(made):
    for name in ("margins", "lengths", "sources", "flow"):
        pictures = [getattr(made.plot, name)()._repr_png_() for _ in range(2)]
        assert pictures[0] == pictures[1]
        assert pictures[0].startswith(b"\x89PNG")


def test_what_can_not_be_drawn_is_one_message(monkeypatch, made):
    frame = load(pd.DataFrame([{"prompt": "p", "chosen": "a", "rejected": "b"}]))
    assert frame.plot.lengths().axes
    with pytest.raises(InputError, match="have no scores"):
        frame.plot.margins()
    with pytest.raises(InputError, match="no column 'source_chosen'"):
        frame.plot.sources()
    with pytest.raises(InputError, match="has no stages"):
        frame.plot.flow()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
    with pytest.raises(MissingExtraError, match="matplotlib") as caught:
        made.plot.margins()
    assert caught.value.hint == 'pip install "prefdata[plot]"'


def test_a_score_that_is_no_finite_number_is_left_out():
    pairs = [{"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": score, "score_rejected": 0.0}
             for score in (1.0, 5.0, float("nan"), float("inf"), -float("inf"), None)]  # fmt: skip
    [outline] = load(pl.DataFrame(pairs)).plot.margins().axes[0].patches
    assert (min(outline.get_xy()[:, 0]), max(outline.get_xy()[:, 0])) == (1.0, 5.0)
    with pytest.raises(InputError, match="have no scores"):
        load(pl.DataFrame(pairs[2:])).plot.margins()


def test_only_a_plot_loads_matplotlib(made, fresh, tmp_path):
    program = (
        f"import prefdata, sys; data = prefdata.load({str(made.path)!r}); data.hardest(); "
        "before = 'matplotlib' in sys.modules; data.plot.margins(); "
        "sys.exit(before or 'matplotlib.pyplot' in sys.modules)"
    )
    assert fresh(code=program, cwd=tmp_path).code == 0
