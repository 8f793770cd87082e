"""`pair`: pairs from a table of scored answers, without a recipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from prefdata.errors import ConservationError
from prefdata.flow.disk import replace_folder
from prefdata.flow.paired_table import PairedTable, paired_table
from prefdata.flow.versions import packages
from prefdata.pairing import PairRule
from prefdata.publish.card.text import CardFacts
from prefdata.publish.folder import DatasetFolder, write_dataset_folder
from prefdata.publish.spec import Publish
from prefdata.recipe import as_rule, folder_of
from prefdata.records import LengthUnit
from prefdata.spec import JSON
from prefdata.spec.code import allowing_code
from prefdata.tables.scored_table import ScoredTableFile

__all__ = ["pair"]


def pair(
    table: str | Path,
    rule: PairRule | str | Path,
    out: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    length: LengthUnit | None = None,
    with_candidates: bool = False,
    allow_code: bool = False,
) -> JSON:
    """Pairs the candidates of a table and writes a dataset folder.

    Nothing that is written depends on the order of the table's rows.

    Args:
        table: Parquet, JSON lines or CSV, long or wide: see `prefdata.tables.scored_table`.
        rule: how chosen and rejected are picked; a rule, its name, or a JSON file: see `prefdata.recipe.as_rule`.
        out: the dataset folder; one that is there is replaced.
        columns: role → name of the column, where the names differ from the roles.
        length: the unit of length of a rule that is named; without it, characters.
        with_candidates: write every answer with its score too.
        allow_code: run a rule that is Python code.

    Returns:
        The ledger: `prompts`, `pairs`, `paired_prompts`, `drops` (reason → prompts), `ineligible` (reason →
        candidates), `stages`.

    Raises:
        InputError: the table can't be read as what it should be.
        RecipeError: there is no such rule, or it is code and code is not allowed.
        StoreError: the folder can't be written.
    """
    with allowing_code(allow_code, folder_of(rule)):
        return _pair(Path(table), as_rule(rule, length), Path(out), columns, with_candidates)


def _pair(path: Path, rule: PairRule, out: Path, columns: Mapping[str, str] | None, with_candidates: bool) -> JSON:
    # A rule that may not run, or can't be found, is refused before the table is read.
    pins = rule.pins()
    file = ScoredTableFile(path, columns)
    ledgers: list[JSON] = []

    def fill(folder: Path) -> None:
        with TemporaryDirectory(dir=folder) as waiting:
            paired = paired_table(file, rule, Path(waiting), with_candidates=with_candidates)
            ledger = _ledger(paired)
            write_dataset_folder(folder, _folder(paired, ledger, path, rule, pins, columns))
        ledgers.append(ledger)

    replace_folder(out, fill)
    return ledgers[0]


def _card(path: Path, rule: PairRule) -> CardFacts:
    return CardFacts(
        name=f"{path.name.partition('.')[0]}-{rule.dump()['kind']}",
        description=f"Preference pairs from the scored answers in `{path.name}`.",
        publish=Publish(),
        steps={"pairs": (type(rule).__doc__ or "").partition("\n")[0]},
        fingerprints={"rule": rule.fingerprint()},
    )


def _folder(
    paired: PairedTable,
    ledger: JSON,
    path: Path,
    rule: PairRule,
    pins: Mapping[str, JSON],
    columns: Mapping[str, str] | None,
) -> DatasetFolder:
    pinned = {"packages": packages(), "rule": rule.fingerprint(), **({"rule_pins": pins} if pins else {})}
    return DatasetFolder(
        answers=paired.answers,
        rows=paired.rows,
        test_ids=(),
        drops=paired.drops,
        candidate_drops=paired.ineligible,
        audit=paired.audit,
        ledger=ledger,
        recipe={"table": path.name, "columns": dict(columns or {}), "pairs": rule.dump()},
        lock={"candidates_sha256": paired.digest, **pinned},
        card=_card(path, rule),
    )


def _ledger(paired: PairedTable) -> JSON:
    reasons, unfit = (Counter[str](table["reason"].to_pylist()) for table in (paired.drops, paired.ineligible))
    if paired.prompts != paired.paired_prompts + paired.drops.num_rows:
        counts = (
            f"{paired.prompts} prompts in, {paired.paired_prompts} with a pair and {paired.drops.num_rows} drops out"
        )
        raise ConservationError(f"pairs: {counts}")
    lost = paired.candidates - paired.usable
    unfit_all = dict(sorted((unfit + Counter({"of_dropped_prompts": lost} if lost else {})).items()))
    eligible = paired.usable - paired.ineligible.num_rows
    drops = dict(sorted(reasons.items()))
    stages = [
        {"stage": "candidates", "in": paired.candidates, "out": eligible, "drops": unfit_all},
        {"stage": "pairs", "in": paired.prompts, "out": paired.paired_prompts, "drops": drops},
    ]
    return {
        "prompts": paired.prompts,
        "pairs": paired.pairs,
        "paired_prompts": paired.paired_prompts,
        "drops": drops,
        "candidates": paired.candidates,
        "ineligible": unfit_all,
        "stages": stages,
    }
