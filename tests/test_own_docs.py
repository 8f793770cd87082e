"""Pages that begin in an empty folder run there: files, commands and snippets, in the order of the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from prefdata.cli.main import _group

ROOT = Path(__file__).parents[1]
OWN = sorted((ROOT / "docs" / "own").glob("*.md"))
PAGES = [ROOT / "docs" / "start.md", *OWN]
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.M | re.S)


def carry_out(lines: str) -> None:
    for line in lines.splitlines():
        program, *arguments = line.split()
        if program == "pip":
            # What the page installs is what runs here.
            continue
        assert program == "prefdata", line
        said = CliRunner().invoke(_group, arguments, catch_exceptions=False)
        assert said.exit_code == 0, f"{line}: {said.output}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs_from_an_empty_folder(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for kind, text in BLOCK.findall(page.read_text("utf-8")):
        first, _, rest = text.partition("\n")
        if kind == "sh":
            carry_out(text)
        elif named := re.fullmatch(r"# (\w+\.py)", first):
            Path(named[1]).write_text(rest)
        else:
            exec(compile(text, page.name, "exec"), {"__name__": "example"})


def test_there_is_one_page_for_each_part():
    assert [page.stem for page in OWN] == ["filter", "layout", "objective", "prompts", "sampler", "scorer"]
    assert all(len(page.read_text("utf-8").splitlines()) <= 130 for page in OWN)
