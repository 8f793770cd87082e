"""`SnorkelLayout`: the columns and splits of snorkelai/Snorkel-Mistral-PairRM-DPO-Dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from prefdata.dataset.base import Layout
from prefdata.errors import ConservationError
from prefdata.lazy import pa
from prefdata.records import Message
from prefdata.spec.marks import Harmless

__all__ = ["SnorkelLayout", "prompt_text"]


class SnorkelLayout(Layout):
    """Columns `prompt_id`, `prompt`, `chosen`, `rejected`, `all_generated_responses`, `all_rm_scores`, and no others.

    `prompt` is a text: the content of a prompt's one user turn; for longer conversations see `prompt_text`.
    `chosen` and `rejected` are lists of two messages, the user's with exactly that text and the assistant's.
    `all_generated_responses` holds the prompt's answers in the order (source, index), `all_rm_scores` their scores in
    the same order, null for an answer without a score.

    TRL reads it without the column `prompt` (`dataset.remove_columns("prompt")`): it takes the common beginning of
    the two sides as the prompt, and refuses a text together with lists of messages.

    Source: the dataset's card and viewer page.
    """

    kind: Literal["snorkel"] = "snorkel"
    iteration: Annotated[Literal[1, 2, 3], Harmless] = 1
    """Names the splits: `train_iteration_1` and `test_iteration_1`, and so on."""

    @property
    def train_split(self) -> str:
        """Name: see `Layout.train_split`."""
        return f"train_iteration_{self.iteration}"

    @property
    def test_split(self) -> str:
        """Name: see `Layout.test_split`."""
        return f"test_iteration_{self.iteration}"

    @property
    def traced(self) -> bool:
        """False: the columns are those of the published dataset."""
        return False

    @property
    def needs_answers(self) -> bool:
        """True: two columns hold all answers and their scores."""
        return True

    def rows(self, pairs: pa.Table, prompts: pa.Table, answers: pa.Table | None = None) -> pa.Table:
        """Makes the rows: see `Layout.rows`."""
        from prefdata.tables.schemas import MESSAGES

        if answers is None:
            raise ConservationError("dataset: the layout 'snorkel' needs the answers, and none were passed")
        texts = {
            prompt_id: prompt_text(messages)
            for prompt_id, messages in zip(
                prompts["prompt_id"].to_pylist(), prompts["messages"].to_pylist(), strict=True
            )
        }
        responses, scores = _by_prompt(answers)
        ids: list[str] = pairs["prompt_id"].to_pylist()
        sides = {
            side: [_dialogue(texts[key], text) for key, text in zip(ids, pairs[column].to_pylist(), strict=True)]
            for side, column in (("chosen", "response_chosen"), ("rejected", "response_rejected"))
        }
        columns = {
            "prompt_id": pa.array(ids, pa.string()),
            "prompt": pa.array([texts[key] for key in ids], pa.string()),
            "chosen": pa.array(sides["chosen"], MESSAGES),
            "rejected": pa.array(sides["rejected"], MESSAGES),
            "all_generated_responses": pa.array([responses[key] for key in ids], pa.list_(pa.string())),
            "all_rm_scores": pa.array([scores[key] for key in ids], pa.list_(pa.float64())),
        }
        return pa.table(columns)


def prompt_text(messages: Sequence[Message]) -> str:
    """Writes a conversation as one text.

    One user turn is its content. Anything longer has one paragraph a turn, `USER: ...`, `ASSISTANT: ...`,
    `SYSTEM: ...` (roles in upper case, as in PairRM's form of conversations), with a blank line between.
    """
    if len(messages) == 1 and messages[0]["role"] == "user":
        return messages[0]["content"]
    return "\n\n".join(f"{message['role'].upper()}: {message['content']}" for message in messages)


def _dialogue(prompt: str, answer: str) -> list[Message]:
    return [Message(role="user", content=prompt), Message(role="assistant", content=answer)]


def _by_prompt(answers: pa.Table) -> tuple[dict[str, list[str]], dict[str, list[float | None]]]:
    responses: dict[str, list[str]] = {}
    scores: dict[str, list[float | None]] = {}
    columns = (answers[name].to_pylist() for name in ("prompt_id", "response", "score"))
    for prompt_id, response, score in zip(*columns, strict=True):
        responses.setdefault(prompt_id, []).append(response)
        scores.setdefault(prompt_id, []).append(score)
    return responses, scores
