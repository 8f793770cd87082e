"""The notebook of the documentation runs from its first cell to its last, and shows what its file says it shows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOUR = ROOT / "docs" / "pandas-tour.ipynb"


def texts(notebook: dict) -> list[list[tuple[str, str]]]:
    """Of every output of each cell its kind, and its text; a picture counts by being one."""
    found = []
    for cell in notebook["cells"]:
        shown = []
        for output in cell.get("outputs", ()):
            data = output.get("data", {"stream": output.get("text")})
            shown += [(kind, "" if kind == "image/png" else "".join(text)) for kind, text in sorted(data.items())]
        found.append(shown)
    return found


def test_the_tour_runs_and_its_outputs_are_up_to_date(tmp_path):
    copy = tmp_path / "tour.ipynb"
    copy.write_bytes(TOUR.read_bytes())
    (tmp_path / "run").mkdir()
    program = [sys.executable, str(ROOT / "docs" / "notebook.py"), str(copy), str(tmp_path / "run")]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    stored, made = (json.loads(path.read_text("utf-8")) for path in (TOUR, copy))
    assert texts(made) == texts(stored), f"run: python docs/notebook.py {TOUR.relative_to(ROOT)}"
    code = [cell for cell in made["cells"] if cell["cell_type"] == "code"]
    assert len(code) >= 15
    assert sum("image/png" in output.get("data", {}) for cell in code for output in cell["outputs"]) == 4
