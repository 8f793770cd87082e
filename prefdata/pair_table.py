"""`pair_table`: pairs from a table of scored answers, without a recipe."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pyarrow as pa

from prefdata.dataset import TRLPairs
from prefdata.errors import ConservationError
from prefdata.lock import packages
from prefdata.pairing import PairRule
from prefdata.publish.card import CardFacts
from prefdata.publish.folder import DatasetFolder, write_dataset_folder
from prefdata.publish.spec import Publish
from prefdata.scored_table import ScoredTable, read_scored_table
from prefdata.spec import JSON
from prefdata.store import replace_folder
from prefdata.tables import CANDIDATE_DROPS, DROPS, PAIRS, PROMPTS, checked

__all__ = ["pair_table"]


def pair_table(table: str | Path, rule: PairRule, out: str | Path, *, columns: Mapping[str, str] | None = None) -> JSON:
    """Pairs the candidates of a table and writes a dataset folder.

    Nothing that is written depends on the order of the table's rows.

    Args:
        table: Parquet, JSON lines or CSV, long or wide: see `prefdata.scored_table`.
        rule: how chosen and rejected are picked.
        out: the dataset folder; one that is there is replaced.
        columns: role → name of the column, where the names differ from the roles.

    Returns:
        The ledger: `prompts`, `pairs`, `drops` (reason → prompts), `ineligible` (reason → candidates), `stages`.

    Raises:
        InputError: the table can't be read as what it should be.
        StoreError: the folder can't be written.
    """
    path = Path(table)
    scored = read_scored_table(path, columns)
    # Rows that the total order can't tell apart may still differ in their model or finish reason.
    candidates = scored.candidates.sort(pl.all(), nulls_last=False)
    paired = rule.pair(candidates, scored.prompts["prompt_id"])
    drops = pl.concat([scored.drops, paired.drops]).sort("prompt_id").to_arrow()
    pairs = checked(paired.pairs.to_arrow(), PAIRS, ["prompt_id"], "pairs")
    ineligible = paired.ineligible.sort(pl.all(), nulls_last=False).to_arrow()
    ledger = _ledger(scored, pairs, drops, ineligible)
    prompts = scored.prompts.with_columns(origin=pl.lit("")).to_arrow().cast(PROMPTS)
    dataset = DatasetFolder(
        rows=[TRLPairs().rows(pairs, prompts)],
        test_ids=(),
        drops=drops.cast(DROPS),
        candidate_drops=ineligible.cast(CANDIDATE_DROPS),
        ledger=ledger,
        recipe={"table": path.name, "columns": dict(columns or {}), "pairs": rule.dump()},
        lock={
            "candidates_sha256": _digest(candidates, scored.prompts),
            "packages": packages(),
            "rule": rule.fingerprint(),
        },
        card=CardFacts(
            name=f"{path.name.partition('.')[0]}-{rule.dump()['kind']}",
            description=f"Preference pairs from the scored answers in `{path.name}`.",
            publish=Publish(),
            steps={"pairs": (type(rule).__doc__ or "").partition("\n")[0]},
            fingerprints={"rule": rule.fingerprint()},
        ),
    )
    folder = Path(out)
    replace_folder(folder, lambda beside: write_dataset_folder(beside, dataset))
    if sum(dataset.split_rows.values()) != ledger["pairs"]:
        raise ConservationError(f"dataset: {ledger['pairs']} pairs in, {dataset.split_rows} rows out")
    return ledger


def _ledger(scored: ScoredTable, pairs: pa.Table, drops: pa.Table, ineligible: pa.Table) -> JSON:
    reasons, unfit = (Counter[str](table["reason"].to_pylist()) for table in (drops, ineligible))
    prompts = scored.prompts.height + scored.drops.height
    if prompts != pairs.num_rows + drops.num_rows:
        raise ConservationError(f"pairs: {prompts} prompts in, {pairs.num_rows} pairs and {drops.num_rows} drops out")
    eligible = scored.candidates.height - ineligible.num_rows
    lost = scored.rows - scored.candidates.height
    unfit_all = unfit + Counter({"of_dropped_prompts": lost} if lost else {})
    stages = [
        {"stage": "candidates", "in": scored.rows, "out": eligible, "drops": dict(sorted(unfit_all.items()))},
        {"stage": "pairs", "in": prompts, "out": pairs.num_rows, "drops": dict(sorted(reasons.items()))},
    ]
    return {
        "prompts": prompts,
        "pairs": pairs.num_rows,
        "drops": dict(sorted(reasons.items())),
        "candidates": scored.rows,
        "ineligible": dict(sorted(unfit_all.items())),
        "stages": stages,
    }


def _digest(candidates: pl.DataFrame, prompts: pl.DataFrame) -> str:
    """SHA-256 over candidates and prompts, both sorted: the same for any order of the table's rows."""
    digest = hashlib.sha256()
    for frame in (candidates, prompts):
        for row in frame.iter_rows():
            digest.update(repr(row).encode())
    return digest.hexdigest()
