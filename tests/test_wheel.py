"""The wheel holds all that the package reads when it runs: code, recipes, samples, the page's program, and licences."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
KEPT = ("prefdata", "recipes", "pyproject.toml", "README.md", "LICENSE", ".gitignore")


def test_the_wheel_holds_every_file_of_the_package_and_the_recipes(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in KEPT:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source / name)
    program = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    done = subprocess.run(program, cwd=source, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    [wheel] = (tmp_path / "dist").iterdir()
    held = set(zipfile.ZipFile(wheel).namelist())
    package = {path.relative_to(source).as_posix() for path in (source / "prefdata").rglob("*") if path.is_file()}
    recipes = {f"prefdata/_recipes/{path.name}" for path in (source / "recipes").iterdir()}
    assert {name for name in held if name.startswith("prefdata/")} == package | recipes
    assert any(name.endswith("/licenses/LICENSE") for name in held)
    vendored = {name for name in held if name.startswith("prefdata/page/vendor/")}
    scripts = {name for name in vendored if name.endswith(".js")}
    assert len(scripts) == len([name for name in vendored if name.endswith(".LICENSE")]) == 5
