"""The pictures of the rules are what the rules do, and each rule has one beside its source."""

from __future__ import annotations

import runpy
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import get_args

import pytest

from prefdata.pairing import AnyRule

DOCS = Path(__file__).parents[1] / "docs"
PICTURES = DOCS / "pictures"
KINDS = sorted(rule.model_fields["kind"].default for rule in get_args(get_args(AnyRule)[0]))
PAGES = "\n".join((DOCS / name).read_text("utf-8") for name in ("published-rules.md", "general-rules.md"))


def test_the_pictures_are_what_their_generator_draws(monkeypatch):
    """`python docs/pictures.py` draws them again."""
    monkeypatch.syspath_prepend(DOCS)
    drawn = runpy.run_path(str(DOCS / "pictures.py"))["pictures"]()
    assert {path.name for path in PICTURES.iterdir()} == set(drawn)
    outdated = [name for name, text in drawn.items() if (PICTURES / name).read_text("utf-8") != text]
    assert outdated == [], "run python docs/pictures.py"


@pytest.mark.parametrize("kind", KINDS)
def test_every_rule_has_a_section_with_its_picture_and_source(kind):
    [section] = [part for part in PAGES.split("\n## ") if part.splitlines()[0] == kind]
    assert f"(pictures/{kind}.svg)" in section
    assert "**Source.**" in section or kind in ("custom", "python")


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_shows_a_chosen_and_a_rejected_answer_and_says_so_in_words(kind):
    root = ET.fromstring((PICTURES / f"{kind}.svg").read_text("utf-8"))
    texts = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert any("chosen" in text for text in texts)
    assert any("rejected" in text for text in texts)
    words = root.findtext("{http://www.w3.org/2000/svg}desc") or ""
    assert words.startswith(f"{kind}: ")
