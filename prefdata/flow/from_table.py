"""`pair`: pairs from a table of scored answers, without a recipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from prefdata.dataset import Layout, TRLPairs, held_out
from prefdata.errors import ConservationError
from prefdata.flow.disk import replace_folder
from prefdata.flow.paired_table import PairedTable, paired_table
from prefdata.flow.replacing import refuse_other_size
from prefdata.flow.versions import packages
from prefdata.pairing import PairRule
from prefdata.pairing.words import rule_words
from prefdata.publish.card.text import CardFacts
from prefdata.publish.folder import DatasetFolder, OtherLayout, write_dataset_folder
from prefdata.publish.spec import Publish
from prefdata.recipe import as_layouts, as_rule, folder_of
from prefdata.records import LengthUnit
from prefdata.spec import JSON
from prefdata.spec.code import allowing_code
from prefdata.tables.first_prompts import FirstPrompts
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
    limit: int | None = None,
    min_margin: float | None = None,
    max_length_difference: int | None = None,
    layout: Layout | str | None = None,
    also: Sequence[Layout | str] = (),
    test_size: float = 0,
    replace: bool = False,
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
        limit: at most this many different prompts, the first ones of the table.
        min_margin: the rule's `min_margin`, in place of its own.
        max_length_difference: the rule's `max_length_difference`, in place of its own.
        layout: columns of the dataset, an object or its kind (`trl`, `snorkel`); left out, `trl`.
        also: further layouts of the same pairs, objects or kinds.
        test_size: prompts that are held out as the test split: a number of them, or a share below 1.
        replace: put the dataset in place of one of another limit that has another number of prompts.
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
        given = {"min_margin": min_margin, "max_length_difference": max_length_difference}
        taken = as_rule(rule, length).replace(**{name: value for name, value in given.items() if value is not None})
        layouts = as_layouts(layout, also, test_size)
        return _pair(_Job(Path(table), taken, Path(out), columns, layouts, limit, replace), with_candidates)


@dataclass(frozen=True)
class _Job:
    """What is asked for."""

    path: Path
    rule: PairRule
    out: Path
    columns: Mapping[str, str] | None
    layouts: tuple[Layout, ...]
    limit: int | None
    replace: bool

    def recipe(self, *, named: bool) -> JSON:
        """What the dataset folder says of it; options that are left out are not there."""
        main, *also = self.layouts
        return {
            "table": self.path.name,
            "columns": dict(self.columns or {}),
            "pairs": self.rule.dump(),
            **({"names": "digest"} if named else {}),
            **({} if self.limit is None else {"limit": self.limit}),
            **({} if main == TRLPairs() else {"dataset": main.dump()}),
            **({"also": [layout.dump() for layout in also]} if also else {}),
        }


def _pair(job: _Job, with_candidates: bool) -> JSON:
    rule, out = job.rule, job.out
    # A rule that may not run, or can't be found, is refused before the table is read.
    pins = rule.pins()
    if job.limit is None:
        file = ScoredTableFile(job.path, job.columns)
    else:
        file = FirstPrompts(job.path, job.columns, job.limit)
    ledgers: list[JSON] = []

    def fill(folder: Path) -> None:
        with TemporaryDirectory(dir=folder) as waiting:
            paired = paired_table(file, rule, Path(waiting), with_candidates=with_candidates, layouts=job.layouts)
            if not job.replace:
                refuse_other_size(out, {"limit": job.limit}, paired.prompts)
            ledger = _ledger(paired)
            write_dataset_folder(folder, _folder(job, paired, ledger, pins))
        ledgers.append(ledger)

    replace_folder(out, fill)
    return ledgers[0]


def _card(path: Path, rule: PairRule) -> CardFacts:
    return CardFacts(
        name=f"{path.name.partition('.')[0]}-{rule.dump()['kind']}",
        description=f"Preference pairs from the scored answers in `{path.name}`.",
        publish=Publish(),
        steps={"pairs": rule_words(rule)},
        fingerprints={"rule": rule.fingerprint()},
    )


def _folder(job: _Job, paired: PairedTable, ledger: JSON, pins: Mapping[str, JSON]) -> DatasetFolder:
    rule, (layout, *further) = job.rule, job.layouts
    name = _card(job.path, rule).name
    pinned = {"packages": packages(), "rule": rule.fingerprint(), **({"rule_pins": pins} if pins else {})}
    return DatasetFolder(
        answers=paired.answers,
        rows=paired.rows,
        rows_per_pair=layout.rows_per_pair,
        trace=paired.trace,
        also={
            other.config_name: OtherLayout(
                rows=paired.also[other.config_name],
                rows_per_pair=other.rows_per_pair,
                split_names=(other.train_split, other.test_split),
                documents=partial(other.documents, name),
            )
            for other in further
        },
        split_names=(layout.train_split, layout.test_split),
        test_ids=held_out(paired.prompt_ids, layout.test_size, 0),
        drops=paired.drops,
        candidate_drops=paired.ineligible,
        audit=paired.audit,
        ledger=ledger,
        recipe=job.recipe(named=paired.named),
        lock={"candidates_sha256": paired.digest, **pinned},
        card=_card(job.path, rule),
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
