"""Cards of small datasets, hostile texts for them, and their headers."""

from __future__ import annotations

import re

import yaml

from prefdata.publish import Publish
from prefdata.publish.card.text import CardFacts, card_text

LEDGER = {
    "prompts": 14,
    "pairs": 11,
    "drops": {"blank": 3},
    "ineligible": {},
    "stages": [
        {"stage": "prompts", "in": 1234, "out": 1231, "drops": {"blank": 2, "duplicate": 1}},
        {"stage": "pairs", "in": 1231, "out": 1231, "drops": {}},
    ],
}


ROWS = {"train": 9, "test": 2}


HOSTILE = [
    "---\nconfigs: []\n---",
    "a\n---\nlicense: mit\n---\n# b",
    "x: {y: [z",
    "&anchor *alias !!python/object/apply:os.system ['true']",
    "<script>alert(1)</script><!--",
    "\x1b[31mred\x1b[0m \x07\x08",
    "'quoted\" \\ # comment",
    "\u2028line\u2029paragraph\x85next\ufeff",
    "- item\n? key\n| pipe\n> fold\n% percent\n@ at\n` tick",
    "yes",
    "null",
    "1e3",
    "  \t",
    "\r\n---\r\n",
    "\U0001f600 日本語 " * 200,
]


def card(rows=None, **facts: object) -> str:
    values = {"name": "a-name", "description": "About it.", "publish": Publish(), "steps": {}, **facts}
    return card_text(CardFacts(**values), LEDGER, rows or ROWS)


def header(text: str) -> dict[str, object]:
    """As the Hub's client finds it: from the first line of three dashes to the next."""
    match = re.match(r"\A---\n([\s\S]*?\n)---\n", text)
    assert match is not None
    return yaml.safe_load(match[1])
