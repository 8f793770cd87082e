"""Every Python block of the documentation runs, links lead somewhere, and generated pages are up to date."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import click
import pytest

from prefdata.cli.main import _group
from prefdata.recipe import shipped_recipes

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = {page: re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S) for page in PAGES}
FOLDERS = [ROOT / "docs" / "start.md", *(ROOT / "docs" / "own").glob("*.md")]
"""Pages that make files in a folder, and run commands on them: `tests/test_own_docs.py` runs these."""
LINES_OF_A_PAGE = 200


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize(
    "page", [page for page, blocks in BLOCKS.items() if blocks and page not in FOLDERS], ids=name_of
)
def test_the_examples_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "example"}
    for block in BLOCKS[page]:
        # No file has this name: whoever looks for the source of a class would find the whole page.
        exec(compile(block, f"<{page}>", "exec"), names)


def test_there_are_examples():
    assert sum(map(len, BLOCKS.values())) >= 4


def command_lines(page: Path) -> list[str]:
    """Lines of `prefdata` in the shell blocks of a page, each whole."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.startswith("prefdata ")]


@pytest.mark.parametrize("page", [page for page in PAGES if command_lines(page)], ids=name_of)
def test_every_command_of_a_page_has_its_arguments_options_and_recipes(page, tmp_path, monkeypatch):
    # Where there is nothing: what a page names need not be here.
    monkeypatch.chdir(tmp_path)
    for line in command_lines(page):
        _, verb, *arguments = shlex.split(line, comments=True)
        group = click.Context(_group, **_group.context_settings)
        with _group.get_command(group, verb).make_context(verb, arguments, parent=group) as context:
            recipe = context.params.get("recipe")
        assert recipe is None or recipe in (*shipped_recipes(), "RECIPE") or Path(recipe).suffix == ".py", line


def headings(page: Path) -> set[str]:
    lines = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", line.lower()).strip().replace(" ", "-") for line in lines}


def test_every_link_between_pages_leads_to_a_page_and_a_heading():
    broken = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
            path, _, anchor = target.partition("#")
            if "://" in path or not (path or anchor):
                continue
            there = (page.parent / path).resolve() if path else page
            if not there.exists() or (anchor and anchor not in headings(there)):
                broken.append(f"{name_of(page)}: {target}")
    assert broken == []


def test_no_page_is_longer_than_its_budget():
    lengths = {
        name_of(page): len(page.read_text("utf-8").splitlines())
        for page in PAGES
        if page.parent not in (REFERENCE, ROOT / "docs" / "development")
    }
    assert {name: lines for name, lines in lengths.items() if lines > LINES_OF_A_PAGE} == {}


def test_the_reference_is_what_its_generator_writes():
    """`python docs/reference/generate.py` writes it again."""
    pages = runpy.run_path(str(REFERENCE / "generate.py"))["pages"]()
    assert {path.name for path in REFERENCE.glob("*.md")} == set(pages)
    outdated = [name for name, text in pages.items() if (REFERENCE / name).read_text("utf-8") != text]
    assert outdated == [], "run python docs/reference/generate.py"
