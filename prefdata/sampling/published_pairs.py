"""Defines `PublishedPairs`, which reads the chosen and the rejected answer of an existing preference dataset."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from prefdata.records import SIDES, Candidate, Drop, Message, prompt_id_of
from prefdata.sampling._completions import Columns, prompt_id_of_row
from prefdata.sampling._table import TableAnswers, set_answer_apart
from prefdata.sampling.base import SampleResult, SampleTask
from prefdata.spec import Context
from prefdata.spec.marks import Harmless
from prefdata.tables.cells import ANSWERABLE, Unusable, parse_score, read_turns

__all__ = ["PublishedPairs"]


class PublishedPairs(TableAnswers):
    """Two candidates for each prompt: index 0 is the published chosen answer, 1 the rejected one, each with its score.

    The defaults are the columns of `HuggingFaceH4/ultrafeedback_binarized`. Sides of several turns answer the turns
    before their last one: a prompt that is another conversation than that is dropped (`other_conversation`). Where the
    table has several pairs for a prompt, the one with the highest chosen score counts, then the one with the largest
    difference; the answers of the others are dropped (`another_pair`), so that no two pairs are mixed.
    """

    kind: Literal["published_pairs"] = "published_pairs"
    chosen_column: Annotated[str, Harmless] = "chosen"
    """Column of the chosen answer: a text, or a conversation whose last message is the assistant's answer."""
    rejected_column: Annotated[str, Harmless] = "rejected"
    """Column of the rejected answer, in the form of `chosen_column`."""
    chosen_score_column: Annotated[str, Harmless] = "score_chosen"
    """Column of the chosen answer's score."""
    rejected_score_column: Annotated[str, Harmless] = "score_rejected"
    """Column of the rejected answer's score."""

    def sample(self, tasks: Iterable[SampleTask], context: Context) -> Iterator[SampleResult]:
        """Yields the two answers of the table to each prompt; see `Sampler.sample`."""
        found = self._by_prompt(context)
        others = {number for rows in found.values() for number in rows}
        for task in tasks:
            rows = found.get(task.prompt.prompt_id, {})
            others.difference_update(rows)
            yield self._result(task, [*rows.values()])
        if others:
            context.counted("rows_of_other_prompts", len(others))

    def _by_prompt(self, context: Context) -> dict[str, dict[int, _PublishedPair]]:
        """Reads the whole table, by the id of a row's prompt and that of the conversation that its sides answer.

        Returns:
            Id → number of the row → its pair.
        """
        columns = Columns(self.prompt_column, self.prompt_id_column, self.prompt_format, {})
        texts = (self.chosen_column, self.rejected_column)
        scores = (self.chosen_score_column, self.rejected_score_column)
        found: dict[str, dict[int, _PublishedPair]] = defaultdict(dict)
        rows = self._rows(list(dict.fromkeys([*columns.of_table(), *texts, *scores])), context)
        for number, row in enumerate(rows, 1):
            pair = _published_pair([row[name] for name in texts], [row[name] for name in scores])
            for score in (row[name] for name in scores):
                if score is not None and parse_score(score) is None:
                    context.counted("scores_that_are_no_number", 1)
            ids = {prompt_id_of_row(row, columns, f"{self._table_name}, row {number}"), pair.conversation_id} - {None}
            if not ids:
                context.counted("rows_with_unusable_prompt", 1)
            for prompt_id in ids:
                found[str(prompt_id)][number] = pair
        return found

    def _result(self, task: SampleTask, rows: list[_PublishedPair]) -> SampleResult:
        prompt = task.prompt
        drops: list[Drop] = []

        def drop(reason: str, detail: str, index: int) -> None:
            drops.append(Drop(prompt.prompt_id, "candidates", reason, detail, self.name, index))

        if not rows:
            drop("no_completion", "the table has no answer", task.index)
            return SampleResult(task.key, drops=tuple(drops))
        mine = [row.for_prompt(prompt.messages) for row in rows]
        whole = sorted((row for row in mine if row.reason is None), key=_PublishedPair.order)
        sides = [
            set_answer_apart(Candidate(prompt.prompt_id, self.name, index, str(text), given_score=score), self.thinking)
            for row in whole[:1]
            for index, (text, score) in enumerate(zip(row.texts, row.scores, strict=True))
        ]
        candidates = tuple(side for side in sides if isinstance(side, Candidate))
        drops += [side for side in sides if isinstance(side, Drop)]
        index = len(sides)
        for _ in whole[1:]:
            for side in SIDES:
                drop("another_pair", f"the {side} answer of a pair; the prompt has {len(whole)} pairs", index)
                index += 1
        refused = sorted((row.reason or "", row.detail) for row in mine if row.reason is not None)
        for reason, detail in refused:
            for _ in SIDES:
                drop(reason, detail, index)
                index += 1
        return SampleResult(task.key, candidates, tuple(drops))


@dataclass(frozen=True, slots=True)
class _PublishedPair:
    """One row."""

    texts: tuple[str | None, ...]
    scores: tuple[float | None, ...]
    before: tuple[Message, ...] = ()
    """The turns that both sides answer; empty where they are plain texts."""
    reason: str | None = None
    """Why the row is not a pair; None where it is one."""
    detail: str = ""

    @property
    def conversation_id(self) -> str | None:
        """The id of the prompt that the sides answer, where they say it."""
        answerable = self.reason is None and self.before and self.before[-1]["role"] in ANSWERABLE
        return prompt_id_of(self.before) if answerable else None

    def for_prompt(self, messages: tuple[Message, ...]) -> _PublishedPair:
        """This pair, if its sides answer these messages."""
        if self.reason is not None or not self.before or self.before == messages:
            return self
        detail = f"the sides answer {len(self.before)} messages that are not the prompt"
        return _PublishedPair((), (), reason="other_conversation", detail=detail)

    def order(self) -> tuple[Any, ...]:
        """Sorts the pairs of one prompt, the best first, whatever the order of the rows."""
        best, worst = self.scores
        margin = None if best is None or worst is None else best - worst
        return (best is None, -(best or 0.0), margin is None, -(margin or 0.0), self.texts)


def _published_pair(sides: list[Any], scores: list[Any]) -> _PublishedPair:
    texts, befores = [], []
    for name, cell in zip(SIDES, sides, strict=True):
        turns = read_turns(cell)
        if isinstance(turns, Unusable):
            return _refused(turns.reason, f"{name}: {turns.detail}".removesuffix(": "))
        if turns[-1]["role"] != "assistant":
            return _refused(f"ends_in_{turns[-1]['role']}", f"{name}: the last turn is not the assistant's")
        texts.append(turns[-1]["content"])
        befores.append(turns[:-1])
    # A side of one turn does not say what it answers.
    stated = [before for before in befores if before]
    if len(stated) == 2 and stated[0] != stated[1]:
        return _refused("other_conversation", "the two sides answer different conversations")
    return _PublishedPair(tuple(texts), tuple(map(parse_score, scores)), stated[0] if stated else ())


def _refused(reason: str, detail: str) -> _PublishedPair:
    return _PublishedPair((), (), reason=reason, detail=detail)
