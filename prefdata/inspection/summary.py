"""`inspect`: computes counts, drops, ties, lengths and margins of a dataset folder, with a few pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prefdata.errors import InputError
from prefdata.hub import CARDS, MARKS, at_commit, find_dataset, is_path, name_of
from prefdata.inspection._files import AuditFile, Ledger, check_types, read_json, table_errors
from prefdata.inspection.audit import TableAudit, audit
from prefdata.inspection.meanings import percent, spread_rows
from prefdata.inspection.pairs import pair_frames
from prefdata.lazy import pl
from prefdata.records import SIDES
from prefdata.spec.pages import page
from prefdata.tables.files import TableLike

__all__ = ["Summary", "inspect"]

_COLUMNS = {
    "prompt_id": "id",
    **{f"{name}_{side}": "number" for name in ("length", "score", "n_tied") for side in SIDES},
    **{f"{name}_{side}": "text" for name in ("decided", "source") for side in SIDES},
    "score_margin": "number",
}


@dataclass(frozen=True)
class Summary:
    """Summary of a dataset folder. Shares are between 0 and 1, and None without pairs."""

    folder: str
    prompts: int
    """Number of prompts that were read."""
    pairs: int
    paired_prompts: int
    """Number of prompts with at least one pair; some rules make several pairs of one prompt."""
    drops: dict[str, int]
    """Reason → prompts without a pair."""
    ineligible: dict[str, int]
    """Reason → candidates that were not eligible."""
    splits: dict[str, int]
    """Split → pairs."""
    stages: list[dict[str, Any]]
    """Rows in, rows out and drops of each stage."""
    tied_chosen: float | None
    """Share of pairs where several candidates had the first key of the chosen one."""
    tied_rejected: float | None
    """Share of pairs where several candidates had the first key of the rejected one."""
    decided_chosen: dict[str, int]
    """Key that decided for the chosen answer → pairs."""
    decided_rejected: dict[str, int]
    """Key that decided for the rejected answer → pairs."""
    chosen_longer: float | None
    """Share of pairs whose chosen answer is longer."""
    lengths: dict[str, dict[str, float]] = field(default_factory=dict)
    """`chosen`, `rejected`, `difference` → mean, p10, median, p90, in the rule's unit."""
    margins: dict[str, float] = field(default_factory=dict)
    """Mean, p10, median, p90 of the score difference."""
    sources: dict[str, int] = field(default_factory=dict)
    """`chosen source > rejected source` → pairs."""
    audit: dict[str, Any] = field(default_factory=dict)
    """`audit.json`: measures, counts, sources and the recipe's limits; empty where the folder has no audit."""
    examples: list[dict[str, Any]] = field(default_factory=list)
    """A few pairs, spread evenly over the dataset."""
    table: TableAudit | None = None
    """The audit of a dataset that prefdata has not written, which has neither stages nor a rule's trace."""

    def _repr_html_(self) -> str:
        if self.table is not None:
            return self.table._repr_html_()
        shares = {"tied, chosen": self.tied_chosen, "tied, rejected": self.tied_rejected}
        shares["chosen longer"] = self.chosen_longer
        return page(
            self.folder,
            {"prompts": self.prompts, "with a pair": self.paired_prompts, "pairs": self.pairs}
            | {f"split {split}": rows for split, rows in self.splits.items()}
            | {name: percent(share) for name, share in shares.items()},
            [
                ("stage", "in", "out", "drops"),
                *((row["stage"], row["in"], row["out"], _listed(row["drops"])) for row in self.stages),
            ],
            spread_rows(self.lengths, self.margins),
            [("dropped for", "prompts"), *self.drops.items()],
            [("not eligible", "candidates"), *self.ineligible.items()],
            [("sources", "pairs"), *self.sources.items()],
        )


_FILES = ("ledger.json", "audit.json", "data/*.parquet", "trace/*.parquet")


def inspect(where: TableLike, *, pairs: int = 3, config: str | None = None) -> Summary:
    """Summarises a dataset; one that prefdata has not written is audited, see `prefdata.inspection.audit`.

    Args:
        where: a build, its folder, a dataset folder, any file or folder of pairs, `owner/name` or
            `owner/name@revision` of a dataset of the Hub, a frame of pandas, Polars or Arrow, a `datasets.Dataset`, or
            split → frame.
        pairs: how many pairs to show.
        config: the configuration of a dataset that prefdata has not written.

    Raises:
        InputError: there is no such dataset, or it holds no pairs.
    """
    if not is_path(where):
        return _of_table(where, audit(where, config=config, show=pairs))
    found = find_dataset(where, only=(*MARKS, *CARDS))
    if not found.dataset.is_dir() or not (found.dataset / "ledger.json").is_file() or config is not None:
        return _of_table(where, audit(at_commit(where, found), config=config, show=pairs))
    found = find_dataset(at_commit(where, found), only=_FILES)
    dataset = found.dataset
    if not any(dataset.glob("data/*.parquet")):
        raise InputError(f"{str(found.path)!r} has no pairs: data/*.parquet", hint="copy the folder again")
    ledger = read_json(dataset / "ledger.json", dataset, Ledger)
    frames = pair_frames(dataset)
    what = f"the pairs of {str(dataset)!r}"
    with table_errors(what):
        table = check_types(what, pl.concat(frames.values()), _COLUMNS)
    splits = {split: frame.height for split, frame in frames.items()}
    difference = table["length_chosen"].cast(pl.Float64) - table["length_rejected"].cast(pl.Float64)
    return Summary(
        folder=str(dataset),
        prompts=ledger["prompts"],
        pairs=ledger["pairs"],
        paired_prompts=ledger["paired_prompts"],
        drops=ledger["drops"],
        ineligible=ledger["ineligible"],
        splits=splits,
        stages=ledger["stages"],
        tied_chosen=_share(table["n_tied_chosen"] > 1),
        tied_rejected=_share(table["n_tied_rejected"] > 1),
        decided_chosen=_counts(table, "decided_chosen"),
        decided_rejected=_counts(table, "decided_rejected"),
        chosen_longer=_share(difference > 0),
        lengths={
            "chosen": _spread(table["length_chosen"]),
            "rejected": _spread(table["length_rejected"]),
            "difference": _spread(difference),
        },
        margins=_spread(table["score_margin"]),
        sources=_counts(
            table.select(
                pl.format("{} > {}", pl.col("source_chosen").fill_null("?"), pl.col("source_rejected").fill_null("?"))
            ),
            "source_chosen",
        ),
        audit=read_json(dataset / "audit.json", dataset, AuditFile),
        examples=_examples(table, pairs),
    )


def _of_table(where: TableLike, table: TableAudit) -> Summary:
    table.table = name_of(where)
    prompts = table.prompts or 0
    return Summary(
        folder=name_of(where),
        prompts=prompts,
        pairs=table.pairs,
        paired_prompts=prompts,
        drops={},
        ineligible={},
        splits=table.splits,
        stages=[],
        tied_chosen=None,
        tied_rejected=None,
        decided_chosen={},
        decided_rejected={},
        chosen_longer=table.chosen_longer,
        lengths=table.lengths,
        margins=table.margins,
        table=table,
    )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"


def _share(flags: pl.Series) -> float | None:
    return round(float(flags.sum()) / len(flags), 4) if len(flags) else None


def _counts(frame: pl.DataFrame, column: str) -> dict[str, int]:
    counted = frame.group_by(column).len().sort("len", column, descending=[True, False])
    return dict(counted.iter_rows())


def _spread(values: pl.Series) -> dict[str, float]:
    values = values.drop_nulls()
    if not len(values):
        return {}
    points = {"mean": values.mean(), **{f"p{q}": values.quantile(q / 100, "nearest") for q in (10, 50, 90)}}
    return {name: round(float(str(value)), 3) for name, value in points.items()}


def _examples(pairs: pl.DataFrame, count: int) -> list[dict[str, Any]]:
    count = min(count, pairs.height)
    rows = [number * pairs.height // count for number in range(count)]
    return pairs[rows].to_dicts() if rows else []
