"""What notebooks show: every text escaped, numbers to the right, and no script, of every object with such a page."""

from __future__ import annotations

from html.parser import HTMLParser

import pandas as pd
import pytest

from prefdata import audit, check, diff, inspect, load, load_recipe, pair
from prefdata.spec.pages import page, preformatted

XSS = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</td></table><svg onload=x>", "\x1b[31m\u202e"]


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    assert set(reader.tags) <= {"div", "strong", "table", "tr", "th", "td", "pre"}
    assert set(reader.attributes) <= {"style", "colspan"}
    assert all(letter.isprintable() or letter == "\n" for letter in html)
    return reader


@pytest.mark.parametrize("text", XSS)
def test_every_text_is_escaped(text):
    read(page(text, {text: text}, [(text, text), (text, 1)]))
    read(preformatted(text.replace("\x1b", "").replace("\u202e", "")))


def test_numbers_are_written_for_people():
    html = page("t", {"n": 12345}, [("a", "b"), ("x", 0.123456)], [("empty",)])
    assert ">12,345<" in html
    assert ">0.1235<" in html
    assert "empty" not in html


def test_a_long_table_is_cut():
    html = page("t", {}, [("n",), *((n,) for n in range(1_000))])
    assert html.count("<tr>") == 42
    assert "960 more" in html


def test_every_object_has_a_small_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [
        {
            "prompt": f"{XSS[0]}{n}",
            "response": f"{XSS[1]}{k}" * (k + 1),
            "score": float(n * k),
            "source": XSS[2] + str(k),
        }
        for n in range(5)
        for k in range(3)
    ]
    for name, rule in (("one", "best_vs_worst"), ("two", "wpo_hybrid_v2")):
        pair(pd.DataFrame(rows), rule, tmp_path / name, with_candidates=True)
    frame = pd.DataFrame([{"prompt": XSS[0], "chosen": XSS[1], "rejected": XSS[2]}])
    objects = [
        *(load(tmp_path / "one"), load(frame), inspect(tmp_path / "one"), inspect(frame), audit(frame)),
        *(diff(tmp_path / "one", tmp_path / "two"), check("wpo_hybrid_v2", profile="cpu", limit=4)),
        load_recipe("wpo_hybrid_v2"),
    ]
    for each in objects:
        html = each._repr_html_()
        read(html)
        assert len(html) < 30_000, type(each)
