"""`pair`: pairs from a table of scored answers, without a recipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from prefdata.dataset import TRLPairs
from prefdata.dataset.measures import Auditor
from prefdata.errors import ConservationError
from prefdata.flow.lock import packages
from prefdata.flow.store import replace_folder
from prefdata.lazy import pl
from prefdata.pairing import PairRule
from prefdata.publish.card.text import CardFacts
from prefdata.publish.folder import DatasetFolder, write_dataset_folder
from prefdata.publish.spec import Publish
from prefdata.recipe import as_rule
from prefdata.spec import JSON
from prefdata.streaming.digest import CandidateDigest
from prefdata.streaming.stream import PairedTable, stream_pairs
from prefdata.tables.answers import answer_rows
from prefdata.tables.schemas import CANDIDATE_DROPS, DROPS, PAIR_KEY, PROMPTS, checked, pairs_schema
from prefdata.tables.scored_table import columns_of, read_scored_table

__all__ = ["pair", "table_digest"]


def pair(
    table: str | Path,
    rule: PairRule | str | Path,
    out: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    with_candidates: bool = False,
) -> JSON:
    """Pairs the candidates of a table and writes a dataset folder.

    Nothing that is written depends on the order of the table's rows.

    Args:
        table: Parquet, JSON lines or CSV, long or wide: see `prefdata.tables.scored_table`.
        rule: how chosen and rejected are picked; a rule, its name, or a JSON file: see `prefdata.recipe.as_rule`.
        out: the dataset folder; one that is there is replaced.
        columns: role → name of the column, where the names differ from the roles.
        with_candidates: write every answer with its score beside the pairs.

    Returns:
        The ledger: `prompts`, `pairs`, `paired_prompts`, `drops` (reason → prompts), `ineligible` (reason →
        candidates), `stages`.

    Raises:
        InputError: the table can't be read as what it should be.
        StoreError: the folder can't be written.
    """
    rule = as_rule(rule)
    path, folder = Path(table), Path(out)
    # A rule that may not run, or can't be found, is told of before the table is read.
    pins = rule.pins()
    named = columns_of(path, columns or {})
    told: list[JSON] = []

    def fill(beside: Path) -> None:
        with TemporaryDirectory(dir=beside) as waiting:
            found = stream_pairs(path, named, rule, Path(waiting), with_candidates=with_candidates)
            found = found or _in_memory(path, columns, rule, with_candidates)
            ledger = _ledger(found)
            dataset = _folder(found, ledger, path, rule, pins, columns)
            write_dataset_folder(beside, dataset)
        told.append(ledger)

    replace_folder(folder, fill)
    return told[0]


def _card(path: Path, rule: PairRule) -> CardFacts:
    return CardFacts(
        name=f"{path.name.partition('.')[0]}-{rule.dump()['kind']}",
        description=f"Preference pairs from the scored answers in `{path.name}`.",
        publish=Publish(),
        steps={"pairs": (type(rule).__doc__ or "").partition("\n")[0]},
        fingerprints={"rule": rule.fingerprint()},
    )


def _folder(
    found: PairedTable,
    ledger: JSON,
    path: Path,
    rule: PairRule,
    pins: Mapping[str, JSON],
    columns: Mapping[str, str] | None,
) -> DatasetFolder:
    pinned = {"packages": packages(), "rule": rule.fingerprint(), **({"rule_pins": pins} if pins else {})}
    return DatasetFolder(
        answers=found.answers,
        rows=found.rows,
        test_ids=(),
        drops=found.drops,
        candidate_drops=found.ineligible,
        audit=found.audit,
        ledger=ledger,
        recipe={"table": path.name, "columns": dict(columns or {}), "pairs": rule.dump()},
        lock={"candidates_sha256": found.digest, **pinned},
        card=_card(path, rule),
    )


def _in_memory(path: Path, columns: Mapping[str, str] | None, rule: PairRule, with_candidates: bool) -> PairedTable:
    """What `prefdata.streaming.stream` does, for any table and rule, with all rows in memory."""
    scored = read_scored_table(path, columns)
    # Rows that the total order can't tell apart may still differ in their model or finish reason.
    candidates = scored.candidates.sort(pl.all(), nulls_last=False)
    paired = rule.pair(candidates, scored.prompts["prompt_id"])
    pairs = checked(paired.pairs.to_arrow(), pairs_schema(rule.extra_columns()), PAIR_KEY, "pairs")
    prompts = scored.prompts.with_columns(origin=pl.lit(""), split=pl.lit(None, pl.String)).to_arrow().cast(PROMPTS)
    auditor = Auditor()
    auditor.add(candidates, paired.pairs)
    return PairedTable(
        rows=iter([TRLPairs().rows(pairs, prompts)]),
        pairs=pairs.num_rows,
        paired_prompts=len(pairs["prompt_id"].unique()),
        prompts=scored.prompts.height + scored.drops.height,
        candidates=scored.rows,
        usable=scored.candidates.height,
        drops=pl.concat([scored.drops, paired.drops]).sort("prompt_id").to_arrow().cast(DROPS),
        ineligible=paired.ineligible.sort(pl.all(), nulls_last=False).to_arrow().cast(CANDIDATE_DROPS),
        digest=table_digest(candidates),
        audit=auditor.result(),
        answers=[answer_rows(candidates, prompts)] if with_candidates else None,
    )


def _ledger(found: PairedTable) -> JSON:
    reasons, unfit = (Counter[str](table["reason"].to_pylist()) for table in (found.drops, found.ineligible))
    if found.prompts != found.paired_prompts + found.drops.num_rows:
        told = f"{found.prompts} prompts in, {found.paired_prompts} with a pair and {found.drops.num_rows} drops out"
        raise ConservationError(f"pairs: {told}")
    lost = found.candidates - found.usable
    unfit_all = dict(sorted((unfit + Counter({"of_dropped_prompts": lost} if lost else {})).items()))
    eligible = found.usable - found.ineligible.num_rows
    drops = dict(sorted(reasons.items()))
    stages = [
        {"stage": "candidates", "in": found.candidates, "out": eligible, "drops": unfit_all},
        {"stage": "pairs", "in": found.prompts, "out": found.paired_prompts, "drops": drops},
    ]
    return {
        "prompts": found.prompts,
        "pairs": found.pairs,
        "paired_prompts": found.paired_prompts,
        "drops": drops,
        "candidates": found.candidates,
        "ineligible": unfit_all,
        "stages": stages,
    }


def table_digest(candidates: pl.DataFrame) -> str:
    """The candidates as one number in hex, the same for any order of rows: see `prefdata.streaming.digest`."""
    digest = CandidateDigest()
    digest.add_frame(candidates)
    return digest.hexdigest()
