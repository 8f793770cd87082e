"""Defines `SnorkelThreeWay`: one of three disjoint parts of a source's prompts, each with a train and a test split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias, TypeVar

from pydantic import Field, model_validator

from prefdata import hub
from prefdata.errors import InputError, MissingExtraError, UserError
from prefdata.prompts.base import PromptSource
from prefdata.prompts.hub_split import HubPrompts
from prefdata.prompts.local_file import FilePrompts
from prefdata.prompts.sample import SamplePrompts
from prefdata.records import Drop, Prompt
from prefdata.spec import JSON, Context, derive_seed
from prefdata.spec.marks import FILE, REVISION, Harmless
from prefdata.spec.quoting import quoted
from prefdata.tables import files

__all__ = ["SnorkelThreeWay"]

_PUBLISHED = "snorkelai/Snorkel-Mistral-PairRM-DPO-Dataset"
_ITERATIONS = (1, 2, 3)
# A prompt that is in two published splits counts for the first of these, so no test prompt is trained on anywhere.
_PARTS = tuple((iteration, split) for split in ("test", "train") for iteration in _ITERATIONS)
_OneSource: TypeAlias = Annotated[HubPrompts | FilePrompts | SamplePrompts, Field(discriminator="kind")]
_Part: TypeAlias = tuple[int, str]
_T = TypeVar("_T")


class SnorkelThreeWay(PromptSource):
    """The prompts of one iteration of three, each marked `train` or `test`; no prompt is in two of the six parts.

    `split="published"` takes the prompt ids of snorkelai/Snorkel-Mistral-PairRM-DPO-Dataset, from the Hub or from a
    table of your own. How these were drawn is not published. `split="seeded"` is prefdata's own split: prompts are
    sorted by a seeded hash of their id, then cut into three times `train_size` + `test_size`. It depends only on the
    set of prompts and on `seed`, not on their order, repeats, or the recipe's seed.

    A prompt of another iteration is dropped as `other_iteration`, one of no iteration as `in_no_part`.
    """

    kind: Literal["snorkel_three_way"] = "snorkel_three_way"
    source: Annotated[_OneSource, Harmless]
    """Source of all prompts."""
    iteration: Annotated[Literal[1, 2, 3], Harmless]
    """The iteration whose prompts are read."""
    split: Annotated[Literal["published", "seeded"], Harmless] = "published"
    """`published`: the split of the published dataset. `seeded`: prefdata's own."""
    revision: Annotated[str | None, REVISION] = None
    """Branch, tag or commit of the published dataset; None takes the main branch. The lock keeps the commit."""
    ids: Annotated[Path | None, FILE] = None
    """A local table of the published ids, with the columns `prompt_id` and `split` (`train_iteration_1`, ...); None
    reads them from the Hub."""
    train_size: Annotated[int, Harmless, Field(ge=1)] = 20_000
    """Number of train prompts in each iteration of the seeded split."""
    test_size: Annotated[int, Harmless, Field(ge=0)] = 1_000
    """Number of test prompts in each iteration of the seeded split."""
    seed: Annotated[int, Harmless] = 0
    """Seed of the seeded split; must be the same in all iterations."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.split == "seeded" and (self.ids is not None or self.revision is not None):
            raise ValueError('`ids` and `revision` belong to `split="published"`')
        if self.ids is not None and self.revision is not None:
            raise ValueError("`revision` belongs to the Hub's dataset, not to `ids`")
        return self

    def pins(self) -> dict[str, JSON]:
        """Returns the pins of the source, and the published split's commit or hash.

        Raises:
            InputError: the published split is not available.
        """
        if self.split == "seeded":
            return super().pins()
        if self.ids is not None:
            return {**super().pins(), "ids": files.pin(self.ids)}
        return {**super().pins(), "ids": {"sha": _or_seeded(partial(hub.resolve_dataset, _PUBLISHED, self.revision))}}

    def kept_columns(self) -> tuple[str, ...]:
        """Names those of the source."""
        return self.source.kept_columns()

    def read(self, context: Context) -> Iterator[Prompt | Drop]:
        """Reads the prompts of the iteration; see `PromptSource.read`. Holds all prompts in memory.

        Counts `published_ids_in_two_parts` and `published_ids_not_in_the_source`.

        Raises:
            InputError: the published split can't be read or has no prompt of the source, or the source has too few
                prompts for the seeded split.
        """
        records = list(self.source.read(context.child("source")))
        prompt_ids = {record.prompt_id for record in records if isinstance(record, Prompt)}
        parts = self._seeded(prompt_ids) if self.split == "seeded" else self._published(prompt_ids, context)
        for record in records:
            yield record if isinstance(record, Drop) else self._marked(record, parts.get(record.prompt_id))

    def _marked(self, prompt: Prompt, part: _Part | None) -> Prompt | Drop:
        if part is None:
            return Drop(prompt.prompt_id, "prompts", "in_no_part", prompt.origin, kept=prompt.kept)
        iteration, split = part
        if iteration != self.iteration:
            detail = f"{split} of iteration {iteration}"
            return Drop(prompt.prompt_id, "prompts", "other_iteration", detail, kept=prompt.kept)
        return replace(prompt, split=split)

    def _seeded(self, prompt_ids: Iterable[str]) -> Mapping[str, _Part]:
        ordered = sorted(prompt_ids, key=lambda prompt_id: (derive_seed("three_way", self.seed, prompt_id), prompt_id))
        size = self.train_size + self.test_size
        if len(ordered) < 3 * size:
            most = len(ordered) // 3
            test = max(most * self.test_size // size, min(1, self.test_size))
            raise InputError(
                f"the source has {len(ordered):,} different prompts, but three iterations of {self.train_size:,} "
                f"train and {self.test_size:,} test prompts need {3 * size:,}",
                valid=f"at most {most:,} prompts in each iteration",
                hint=f"train_size={most - test}, test_size={test}" if most > test else "another source",
            )
        return {
            prompt_id: (rank // size + 1, "test" if rank % size < self.test_size else "train")
            for rank, prompt_id in enumerate(ordered[: 3 * size])
        }

    def _published(self, prompt_ids: set[str], context: Context) -> Mapping[str, _Part]:
        parts: dict[str, _Part] = {}
        sizes: Counter[_Part] = Counter()
        for part, prompt_id in self._published_ids(context.pins.get("ids", {})):
            if parts.setdefault(prompt_id, part) == part:
                sizes[part] += 1
            else:
                context.counted("published_ids_in_two_parts", 1)
        own_ids = {prompt_id for prompt_id, (iteration, _) in parts.items() if iteration == self.iteration}
        if not own_ids & prompt_ids:
            raise InputError(
                f"none of the {len(own_ids):,} published prompt ids of iteration {self.iteration} is among the "
                f"{len(prompt_ids):,} prompts of the source",
                valid="the prompts of HuggingFaceH4/ultrafeedback_binarized, from which the published ones are drawn",
                hint='take another source, or `split="seeded"`',
            )
        if missing := len(own_ids - prompt_ids):
            context.counted("published_ids_not_in_the_source", missing)
        return parts

    def _published_ids(self, pins: Mapping[str, JSON]) -> Iterator[tuple[_Part, str]]:
        """Yields part and prompt id, in the order of `_PARTS`."""
        if self.ids is None:
            sha = pins.get("sha") or _or_seeded(partial(hub.resolve_dataset, _PUBLISHED, self.revision))
            for part in _PARTS:
                yield from ((part, prompt_id) for prompt_id in _or_seeded(partial(_hub_ids, part, sha)))
            return
        names = {_split_name(part): part for part in _PARTS}
        ids_of: dict[_Part, list[str]] = {part: [] for part in _PARTS}
        path = files.pinned(self.ids, pins)
        for number, row in enumerate(files.rows(path, only=["prompt_id", "split"]), 1):
            if row["split"] not in names or not row["prompt_id"]:
                raise InputError(
                    f"{str(self.ids)!r}, row {number}: "
                    f"prompt_id {quoted(row['prompt_id'])}, split {quoted(row['split'])}",
                    valid=f"a prompt id, and one of {', '.join(sorted(names))}",
                )
            ids_of[names[row["split"]]].append(str(row["prompt_id"]))
        for part, ids in ids_of.items():
            yield from ((part, prompt_id) for prompt_id in ids)


def _split_name(part: _Part) -> str:
    return f"{part[1]}_iteration_{part[0]}"


def _hub_ids(part: _Part, sha: str) -> list[str]:
    table = hub.dataset_table(_PUBLISHED, None, _split_name(part), sha)
    return [str(row["prompt_id"]) for row in table.rows(only=["prompt_id"])]


def _or_seeded(read: Callable[[], _T]) -> _T:
    """Reads the published split from the Hub.

    Raises:
        InputError: it can't be read; the message offers the seeded split.
    """
    try:
        return read()
    except MissingExtraError:
        raise
    except UserError as error:
        raise InputError(
            f"the published three-way split can't be read: {error.problem}",
            valid="the prompt ids of its six splits, from the Hub or from a table of your own (`ids`)",
            hint='`split="seeded"` draws prefdata\'s own split, three times 20,000 + 1,000 prompts, without the Hub',
        ) from error
