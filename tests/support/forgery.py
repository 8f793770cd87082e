"""A dataset with something of everything, and the tools of somebody who changes it afterwards."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from prefdata.recipe import Recipe
from prefdata.tables.schemas import write_parquet

PROMPTS = 60


def write_tables(folder: Path) -> None:
    """Sixty prompts; answers of two sources with ties, repeated texts, blanks, cut-off and unscored ones."""
    draw = random.Random(7)
    prompts = [{"prompt": f"Question {number}?"} for number in range(PROMPTS)]
    rows = [*prompts, prompts[3], {"prompt": "  "}]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    published = [
        {**row, "chosen": f"good {number}", "rejected": "bad", "score_chosen": 8, "score_rejected": number % 9}
        for number, row in enumerate(prompts)
    ]
    (folder / "published.jsonl").write_text("".join(json.dumps(row) + "\n" for row in published), encoding="utf-8")
    for source, answers in (("policy", 4), ("teacher", 1)):
        table = []
        for number, row in enumerate(prompts):
            if number % 20 == 19:
                continue
            for index in range(answers):
                score = 3 if number % 10 == 4 else draw.choice([1, 2, 2.5, 2.5, 4])
                text = draw.choice(["same", f"{source} {index} " + "word " * draw.randrange(1, 9)])
                answer = {**row, "response": text, "score": score, "finish": "stop", "model": f"{source}-{index % 2}"}
                if number % 9 == index:
                    answer |= draw.choice([{"score": None}, {"finish": "length"}, {"response": " "}])
                table.append(answer)
        (folder / f"{source}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table), encoding="utf-8")


def recipe(**changes: object) -> Recipe:
    """The recipe; its paths are relative to the folder of the tables."""
    columns = {"score_column": "score", "finish_reason_column": "finish"}
    samplers = [
        {"kind": "existing", "name": name, "path": f"{name}.jsonl", **columns} for name in ("policy", "teacher")
    ]
    return Recipe.model_validate(
        {
            "name": "forged",
            "seed": 5,
            "prompts": {"kind": "file", "path": "prompts.jsonl"},
            "candidates": samplers,
            "scores": {"kind": "given"},
            "pairs": {"kind": "wpo_hybrid_v2"},
            "dataset": {"kind": "trl", "test_size": 0.2},
            **changes,
        }
    )


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a Parquet file."""
    found: list[dict[str, Any]] = pq.ParquetFile(path).read().to_pylist()
    return found


def rewrite(path: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]] | None]) -> None:
    """Writes a Parquet file again with its rows changed; schema and features stay."""
    table = pq.ParquetFile(path).read()
    before = table.to_pylist()
    after = change(before)
    write_parquet(path, type(table).from_pylist(before if after is None else after, table.schema))


def rewrite_json(path: Path, change: Callable[[Any], None]) -> None:
    """Writes a JSON file again with its value changed."""
    value = json.loads(path.read_text("utf-8"))
    change(value)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n", "utf-8")


def with_hashes_made_again(folder: Path) -> Path:
    """The folder with a manifest that fits what is there now."""
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != "prefdata.manifest.json":
            data = path.read_bytes()
            files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    (folder / "prefdata.manifest.json").write_text(json.dumps({"format": 1, "files": files}), "utf-8")
    return folder
