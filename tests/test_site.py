"""The site of the documentation is built without a warning, loads nothing from elsewhere, and breaks with a page."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def built(docs: Path, out: Path) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-E", "-b", "html", docs, out]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(program, capture_output=True, text=True, timeout=300, env=environment)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = built(DOCS, out)
    assert (done.returncode, done.stderr) == (0, "")
    return out


def test_the_site_is_built_without_a_warning_and_has_every_page(site):
    for page in (*DOCS.rglob("*.md"), *DOCS.rglob("*.ipynb")):
        assert (site / page.relative_to(DOCS)).with_suffix(".html").is_file()


def test_the_site_loads_nothing_from_elsewhere(site):
    loads = re.compile(
        r"""<(?:script|img|iframe|source|video|audio|embed|object)\b[^>]*?\b(?:src|data)=["']?(?:https?:)?//"""
    )
    links = re.compile(r"""<link\b[^>]*?\bhref=["']?(?:https?:)?//""")
    styles = re.compile(r"""(?:@import|url\()\s*["']?(?:https?:)?//""")
    pages, sheets = sorted(site.rglob("*.html")), sorted(site.rglob("*.css"))
    assert len(pages) > 50
    assert len(sheets) > 2
    for page in pages:
        text = page.read_text("utf-8")
        assert not (loads.search(text) or links.search(text) or styles.search(text)), page
    for sheet in sheets:
        assert not styles.search(sheet.read_text("utf-8")), sheet


def test_every_public_name_is_documented_on_the_site(site):
    import prefdata

    page = (site / "reference" / "api.html").read_text("utf-8")
    fields = "".join(path.read_text("utf-8") for path in (site / "reference").glob("recipe.html"))
    missing = [name for name in prefdata.__all__ if f'id="prefdata.{name}"' not in page and f">{name}<" not in fields]
    assert missing == []


def test_the_tour_shows_its_pictures_and_tables(site):
    page = (site / "pandas-tour.html").read_text("utf-8")
    assert page.count("data:image/png;base64,") == 4
    assert page.count("<table") >= 5


BROKEN = {
    "a link to a page that is not there": "[there](nowhere-page.md)",
    "an anchor that is not there": "[there](other.md#nowhere-part)",
    "an anchor on the same page that is not there": "[there](#nowhere-here)",
    "a picture that is not there": "![words](nowhere.svg)",
    "a name that does not exist": "```{eval-rst}\n.. autofunction:: prefdata.nowhere_name\n```",
    "a docstring that can't be read": "```{eval-rst}\nA :nowhere-role:`text`.\n```",
}


def small(folder: Path, line: str = "") -> Path:
    folder.mkdir()
    shutil.copy(DOCS / "conf.py", folder / "conf.py")
    (folder / "index.md").write_text(f"# Site\n\n```{{toctree}}\nother\n```\n\n[there](other.md#part)\n\n{line}\n")
    (folder / "other.md").write_text("# Other\n\n## Part\n\nWords.\n")
    return folder


def test_a_small_site_is_built(tmp_path):
    done = built(small(tmp_path / "docs"), tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")


def test_whatever_is_broken_is_named_and_stops_the_build(tmp_path):
    docs = small(tmp_path / "docs", "\n\n".join(BROKEN.values()))
    (docs / "lost.md").write_text("# Lost\n")
    done = built(docs, tmp_path / "out")
    assert done.returncode != 0
    warnings = [line for line in done.stderr.splitlines() if "WARNING" in line or "ERROR" in line]
    named = {what: re.search(r"nowhere[\w-]*", line)[0] for what, line in BROKEN.items()}
    assert [what for what, name in named.items() if not any(name in warning for warning in warnings)] == []
    assert any("lost.md" in warning for warning in warnings)


@pytest.mark.parametrize("line", ["[there](nowhere-page.md)", "[there](other.md#nowhere-part)"])
def test_one_broken_link_is_enough(tmp_path, line):
    assert built(small(tmp_path / "docs", line), tmp_path / "out").returncode != 0
