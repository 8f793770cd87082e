"""Reads the pairs of any preference dataset: texts, messages, conversations; with or without scores.

`shape_of` recognises a table by its columns and their first cells; `PairShape.read` turns a row into a `PairRow`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from prefdata.errors import InputError, closest
from prefdata.inspection.turns import (
    Answer,
    Turn,
    answer_of,
    asked_and_answered,
    dialogue_of,
    key_of,
    one_answer,
    parsed,
    parted,
    plain_of,
    text_of,
    turns_of,
)
from prefdata.spec.quoting import quoted
from prefdata.tables.cells import parse_score, parse_truth, says
from prefdata.tables.prompt_columns import INPUT_NAMES, SYSTEM_NAMES
from prefdata.tables.shapes import ASKED, TALKS
from prefdata.tables.shown_answers import answers_shown
from prefdata.tables.written import check_turns, read_written

__all__ = ["ROLES", "Cells", "PairRow", "PairShape", "shape_of"]

Cells: TypeAlias = Callable[[str], Iterable[Any]]
"""Reads the cells of a column from its start."""
_COLUMNS = {
    "chosen": ("chosen", "chosen_response", "response_chosen"),
    "rejected": ("rejected", "rejected_response", "response_rejected"),
    "completion": ("completion",),
    "label": ("label",),
    "prompt": ("prompt", *(name for name in ASKED if name not in INPUT_NAMES), *TALKS, "context", *INPUT_NAMES),
    "score_chosen": ("score_chosen", "chosen_score", "chosen_rating", "chosen-rating", "metadata.score_chosen"),
    "score_rejected": (
        *("score_rejected", "rejected_score", "rejected_rating", "rejected-rating"),
        "metadata.score_rejected",
    ),
}
"""Role → the names under which the trade has its column, the usual one first. A dot leads into an object."""
ROLES = tuple(_COLUMNS)
"""Names that `--columns ROLE=NAME` knows."""
_LABELS = {
    **dict.fromkeys(("desirable", "good", "chosen"), True),
    **dict.fromkeys(("undesirable", "bad", "rejected"), False),
}
"""Labels that have names → whether an answer is a better one."""
_VALID = (
    "chosen and rejected, texts, messages or conversations, with prompt, messages, conversations, instruction or "
    "question where they do not hold it; or prompt, completion and label"
)


class PairRow(NamedTuple):
    """One row: a pair, or one answer with its label, which is then the chosen or the rejected one."""

    prompt: str | None
    """The prompt as one text, equal for equal prompts; None where the row does not show it."""
    chosen: Answer | None
    rejected: Answer | None
    score_chosen: float | None
    score_rejected: float | None
    prompts_differ: bool = False
    """Whether the two sides are answers to different conversations."""
    prompt_text: str = ""
    """The texts of the prompt's turns."""
    no_label: bool = False
    """Whether the row has one answer, and no label that says which side it is."""
    unlabelled: Answer | None = None
    """The answer of such a row."""


@dataclass(frozen=True)
class PairShape:
    """How a table is read."""

    table: str
    """What messages call it."""
    read_as: str
    """The layout, in words."""
    columns: Mapping[str, str]
    """Role → column."""
    beside: tuple[str, ...]
    """Further columns of the prompt: system turns and inputs."""
    answers: tuple[str, str] | None = None
    """Columns with all answers and all scores, in which the scores of the two sides are looked up."""
    written: frozenset[str] = frozenset()
    """Columns of a side, all of whose texts are lists."""

    @property
    def paired(self) -> bool:
        """Whether a row has two answers."""
        return "completion" not in self.columns

    @property
    def scored(self) -> bool:
        """Whether rows have scores."""
        return self.answers is not None or {"score_chosen", "score_rejected"} <= self.columns.keys()

    def names(self) -> list[str]:
        """Lists the columns that are read."""
        names = [name.partition(".")[0] for name in self.columns.values()]
        return list(dict.fromkeys([*names, *self.beside, *(self.answers or ())]))

    def texts(self) -> list[str]:
        """Lists the columns of texts and conversations."""
        roles = ("prompt", "chosen", "rejected", "completion")
        return [*(self.columns[role] for role in roles if role in self.columns), *self.beside]

    def read(self, row: Mapping[str, Any], where: str = "") -> PairRow:
        """Reads a row.

        Args:
            row: its cells.
            where: which row it is, for messages.

        Raises:
            InputError: a list is written by Python or NumPy, not as JSON, or a label is not known.
        """
        where = f"{self.table}{where}"
        for column in self.columns.values():
            check_turns(_cell(row, column), column, where)
        prompt = self._prompt(row)
        if not self.paired:
            return self._single(row, prompt, where)
        sides = [self._side(row, side, where) for side in ("chosen", "rejected")]
        chosen, rejected = (turns_of(cell) for cell in sides)
        if prompt is None and all(isinstance(cell, str) for cell in sides):
            dialogues = [dialogue_of(cell) for cell in sides]
            chosen, rejected = dialogues if None not in dialogues else (chosen, rejected)
        shared: list[Turn] = []
        differ = False
        if all(turns is not None and turns[0].role for turns in (chosen, rejected)):
            shared, chosen, rejected, differ = parted(chosen or [], rejected or [])
        answers = (answer_of(chosen), answer_of(rejected))
        scores = self._scores(row, answers, where)
        turns = self._with_system(row, shared or prompt)
        return PairRow(key_of(turns), *answers, *scores, prompts_differ=differ, prompt_text=plain_of(turns))

    def _single(self, row: Mapping[str, Any], prompt: list[Turn] | None, where: str) -> PairRow:
        """Reads a row of one answer, which is the side that its label says."""
        cell = self._side(row, "completion", where)
        turns = turns_of(cell)
        if prompt is None:
            turns = (dialogue_of(cell) if isinstance(cell, str) else None) or turns
            prompt, turns = asked_and_answered(turns or [])
        prompt, answer = self._with_system(row, prompt), answer_of(turns)
        good = _label(_cell(row, self.columns["label"]), where)
        sides = (answer if good else None, answer if good is False else None)
        unlabelled = answer if good is None else None
        return PairRow(
            *(key_of(prompt), *sides, None, None),
            prompt_text=plain_of(prompt),
            no_label=good is None,
            unlabelled=unlabelled,
        )

    def _side(self, row: Mapping[str, Any], role: str, where: str) -> Any:
        column = self.columns[role]
        cell = _cell(row, column)
        return one_answer(read_written(cell, column, where) if column in self.written else cell, column, where)

    def _prompt(self, row: Mapping[str, Any]) -> list[Turn] | None:
        name = self.columns.get("prompt")
        turns = None if name is None else turns_of(_cell(row, name))
        if turns is None:
            return None
        return [*turns, *(Turn("", text, False) for text in self._texts_beside(row, INPUT_NAMES))]

    def _with_system(self, row: Mapping[str, Any], turns: list[Turn] | None) -> list[Turn] | None:
        """Puts the system turn of a column in front, unless the turns begin with it."""
        if not turns:
            return turns
        system = [Turn("system", text, False) for text in self._texts_beside(row, SYSTEM_NAMES)]
        return [*(turn for turn in system if turn != turns[0]), *turns]

    def _texts_beside(self, row: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
        for name in names:
            if name in self.beside and (text := text_of(row.get(name))):
                yield text

    def _scores(
        self, row: Mapping[str, Any], sides: Sequence[Answer | None], where: str
    ) -> tuple[float | None, float | None]:
        if self.answers is None:
            cells = (_cell(row, self.columns.get(name, "")) for name in ("score_chosen", "score_rejected"))
            chosen, rejected = (parse_score(cell) for cell in cells)
            return chosen, rejected
        answers, scores = (read_written(row.get(name), name, where) for name in self.answers)
        if not isinstance(answers, list) or not isinstance(scores, list) or len(answers) != len(scores):
            return None, None
        known = {text: score for text, score in reversed(list(zip(answers, scores, strict=True))) if _is_text(text)}
        chosen, rejected = (None if side is None else parse_score(known.get(side.text)) for side in sides)
        return chosen, rejected


def shape_of(what: str, names: Sequence[str], cells: Cells, given: Mapping[str, str]) -> PairShape:
    """Recognises the layout of a table.

    Args:
        what: the table, for messages.
        names: its columns.
        cells: reads the cells of a column, in all rows; no more of them are read than tell the layout.
        given: role → column, where the user names it.

    Raises:
        InputError: it holds no pairs, or a column that the user names is not there.
    """
    for role, name in given.items():
        if role not in ROLES:
            raise InputError(
                f"{role!r} is not a known column role", valid=closest(role, ROLES), hint="--columns ROLE=NAME"
            )
        if name.partition(".")[0] not in names:
            raise InputError(f"{what} has no column {name!r} for the role {role!r}", valid=closest(name, names))
    usual = {role: _named(names_of, names, cells) for role, names_of in _COLUMNS.items() if role not in given}
    columns = {role: name for role, name in usual.items() if name is not None} | dict(given)
    unpaired = {"completion", "label"} <= columns.keys() and not {"chosen", "rejected"} <= columns.keys()
    if not unpaired and not {"chosen", "rejected"} <= columns.keys():
        raise _no_pairs(what, names)
    left_out = ("chosen", "rejected", "score_chosen", "score_rejected") if unpaired else ("completion", "label")
    columns = {role: name for role, name in columns.items() if role not in left_out}
    # As tables of answers have them: see `prefdata.tables.prompt_columns.PromptColumns`.
    parts = (*SYSTEM_NAMES, *INPUT_NAMES) if columns.get("prompt") == "instruction" else SYSTEM_NAMES
    beside = tuple(name for name in parts if name in names and name not in columns.values())
    lists = ("all_generated_responses", "all_rm_scores")
    answers = lists if not unpaired and set(lists) <= set(names) else None
    sides = [columns[role] for role in ("chosen", "rejected", "completion") if role in columns]
    written = frozenset(
        name for name in sides if answers_shown((parsed(cell), None) for cell in _at(name, cells)).in_text
    )
    return PairShape(what, _words(columns, cells, names), columns, beside, answers, written)


def _at(name: str, cells: Cells) -> Iterator[Any]:
    """Yields the cells of a column, or what a path leads to in them."""
    column = name.partition(".")[0]
    return (_cell({column: cell}, name) for cell in cells(column))


def _named(usual: Iterable[str], names: Sequence[str], cells: Cells) -> str | None:
    for name in usual:
        column, dot, _ = name.partition(".")
        # Objects need not have the same keys.
        if column in names and (not dot or any(cell is not None for cell in _at(name, cells))):
            return name
    return None


def _no_pairs(what: str, names: Sequence[str]) -> InputError:
    if any(name in names for name in ("response", "responses", "completions", "generations", "output")):
        return InputError(
            f"{what} holds answers, and no pairs of them",
            valid=_VALID,
            hint="prefdata pair TABLE --rule best_vs_worst --out DIR makes pairs of scored answers; or name the "
            "columns: --columns chosen=NAME,rejected=NAME",
        )
    return InputError(
        f"{what} has no columns of pairs: {', '.join(map(repr, names[:20]))}{' ...' if len(names) > 20 else ''}",
        valid=_VALID,
        hint="name them: --columns prompt=NAME,chosen=NAME,rejected=NAME",
    )


def _words(columns: Mapping[str, str], cells: Cells, names: Sequence[str]) -> str:
    if "completion" in columns:
        return "single answers with a label (KTO)"
    first = {
        role: next(filter(says, _at(columns[role], cells)), None) for role in ("prompt", "chosen") if role in columns
    }
    prompt, chosen = first.get("prompt"), parsed(first["chosen"])
    if "all_generated_responses" in names:
        return "Snorkel: pairs with all answers and their scores"
    if isinstance(chosen, Mapping):
        return "LLaMA-Factory" if "from" in chosen else "axolotl"
    if isinstance(chosen, list) and not isinstance(chosen[0], str):
        whole = len(chosen) > 1 and isinstance(chosen[0], Mapping)
        if whole and isinstance(prompt, str):
            return "whole conversations with the prompt as text (UltraFeedback binarized)"
        return "whole conversations" if whole else "TRL, conversational"
    if prompt is None:
        return "texts that hold their prompt"
    return "TRL, standard (texts)" if isinstance(prompt, str) else "texts with the prompt as messages"


def _cell(row: Mapping[str, Any], name: str) -> Any:
    value: Any = row
    for part in [name] if name in row else name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _label(cell: Any, where: str) -> bool | None:
    """Reads whether an answer is a better one; None where there is no label."""
    if not says(cell):
        return None
    known = parse_truth(cell)
    if known is None and isinstance(cell, str):
        known = _LABELS.get(cell.strip().lower())
    if known is None:
        raise InputError(
            f"{where}: the label {quoted(cell)} does not say whether the answer is a better one",
            valid=f"true or false, 1 or 0, {', '.join(_LABELS)}; nothing where there is no label",
            hint="write the labels as one of these, or name their column: --columns label=NAME",
        )
    return known


def _is_text(value: object) -> bool:
    return isinstance(value, str)
