"""SECURITY.md: every threat in its tables names a test that exists, and its list of grants is the whole one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from prefdata.spec.trust import GRANTS

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def rows_of(heading: str) -> list[str]:
    """The rows of all tables below a heading, without their headers."""
    section = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    tables = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    return [row for table in tables for row in table.splitlines()[2:]]


def functions_of(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text("utf-8"))) if path.is_file() else ()
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


def test_every_threat_names_a_test_that_exists():
    rows = rows_of("Threats")
    assert len(rows) >= 14
    named = {row: _TEST.findall(row) for row in rows}
    assert [row for row, tests in named.items() if not tests] == []
    missing = [
        f"{file}::{test}" for tests in named.values() for file, test in tests if test not in functions_of(ROOT / file)
    ]
    assert missing == []


def test_every_grant_is_explained():
    explained = re.findall(r"^\| `([a-z][^`]+)` \|", TEXT.split("## Threats")[0], re.MULTILINE)
    assert sorted(entry.partition("=")[0] for entry in explained) == sorted(entry.partition("=")[0] for entry in GRANTS)
