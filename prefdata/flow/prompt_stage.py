"""The prompts stage: reads all prompts, drops duplicates and what filters refuse, sorts by id, cuts into shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from prefdata.errors import ConservationError, InputError
from prefdata.flow.balance import balanced
from prefdata.flow.jobs import WholeJob
from prefdata.flow.rows import write_kept, write_rows
from prefdata.flow.stage_tables import KEPT_ROWS
from prefdata.prompts import PromptFilter, PromptSource
from prefdata.records import Drop, Prompt
from prefdata.spec import JSON, Context
from prefdata.tables.schemas import DROPS, PROMPTS

__all__ = ["PromptJob", "PromptRows"]


@dataclass(frozen=True)
class PromptRows:
    """The rows of a prompt source, all accounted for."""

    prompts: list[Prompt]
    """Different prompts that passed the filters, at most `limit`, sorted by id."""
    drops: list[Drop]
    n_rows: int
    """Rows that these two account for. What comes after the last prompt that the limit lets in counts as not read."""
    kept: dict[str, Mapping[str, JSON]]
    """Columns that travel along, of every row that was read: id → values; of rows of one id the first one's."""


@dataclass(frozen=True, kw_only=True)
class PromptJob(WholeJob):
    """Reads the prompts of a recipe."""

    recipe: str
    """The recipe's name, for messages."""
    source: PromptSource
    filters: tuple[tuple[PromptFilter, Mapping[str, JSON]], ...] = ()
    """Filters with their pins, in the order in which they are applied."""
    limit: int | None = None
    """Most prompts; None takes all."""
    shard_size: int
    """Prompts of a shard; the last one may have fewer."""

    def run(self, context: Context) -> JSON:
        """Writes the prompts, the drops and the report: see `WholeJob.run`."""
        rows = self.read(context)
        for number, start in enumerate(range(0, len(rows.prompts), self.shard_size)):
            shard = [asdict(prompt) for prompt in rows.prompts[start : start + self.shard_size]]
            write_rows(self.folder.shard(number), shard, PROMPTS, ["prompt_id"], self.name)
        drops = [{name: getattr(drop, name) for name in DROPS.names} for drop in rows.drops]
        write_rows(self.folder.side_table("drops", 0), drops, DROPS, [], self.name)
        if self.source.kept_columns():
            write_kept(self.folder.side_table(KEPT_ROWS, 0), rows.kept, self.name)
        reasons = Counter(drop.reason for drop in rows.drops)
        report = balanced(self.name, rows.n_rows, len(rows.prompts), reasons)
        return {**report, "shards": -(-len(rows.prompts) // self.shard_size)}

    def read(self, context: Context) -> PromptRows:
        """Reads the source and applies the filters; writes nothing.

        Raises:
            InputError: there is not a single prompt.
            ConservationError: a filter did not give each prompt back, or drop it, in order.
        """
        rows = self._first_of_duplicates(context)
        travels: dict[str, Mapping[str, JSON]] = {}
        for record in rows:
            if record.kept is not None:
                travels.setdefault(record.prompt_id, record.kept)
        for part, pins in self.filters:
            rows = _filtered(rows, part, replace(context, pins=pins))
        kept = [position for position, record in enumerate(rows) if isinstance(record, Prompt)][: self.limit]
        if self.limit is not None and len(kept) == self.limit:
            del rows[kept[-1] + 1 :]
        prompts = [record for record in rows if isinstance(record, Prompt)]
        drops = [record for record in rows if isinstance(record, Drop)]
        if not prompts:
            reasons = ", ".join(f"{count} {reason}" for reason, count in Counter(drop.reason for drop in drops).items())
            raise InputError(f"the prompts of recipe {self.recipe!r} hold no prompt: {len(rows)} rows read ({reasons})")
        return PromptRows(sorted(prompts, key=lambda prompt: prompt.prompt_id), drops, len(rows), travels)

    def _first_of_duplicates(self, context: Context) -> list[Prompt | Drop]:
        rows: list[Prompt | Drop] = []
        seen: dict[str, Prompt] = {}
        for record in self.source.read(context):
            if isinstance(record, Prompt) and (first := seen.setdefault(record.prompt_id, record)) is not record:
                detail = f"{record.origin} repeats {first.origin}"
                rows.append(Drop(record.prompt_id, "prompts", "duplicate", detail))
                if record.kept != first.kept:
                    context.counted("duplicates_with_other_kept_values", 1)
                continue
            rows.append(record)
            # A filter may look at all prompts, so only without one can reading end early.
            if not self.filters and len(seen) == self.limit:
                break
        return rows


def _filtered(rows: Sequence[Prompt | Drop], part: PromptFilter, context: Context) -> list[Prompt | Drop]:
    """Applies a filter to the prompts among the rows."""
    prompts = [record for record in rows if isinstance(record, Prompt)]
    passed = list(part.filter(prompts, context))
    if [record.prompt_id for record in passed] != [prompt.prompt_id for prompt in prompts]:
        raise ConservationError(f"a filter was given {len(prompts)} prompts and gave others back ({len(passed)})")
    results = iter(passed)
    return [next(results) if isinstance(record, Prompt) else record for record in rows]
