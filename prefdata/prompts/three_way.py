"""`SnorkelThreeWay`: one of three disjoint parts of a source's prompts, each with a train and a test split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias, TypeVar

from pydantic import Field, model_validator

from prefdata import hub
from prefdata.errors import InputError, MissingExtraError, UserError
from prefdata.prompts.base import PromptSource
from prefdata.prompts.hub_split import HubPrompts
from prefdata.prompts.local_file import FilePrompts
from prefdata.prompts.sample import SamplePrompts
from prefdata.records import Drop, Prompt
from prefdata.spec import JSON, Context, derive_seed
from prefdata.tables import files

__all__ = ["SnorkelThreeWay"]

_PUBLISHED = "snorkelai/Snorkel-Mistral-PairRM-DPO-Dataset"
_ITERATIONS = (1, 2, 3)
# A prompt that the published splits hold twice is in the first of these: what is tested anywhere is trained on nowhere.
_PARTS = tuple((iteration, split) for split in ("test", "train") for iteration in _ITERATIONS)
_OneSource: TypeAlias = Annotated[HubPrompts | FilePrompts | SamplePrompts, Field(discriminator="kind")]
_Part: TypeAlias = tuple[int, str]
_T = TypeVar("_T")


class SnorkelThreeWay(PromptSource):
    """The prompts of one iteration of three, each marked `train` or `test`; no prompt is in two of the six parts.

    `split="published"` takes the prompt ids of snorkelai/Snorkel-Mistral-PairRM-DPO-Dataset, from the Hub or from a
    table of your own. How these were drawn is not published. `split="seeded"` is a split of ours: prompts sorted by a
    seeded hash of their id, then cut into three times `train_size` + `test_size`. It depends on which prompts there
    are, and on nothing else: not on their order, repeats, or the recipe's seed.

    A prompt of another iteration is dropped as `other_iteration`, one of none as `in_no_part`.
    """

    kind: Literal["snorkel_three_way"] = "snorkel_three_way"
    source: _OneSource
    """All prompts."""
    iteration: Literal[1, 2, 3]
    """Which part."""
    split: Literal["published", "seeded"] = "published"
    """Whose split."""
    revision: str | None = None
    """Commit, branch or tag of the published dataset; None takes the main branch. The lock keeps the commit."""
    ids: Path | None = None
    """A table of the published ids instead: columns `prompt_id` and `split` (`train_iteration_1`, ...)."""
    train_size: Annotated[int, Field(ge=1)] = 20_000
    """Train prompts of an iteration of the seeded split."""
    test_size: Annotated[int, Field(ge=0)] = 1_000
    """Test prompts of an iteration of the seeded split."""
    seed: int = 0
    """Seed of the seeded split; the same in all iterations."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.split == "seeded" and (self.ids is not None or self.revision is not None):
            raise ValueError('`ids` and `revision` belong to `split="published"`')
        if self.ids is not None and self.revision is not None:
            raise ValueError("`revision` belongs to the Hub's dataset, not to `ids`")
        return self

    def pins(self) -> dict[str, JSON]:
        """Those of the source, and the published split's commit or hash.

        Raises:
            InputError: the published split can't be had.
        """
        if self.split == "seeded":
            return super().pins()
        if self.ids is not None:
            return {**super().pins(), "ids": files.pin(self.ids)}
        return {**super().pins(), "ids": {"sha": _or_seeded(partial(hub.resolve_dataset, _PUBLISHED, self.revision))}}

    def read(self, context: Context) -> Iterator[Prompt | Drop]:
        """See `PromptSource.read`. Holds all prompts in memory.

        Counts `published_ids_in_two_parts` and `published_ids_not_in_the_source`.

        Raises:
            InputError: the published split can't be read or has nothing in common with the source, or the source holds
                too few prompts for a seeded one.
        """
        records = list(self.source.read(context.child("source")))
        have = {record.prompt_id for record in records if isinstance(record, Prompt)}
        parts = self._seeded(have) if self.split == "seeded" else self._published(have, context)
        for record in records:
            yield record if isinstance(record, Drop) else self._marked(record, parts.get(record.prompt_id))

    def _marked(self, prompt: Prompt, part: _Part | None) -> Prompt | Drop:
        if part is None:
            return Drop(prompt.prompt_id, "prompts", "in_no_part", prompt.origin)
        iteration, split = part
        if iteration != self.iteration:
            return Drop(prompt.prompt_id, "prompts", "other_iteration", f"{split} of iteration {iteration}")
        return Prompt(prompt.prompt_id, prompt.messages, prompt.origin, split)

    def _seeded(self, have: Iterable[str]) -> Mapping[str, _Part]:
        ordered = sorted(have, key=lambda prompt_id: (derive_seed("three_way", self.seed, prompt_id), prompt_id))
        size = self.train_size + self.test_size
        if len(ordered) < 3 * size:
            fits = len(ordered) // 3
            test = max(fits * self.test_size // size, min(1, self.test_size))
            raise InputError(
                f"the source holds {len(ordered):,} different prompts, but three iterations of {self.train_size:,} "
                f"train and {self.test_size:,} test prompts need {3 * size:,}",
                valid=f"at most {fits:,} prompts an iteration",
                hint=f"train_size={fits - test}, test_size={test}" if fits > test else "another source",
            )
        return {
            prompt_id: (place // size + 1, "test" if place % size < self.test_size else "train")
            for place, prompt_id in enumerate(ordered[: 3 * size])
        }

    def _published(self, have: set[str], context: Context) -> Mapping[str, _Part]:
        parts: dict[str, _Part] = {}
        sizes: Counter[_Part] = Counter()
        for part, prompt_id in self._published_ids(context.pins.get("ids", {})):
            if parts.setdefault(prompt_id, part) == part:
                sizes[part] += 1
            else:
                context.counted("published_ids_in_two_parts", 1)
        wanted = {prompt_id for prompt_id, (iteration, _) in parts.items() if iteration == self.iteration}
        if not wanted & have:
            raise InputError(
                f"not one of the {len(wanted):,} published prompt ids of iteration {self.iteration} is among the "
                f"{len(have):,} prompts of the source",
                valid="the prompts of HuggingFaceH4/ultrafeedback_binarized, which the published ones are drawn from",
                hint='another source, or `split="seeded"`',
            )
        if missing := len(wanted - have):
            context.counted("published_ids_not_in_the_source", missing)
        return parts

    def _published_ids(self, pins: Mapping[str, JSON]) -> Iterator[tuple[_Part, str]]:
        """Part and prompt id, in the order of `_PARTS`."""
        if self.ids is None:
            sha = pins.get("sha") or _or_seeded(partial(hub.resolve_dataset, _PUBLISHED, self.revision))
            for part in _PARTS:
                yield from ((part, prompt_id) for prompt_id in _or_seeded(partial(_hub_ids, part, sha)))
            return
        names = {_split_name(part): part for part in _PARTS}
        found: dict[_Part, list[str]] = {part: [] for part in _PARTS}
        path = files.pinned(self.ids, pins)
        for number, row in enumerate(files.rows(path, only=["prompt_id", "split"]), 1):
            if row["split"] not in names or not row["prompt_id"]:
                raise InputError(
                    f"{str(self.ids)!r}, row {number}: prompt_id {row['prompt_id']!r}, split {row['split']!r}",
                    valid=f"a prompt id, and one of {', '.join(sorted(names))}",
                )
            found[names[row["split"]]].append(str(row["prompt_id"]))
        for part, ids in found.items():
            yield from ((part, prompt_id) for prompt_id in ids)


def _split_name(part: _Part) -> str:
    return f"{part[1]}_iteration_{part[0]}"


def _hub_ids(part: _Part, sha: str) -> list[str]:
    rows: Iterator[dict[str, Any]] = hub.dataset_rows(_PUBLISHED, None, _split_name(part), sha, only=["prompt_id"])
    return [str(row["prompt_id"]) for row in rows]


def _or_seeded(read: Callable[[], _T]) -> _T:
    """What the Hub says of the published split, or one message that tells what to do without it."""
    try:
        return read()
    except MissingExtraError:
        raise
    except UserError as error:
        raise InputError(
            f"the published three-way split can't be read: {error.problem}",
            valid="the prompt ids of its six splits, from the Hub or from a table of your own (`ids`)",
            hint='`split="seeded"` draws a split of our own, three times 20,000 + 1,000 prompts, without the Hub\'s',
        ) from error
