"""`pair`: pairs from a table of scored answers, without a recipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from prefdata.dataset import Layout, TRLPairs, held_out
from prefdata.errors import ConservationError, InputError
from prefdata.flow.disk import replace_folder
from prefdata.flow.paired_table import PairedTable, paired_table
from prefdata.flow.preview import preview
from prefdata.flow.progress import say
from prefdata.flow.replacing import refuse_other_size
from prefdata.flow.versions import packages
from prefdata.hub import find_table
from prefdata.pairing import PairRule
from prefdata.pairing.words import rule_words
from prefdata.publish.card.text import CardFacts
from prefdata.publish.folder import DatasetFolder, OtherLayout, write_dataset_folder
from prefdata.publish.spec import Publish
from prefdata.recipe import as_layouts, as_rule, folder_of
from prefdata.records import LengthUnit
from prefdata.spec import JSON
from prefdata.spec.code import allowing_code
from prefdata.tables.files import TableLike
from prefdata.tables.first_prompts import FirstPrompts
from prefdata.tables.kept import Kept
from prefdata.tables.kept_table import check_kept, kept_of_table
from prefdata.tables.prompt_parts import check_parts
from prefdata.tables.scored_table import ScoredTableFile
from prefdata.tables.shapes import Reading

__all__ = ["pair"]

_SPLITS = 20
"""Most splits that a line names."""


def pair(
    table: TableLike,
    rule: PairRule | str | Path | None = None,
    out: str | Path | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    config: str | None = None,
    split: str | None = None,
    length: LengthUnit | None = None,
    with_candidates: bool = False,
    limit: int | None = None,
    min_margin: float | None = None,
    max_length_difference: int | None = None,
    layout: Layout | str | None = None,
    also: Sequence[Layout | str] = (),
    test_size: float = 0,
    keep: Sequence[str] = (),
    replace: bool = False,
    allow_code: bool = False,
    dry_run: bool = False,
) -> JSON:
    """Pairs the candidates of a table, and writes a dataset folder that no order of the table's rows changes.

    Args:
        table: see `prefdata.hub.find_table`, in any shape of `prefdata.tables.shapes`.
        rule: how chosen and rejected are picked; a rule, its name, or a JSON file: see `prefdata.recipe.as_rule`.
        out: the dataset folder; one that is there is replaced.
        columns: role → name of the column, or `column.key`; `-` leaves a role out. Without it, shapes are recognised.
        config: the configuration of a dataset of the Hub, or of a folder like one.
        split: the split of a dataset of the Hub, or of a folder.
        length: the unit of length of a rule that is named; without it, characters.
        with_candidates: write every answer with its score too.
        limit: at most this many different prompts, the first ones of the table.
        min_margin: in place of the rule's own.
        max_length_difference: in place of the rule's own.
        layout: columns of the dataset, an object or its kind; left out, `trl`.
        also: further layouts of the pairs.
        test_size: prompts that are held out as the test split: a number of them, or a share below 1.
        keep: columns that travel along to pairs, candidates and drops, with one value for each prompt.
        replace: put the dataset in place of one of another limit that has another number of prompts.
        allow_code: run a rule that is Python code.
        dry_run: write nothing, and return the first prompts as they are understood; `rule` and `out` are not needed.

    Returns:
        The ledger: `prompts`, `pairs`, `drops` (reason → prompts), ... Of a dry run see `prefdata.flow.preview`.

    Raises:
        UserError: the table, the rule or the folder is not what it should be.
    """
    if dry_run:
        return _preview(_opened(table, columns, config, split)[0], keep)
    if rule is None or out is None:
        raise InputError("pairs need a rule and a folder to write", valid="pair(table, rule, out), or dry_run=True")
    with allowing_code(allow_code, folder_of(rule)):
        # A rule that may not run, or can't be found, is refused before the table is read.
        taken = _bounded(as_rule(rule, length), min_margin=min_margin, max_length_difference=max_length_difference)
        pins, layouts = taken.pins(), as_layouts(layout, also, test_size)
        file, label = _opened(table, columns, config, split, limit)
        job = _Job(file, label, taken, pins, Path(out), layouts, limit, replace, _kept(file, keep), config, split)
        return _pair(job, with_candidates)


def _preview(file: ScoredTableFile, keep: Sequence[str]) -> JSON:
    check_kept(file, keep)
    return preview(file)


def _kept(file: ScoredTableFile, keep: Sequence[str]) -> Kept | None:
    return kept_of_table(file, keep) if keep else None


def _bounded(rule: PairRule, **bounds: float | None) -> PairRule:
    return rule.replace(**{name: value for name, value in bounds.items() if value is not None})


def _opened(
    table: TableLike,
    columns: Mapping[str, str] | None,
    config: str | None,
    split: str | None,
    limit: int | None = None,
) -> tuple[ScoredTableFile, str]:
    found = find_table(table, config, split)
    file = ScoredTableFile(found.table, columns) if limit is None else FirstPrompts(found.table, columns, limit)
    if file.reading.said is not None:
        say(f"read as: {file.reading.said}")
    if split is None and (others := found.table.other_splits):
        names = f"{', '.join(others[:_SPLITS])}{' ...' if len(others) > _SPLITS else ''}"
        say(f"not read: the split{'s' if len(others) > 1 else ''} {names} (another one: --split NAME)")
    check_parts(file)
    return file, found.label


@dataclass(frozen=True)
class _Job:
    """What is asked for."""

    file: ScoredTableFile
    label: str
    """What the table is called."""
    rule: PairRule
    pins: Mapping[str, JSON]
    """Of the rule."""
    out: Path
    layouts: tuple[Layout, ...]
    limit: int | None
    replace: bool
    kept: Kept | None
    config: str | None
    split: str | None

    def recipe(self, *, named: bool) -> JSON:
        """What the dataset folder says of it; options that are left out are not there."""
        main, *also = self.layouts
        return {
            "table": self.label,
            **({} if self.config is None else {"config": self.config}),
            **({} if self.split is None else {"split": self.split}),
            "columns": self.file.reading.columns,
            "pairs": self.rule.dump(),
            **({"names": "digest"} if named else {}),
            **({} if self.limit is None else {"limit": self.limit}),
            **({} if main == TRLPairs() else {"dataset": main.dump()}),
            **({"also": [layout.dump() for layout in also]} if also else {}),
            **({} if self.kept is None else {"keep": self.kept.names}),
        }


def _pair(job: _Job, with_candidates: bool) -> JSON:
    ledgers: list[JSON] = []

    def fill(folder: Path) -> None:
        with TemporaryDirectory(dir=folder) as waiting:
            paired = paired_table(
                *(job.file, job.rule, Path(waiting)), with_candidates=with_candidates, layouts=job.layouts
            )
            if not job.replace:
                refuse_other_size(job.out, {"limit": job.limit}, paired.prompts)
            ledger = _ledger(paired)
            write_dataset_folder(folder, _folder(job, paired, ledger))
        ledgers.append(ledger)

    replace_folder(job.out, fill)
    return ledgers[0]


def _card(label: str, rule: PairRule, reading: Reading) -> CardFacts:
    name = label.rpartition("/")[2].replace(" ", "-").partition("@")[0].partition(".")[0]
    read_as = f" Read as: {reading.said}." if reading.columns != reading.given and reading.said else ""
    return CardFacts(
        name=f"{name}-{rule.dump()['kind']}",
        description=f"Preference pairs from the scored answers in `{label}`.{read_as}",
        publish=Publish(),
        steps={"pairs": rule_words(rule)},
        fingerprints={"rule": rule.fingerprint()},
    )


def _folder(job: _Job, paired: PairedTable, ledger: JSON) -> DatasetFolder:
    rule, pins, (layout, *further) = job.rule, job.pins, job.layouts
    card = _card(job.label, rule, job.file.reading)
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
                documents=partial(other.documents, card.name),
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
        card=card,
        kept=job.kept,
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
