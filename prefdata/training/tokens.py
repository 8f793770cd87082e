"""Turns rows of messages into token ids, once, before any trainer sees them.

A conversation is rendered by the model's chat template and never tokenised with a second BOS. The answer begins where
the ids of the prompt and those of prompt and answer part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from prefdata.errors import MissingExtraError, ModelError
from prefdata.lazy import pa
from prefdata.models.bounded import LimitError, bounded
from prefdata.models.chat import common_length, control_tokens, mark_id
from prefdata.models.template import reads_the_date, template_variables
from prefdata.tables.reasoning import parts_of
from prefdata.training.base import Training
from prefdata.training.options import Reason
from prefdata.training.preflight import Preflight
from prefdata.training.rows import Answers
from prefdata.training.truncation import Pair, add_marks, cut

__all__ = ["Encoder", "TokenRow", "check_same_ids", "load_tokenizer", "token_schema", "token_tables"]

_ROLES = frozenset(("system", "user", "assistant", "tool"))
_ROWS = 512
"""Rows that are tokenised together."""


@dataclass
class TokenRow:
    """What became of one row."""

    answers: Answers
    pair: Pair | None = None
    """The ids; None where the row is dropped."""
    reasons: list[Reason] = field(default_factory=list)
    """Why it is dropped, or what is remarkable about it."""


def load_tokenizer(folder: Path, *, chats: bool = True) -> Any:
    """Loads the tokenizer of a model folder.

    Args:
        folder: of the model.
        chats: whether it must have a chat template.

    Raises:
        MissingExtraError: transformers is not installed.
        ModelError: there is none, or it has no chat template.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingExtraError.of("training", "transformers", "train") from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"the model in {str(folder)!r} has no tokenizer that can be loaded: {error}") from error
    if chats and not tokenizer.chat_template:
        raise ModelError(
            f"the tokenizer in {str(folder)!r} has no chat template: this is a base model",
            hint="name the instruction-tuned model, or add a chat_template.jinja to a local folder",
        )
    return tokenizer


def check_same_ids(tokenizer: Any, model: str, folder: Path, reference: str) -> None:
    """Checks that a reference model reads the ids of another model's tokenizer as that model does.

    Files are not compared: those of a tokenizer that was saved again differ.

    Args:
        tokenizer: of the model.
        model: its name, for the message.
        folder: of the reference.
        reference: its name, for the message.

    Raises:
        ModelError: an id stands for another token there.
    """
    ours, theirs = tokenizer.get_vocab(), load_tokenizer(folder, chats=False).get_vocab()
    if ours == theirs:
        return
    differ = min(token for token in {*ours, *theirs} if ours.get(token) != theirs.get(token))
    raise ModelError(
        f"the reference {reference!r} has another tokenizer than {model!r}: the token {differ!r} has the id "
        f"{theirs.get(differ)} there, and {ours.get(differ)} here",
        valid="a reference model with the same tokenizer",
        hint="name the model that training starts from, or one that was trained from the same base",
    )


class Encoder:
    """Renders, tokenises and cuts rows for one training.

    Args:
        tokenizer: of the model that is trained, from `load_tokenizer`.
        training: says the limits and what is kept.

    Raises:
        ModelError: the chat template does not ask for an answer: it has no generation prompt.
    """

    def __init__(self, tokenizer: Any, training: Training) -> None:
        self._tokenizer, self._training = tokenizer, training
        arguments, date = training.chat_template_kwargs, training.template_date
        self._variables = template_variables(tokenizer.chat_template, arguments, date)
        prompt = [{"role": "user", "content": "Hello"}]
        if self._render(prompt, ask=True) == self._render(prompt, ask=False):
            raise ModelError(
                "the chat template has no generation prompt: it renders a prompt alike with and without it",
                valid="a template that acts on `add_generation_prompt`",
                hint="fix chat_template.jinja in the model's folder",
            )
        self._control = control_tokens(tokenizer)

    @property
    def reads_the_date(self) -> bool:
        """Whether the chat template asks for today's date."""
        return reads_the_date(self._tokenizer.chat_template)

    def encode(self, rows: Sequence[Answers]) -> list[TokenRow]:
        """Encodes some rows, in order."""
        done = [TokenRow(row, reasons=_refusal(row)) for row in rows]
        texts: list[str] = []
        for token_row in done:
            if not token_row.reasons:
                try:
                    texts += self._texts(token_row.answers)
                except ModelError:
                    raise
                except Exception:  # noqa: BLE001 - a template is a program that raises whatever its filters raise
                    token_row.reasons.append("template_failed")
        ids: Iterator[list[int]] = iter(self._tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else [])
        for token_row in done:
            if not token_row.reasons:
                count = 1 + len(token_row.answers.answers)
                self._finish(token_row, list(islice(ids, count)))
        return done

    def _render(self, messages: Sequence[Any], *, ask: bool) -> str:
        try:
            with bounded():
                text: str = self._tokenizer.apply_chat_template(
                    list(messages), tokenize=False, add_generation_prompt=ask, **self._variables
                )
        except LimitError as error:
            raise ModelError(
                f"the chat template of {self._training.model!r} never ends: {error}",
                hint="train another model, or a local folder with a chat_template.jinja of your own",
            ) from None
        return text

    def _texts(self, row: Answers) -> list[str]:
        return [self._render(row.prompt, ask=True)] + [
            self._render([*row.prompt, *answer], ask=False) for answer in row.answers
        ]

    def _finish(self, row: TokenRow, ids: list[list[int]]) -> None:
        training, prompt, wholes = self._training, ids[0], ids[1:]
        begins = min(common_length(prompt, whole) for whole in wholes)
        whole = Pair(prompt[:begins], wholes[0][begins:], wholes[-1][begins:] if len(wholes) > 1 else [])
        if training.add_marks != "none":
            bos, eos = mark_id(self._tokenizer, "bos"), mark_id(self._tokenizer, "eos")
            whole = add_marks(whole, bos, eos, always=training.add_marks == "always")
        pair = cut(whole, training.max_length, training.max_prompt_length, keep=training.truncation)
        sides = (pair.chosen, pair.rejected)[: len(wholes)]
        if not all(sides):
            row.reasons.append("prompt_fills")
        elif len(sides) == 2 and pair.chosen == pair.rejected:
            row.reasons.append("equal_after_cut")
        else:
            row.pair = pair
            row.reasons += self._remarks(row.answers, whole, pair, prefix=begins == len(prompt))

    def _remarks(self, row: Answers, whole: Pair, pair: Pair, *, prefix: bool) -> list[Reason]:
        bos = mark_id(self._tokenizer, "bos")
        texts = [turn["content"] for turns in (row.prompt, *row.answers) for turn in turns]
        thinking = {any(parts_of(turn["content"]).reasoned for turn in answer) for answer in row.answers}
        remarks: dict[Reason, bool] = {
            "two_bos": bos is not None and pair.prompt[:2] == [bos, bos],
            "prompt_not_prefix": not prefix,
            "answer_cut": (len(pair.chosen), len(pair.rejected)) != (len(whole.chosen), len(whole.rejected)),
            "prompt_cut": len(pair.prompt) < len(whole.prompt),
            "thinking_on_one_side": len(thinking) > 1,
            "control_tokens": any(token in text for text in texts for token in self._control),
        }
        return [reason for reason, holds in remarks.items() if holds]


def token_schema(columns: Sequence[str], *, paired: bool) -> pa.Schema:
    """Returns the schema of a file of token ids."""
    ids = pa.list_(pa.int32())
    sides = {"chosen_ids": ids, "rejected_ids": ids} if paired else {"completion_ids": ids, "label": pa.bool_()}
    numbers = dict.fromkeys(columns, pa.float64())
    fields = {"row": pa.int64(), "id": pa.string(), "prompt_ids": ids, **sides, "length": pa.int32(), **numbers}
    return pa.schema(list(fields.items()))


def token_tables(
    rows: Iterable[Answers], encoder: Encoder, preflight: Preflight, schema: pa.Schema, *, dropped: list[Any]
) -> Iterator[pa.Table]:
    """Encodes rows and yields those that are trained on, as tables of the schema.

    Args:
        rows: of one split.
        encoder: renders and cuts them.
        preflight: gets the counts.
        schema: from `token_schema`; says whether a row holds a pair.
        dropped: gets an object for each row that is not trained on: `row`, `id`, `reason`.
    """
    paired, remaining = "chosen_ids" in schema.names, iter(rows)
    while batch := list(islice(remaining, _ROWS)):
        kept: list[dict[str, Any]] = []
        for done in encoder.encode(batch):
            preflight.rows_in += 1
            preflight.count(done.answers.id, done.reasons)
            if done.pair is None:
                dropped.append({"row": done.answers.row, "id": done.answers.id, "reason": done.reasons[0]})
                continue
            preflight.rows_trained += 1
            preflight.longest = max(preflight.longest, done.pair.length)
            kept.append(_cells(done.answers, done.pair, paired=paired))
            preflight.tokens += sum(len(ids) for ids in (done.pair.chosen, done.pair.rejected))
            preflight.tokens += len(done.pair.prompt) * (2 if paired else 1)
        yield pa.Table.from_pylist(kept, schema)


def _cells(row: Answers, pair: Pair, *, paired: bool) -> dict[str, Any]:
    sides = (
        {"chosen_ids": pair.chosen, "rejected_ids": pair.rejected}
        if paired
        else {"completion_ids": pair.chosen, "label": row.label}
    )
    return {"row": row.row, "id": row.id, "prompt_ids": pair.prompt, **sides, "length": pair.length, **row.numbers}


def _refusal(row: Answers) -> list[Reason]:
    """The reason for which a row is not even rendered."""
    turns = [turn for turns in (row.prompt, *row.answers) for turn in turns]
    if any(turn["role"] not in _ROLES for turn in turns):
        return ["unknown_role"]
    if row.prompts_differ:
        return ["prompts_differ"]
    if not row.prompt or not all(any(turn["content"].strip() for turn in answer) for answer in row.answers):
        return ["empty_side"]
    if any(number is None for number in row.numbers.values()):
        return ["no_number"]
    return []
