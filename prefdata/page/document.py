"""The HTML around the data: markup, style, libraries and program, and the policy that forbids everything else."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

from prefdata.page.columns import ColumnBytes
from prefdata.page.sources import Overview, Source
from prefdata.page.vendored import libraries
from prefdata.spec import JSON

__all__ = ["MARK", "PageParts", "page_end", "page_start"]

MARK = "<!-- a page of prefdata -->"
"""Stands near the beginning of every page, which is replaced by another page only where it has it."""
_ASSETS = Path(__file__).parent / "assets"
_PROGRAM = (
    *("dom.js", "data.js", "state.js", "worker.js", "search.js", "diff.js", "table.js", "plots.js", "sankey.js"),
    *("overview.js", "columnfilters.js", "list.js", "markdown.js", "detail.js", "keys.js", "main.js"),
)
"""Files of the program, in this order in one function."""
_TEXTS_READ = 'dispatchEvent(new Event("texts"));'
"""Tells the program, which has shown the list by then, that the texts of all rows of the list are there."""


class PageParts(NamedTuple):
    """What is known of a page once its texts are written."""

    source: Source
    overview: Overview
    columns: list[ColumnBytes]
    rows: int
    starts: list[int]
    """The first row of each part of the texts."""
    text_bytes: int


def page_start(parts: PageParts, *, beside: bool) -> str:
    """Writes all of the page up to the texts, so that it can be used while they are still read.

    Args:
        parts: what it shows.
        beside: whether the texts are scripts in a folder next to it.
    """
    of_libraries = {library.name: _script(library.code) for library in libraries()}
    (program, of_program), (ending, of_ending) = _script(_program()), _script(_TEXTS_READ)
    digests = [*(digest for _, digest in of_libraries.values()), of_program, of_ending]
    columns = "".join(_text(f"column-{column.described['name']}", column.data) for column in parts.columns)
    rest = "".join(_text(f"rest-{column.described['name']}", column.rest) for column in parts.columns if column.rest)
    policy = "; ".join(
        [
            "default-src 'none'",
            "script-src " + " ".join(f"'sha256-{digest}'" for digest in digests) + (" 'self' file:" if beside else ""),
            *("worker-src blob:", "style-src 'unsafe-inline'", "img-src data:", "font-src data:"),
            *("base-uri 'none'", "form-action 'none'"),
        ]
    )
    markup = (_ASSETS / "page.html").read_text("utf-8")
    for name, value in {
        "mark": MARK,
        "policy": policy,
        "title": html.escape(f"{parts.source.title} · prefdata"),
        "style": (_ASSETS / "page.css").read_text("utf-8"),
    }.items():
        markup = markup.replace(f"<!--{name}-->", value, 1)
    data = f'<script type="application/json" id="meta">{_inert(_meta(parts, beside=beside))}</script>\n'
    # The program runs a library when a view needs it.
    texts = (_text(f"library-{name}", code) for name, (code, _) in of_libraries.items())
    return f"{markup}{data}{columns}{''.join(texts)}<script>{program}</script>\n{rest}<script>{ending}</script>\n"


def page_end() -> str:
    """Writes what follows the texts."""
    return "</body>\n</html>\n"


def _meta(parts: PageParts, *, beside: bool) -> dict[str, JSON]:
    overview = parts.overview
    return {
        "kind": parts.source.kind,
        "title": parts.source.title,
        "sides": list(parts.source.sides),
        "facts": [list(fact) for fact in overview.facts],
        "rule": overview.rule,
        "verdict": None if overview.verdict is None else list(overview.verdict),
        "flows": overview.flows,
        "measures": overview.measures,
        "tables": overview.tables,
        "models": overview.models,
        "columns": [column.described for column in parts.columns],
        "rows": parts.rows,
        "chunks": parts.starts,
        "textBytes": parts.text_bytes,
        "beside": beside,
        "notices": [
            {"name": library.name, "version": library.version, "licence": library.licence, "text": library.notice}
            for library in libraries()
        ],
    }


def _inert(value: JSON) -> str:
    """Writes JSON that can't end the element it is in."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False, separators=(",", ":"))
    text = text.encode("utf-8", "replace").decode()
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _text(name: str, content: str) -> str:
    """Writes what the program reads, and the browser does not."""
    return f'<script type="text/plain" id="{name}">{content}</script>\n'


def _script(code: str) -> tuple[str, str]:
    """Gives a script as it stands in the page, and its hash for the policy."""
    # In a text of a program `<\/` is `</`, and nothing else of a program holds one.
    safe = code.replace("\r\n", "\n").replace("\r", "\n").replace("</script", "<\\/script").replace("<!--", "<\\!--")
    return safe, base64.b64encode(hashlib.sha256(safe.encode()).digest()).decode()


@cache
def _program() -> str:
    files = "\n".join((_ASSETS / name).read_text("utf-8") for name in _PROGRAM)
    return f'(() => {{\n"use strict";\n{files}\n}})();\n'
