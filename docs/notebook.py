"""Runs the cells of a notebook in one process, and writes what they show into it: `notebook.py FILE.ipynb [FOLDER]`.

The cells run in FOLDER (left out, a new temporary one), one after the other, as in a notebook: what the last line of a
cell gives is shown, as HTML or a picture where it has one. A test runs the tour so; a kernel is not needed.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any


def run(path: Path, folder: Path) -> dict[str, Any]:
    """Runs every cell, and returns the notebook with their outputs; an error in a cell is raised."""
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": "__main__"}
    count = 0
    with contextlib.chdir(folder):
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                count += 1
                cell["execution_count"] = count
                cell["outputs"] = _outputs("".join(cell["source"]), names, count)
    return notebook


def _outputs(source: str, names: dict[str, Any], count: int) -> list[dict[str, Any]]:
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    out = io.StringIO()
    value = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        exec(compile(tree, f"cell {count}", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), f"cell {count}", "eval"), names)
    outputs: list[dict[str, Any]] = []
    if out.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": out.getvalue().splitlines(keepends=True)})
    if value is not None:
        result = {"output_type": "execute_result", "execution_count": count, "metadata": {}, "data": _shown(value)}
        outputs.append(result)
    return outputs


def _shown(value: Any) -> dict[str, Any]:
    if hasattr(value, "_repr_png_"):
        return {"image/png": base64.b64encode(value._repr_png_()).decode(), "text/plain": ["a figure"]}
    shown: dict[str, Any] = {"text/plain": repr(value).splitlines(keepends=True)}
    if hasattr(value, "_repr_html_") and (html := value._repr_html_()):
        shown["text/html"] = html.splitlines(keepends=True)
    return shown


if __name__ == "__main__":
    warnings.simplefilter("error")
    # Tables are as wide as a page of a browser.
    os.environ["COLUMNS"] = "120"
    file = Path(sys.argv[1])
    with contextlib.ExitStack() as stack:
        where = Path(sys.argv[2] if len(sys.argv) > 2 else stack.enter_context(tempfile.TemporaryDirectory()))
        done = run(file.resolve(), where)
    file.write_text(json.dumps(done, ensure_ascii=False, indent=1, allow_nan=False) + "\n", encoding="utf-8")
