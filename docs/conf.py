"""Settings of the documentation's site: `make docs` builds it with Sphinx in build/site, and any warning stops it."""

from __future__ import annotations

import html
import json
from typing import Any

from sphinx.application import Sphinx

project = "prefdata"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown", ".ipynb": "markdown"}
# `name` in a docstring is code.
default_role = "literal"
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
html_theme = "furo"
html_title = "prefdata"
html_copy_source = False
# Excerpts of what is found are fetched, which a page that was opened from its file may not do.
html_show_search_summary = False
html_show_sphinx = False
html_show_copyright = False


def notebook_page(text: str) -> str:
    """Writes a notebook with its outputs as a page of Markdown."""
    blocks = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        blocks.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        blocks += [output_block(output) for output in cell.get("outputs", ())]
    return "\n\n".join(blocks) + "\n"


def output_block(output: dict[str, Any]) -> str:
    """Writes one output of a cell: its picture or table where it has one, else its text."""
    data = output.get("data", {"text/plain": output.get("text", "")})
    if "image/png" in data:
        words = html.escape("".join(data.get("text/plain", "")), quote=True)
        picture = "".join(data["image/png"]).replace("\n", "")
        return f'<img alt="{words}" src="data:image/png;base64,{picture}">'
    if "text/html" in data:
        # A blank line would end the block.
        table = "".join(data["text/html"]).replace("\n\n", "\n")
        return f"<div>{table}</div>".replace('border="1" class="dataframe"', 'class="docutils"')
    return f"```text\n{''.join(data['text/plain'])}\n```"


def _read(app: Sphinx, docname: str, source: list[str]) -> None:
    if app.env.doc2path(docname).suffix == ".ipynb":
        source[0] = notebook_page(source[0])


def _describe(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    if what in ("attribute", "data", "property"):
        # Of a first line, the words before a colon would be read as a type: an empty comment takes its place.
        lines[:0] = ["..", ""]


def setup(app: Sphinx) -> dict[str, bool]:
    """Connects what reads notebooks and docstrings."""
    app.connect("source-read", _read)
    app.connect("autodoc-process-docstring", _describe, priority=400)
    return {"parallel_read_safe": True}
