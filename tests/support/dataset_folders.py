"""Small dataset folders, written without a build."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from prefdata.dataset import TRLPairs
from prefdata.publish import Publish
from prefdata.publish.card.text import CardFacts
from prefdata.publish.folder import DatasetFolder, write_dataset_folder
from prefdata.tables.schemas import CANDIDATE_DROPS, DROPS, PAIRS, PROMPTS

IDS = [f"p{number:05d}" for number in range(2500)]


def rows(ids: Sequence[str]) -> pa.Table:
    """Rows as `TRLPairs` makes them; every text is another one, some are odd."""
    odd = ["", "\n", "a\x00b", "<|im_end|>", "🙂 " * 50]
    prompts = [
        {"prompt_id": i, "messages": [{"role": "user", "content": f"{odd[n % 5]} {i}"}] * (1 + n % 3), "origin": ""}
        for n, i in enumerate(ids)
    ]
    pairs = [
        {
            "prompt_id": i,
            "n_candidates": 5,
            "n_eligible": n % 5,
            "response_chosen": f"{odd[n % 5]} good {i}",
            "response_rejected": f"bad {hashlib.sha256(i.encode()).hexdigest() * (n % 7)}",
            "score_chosen": n / 3,
            "score_rejected": None if n % 4 == 0 else -0.0,
            "model_chosen": None,
        }
        for n, i in enumerate(ids)
    ]
    return TRLPairs().rows(pa.Table.from_pylist(pairs, PAIRS), pa.Table.from_pylist(prompts, PROMPTS))


def written(
    where: Path, ids: Sequence[str] = IDS, test_ids: Iterable[str] = (), *, step: int = 300, **changes: object
) -> Path:
    where.mkdir(parents=True)
    tables = [rows(ids).slice(start, step) for start in range(0, max(1, len(ids)), step)]
    drop = {"prompt_id": "x", "stage": "prompts", "reason": "blank", "detail": "row 3"}
    lost = {**drop, "source": "policy", "index": 2}
    values = {
        "rows": tables,
        "test_ids": set(test_ids),
        "drops": pa.Table.from_pylist([drop], DROPS),
        "candidate_drops": pa.Table.from_pylist([lost, {**lost, "index": None}], CANDIDATE_DROPS),
        "ledger": {"prompts": len(ids), "pairs": len(ids), "drops": {}, "ineligible": {}, "stages": []},
        "recipe": {"name": "n"},
        "lock": {"format": 1},
        "card": CardFacts(name="n", description="d", publish=Publish(), steps={}),
        **changes,
    }
    write_dataset_folder(where, DatasetFolder(**values))
    return where
