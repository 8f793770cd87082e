"""Every message that the troubleshooting quotes is one of the code, and there is a list of all."""

from __future__ import annotations

import ast
import re
import runpy
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted((DOCS / "troubleshooting").glob("*.md"))
ROW = re.compile(r"^\| `([^`]+)` \|", re.M)
FIRST = "| message | why | what to do |"


@cache
def templates() -> str:
    """All string literals of the package, but docstrings, one after the other."""
    words, found = runpy.run_path(str(DOCS / "reference" / "messages.py"))["words"], []
    for path in sorted((ROOT / "prefdata").rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in docstrings:
                found += words(node)
            if isinstance(node, ast.Call) and not isinstance(node.func, ast.Attribute):
                parts = [*node.args, *(each.value for each in node.keywords)]
                found.append("\1".join(text for part in parts for text in words(part)))
    return "\n\n".join(" ".join(text.split(" ")) for text in found)


def quoted(page: Path) -> list[str]:
    return ROW.findall(page.read_text("utf-8"))


def is_there(message: str) -> bool:
    gap = r"[^\n]*?"
    return re.search(gap.join(re.escape(part.strip()) for part in message.split("…")), templates()) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_message_of_a_page_is_one_of_the_code(page):
    assert [message for message in quoted(page) if not is_there(message)] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem != "index"], ids=lambda page: page.stem)
def test_every_message_of_a_page_has_a_cause_and_a_way_out(page):
    text = page.read_text("utf-8")
    rows = [line for part in text.split(FIRST)[1:] for line in part.split("\n\n")[0].splitlines()[2:]]
    assert len(rows) == len(quoted(page)) >= 20
    assert len(set(quoted(page))) == len(rows)
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert len(cells) == 3, row
        assert cells[2], row


def test_a_message_that_is_not_in_the_code_is_found():
    assert is_there("is not a known column role")
    assert not is_there("is not a known column rule")


def test_the_list_of_all_messages_has_them_all():
    """`test_docs.py` checks that it is what its generator writes."""
    listed = (DOCS / "reference" / "messages.md").read_text("utf-8")
    assert listed.count("\n| `") > 400
    assert "`… is not a known column role`" in listed
