"""`PairRM`: a ranker that reads two answers at once and says which one is better."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator

from prefdata.errors import ConservationError
from prefdata.models import model_name
from prefdata.records import Answers, Comparison, Message, Score, Scored
from prefdata.scoring._worker_model import Ranker, compared, cut_detail
from prefdata.spec import JSON, Context
from prefdata.worker import stream

__all__ = ["PairRM", "conversation_texts"]

_WORKER = "prefdata.scoring._pair_rm_worker"
_WINDOW = 16
"""Prompts whose pairs are sorted by length together."""
_INSTRUCTION = "Finish the following coversation in each i-th turn by filling in <Response i> with your response."
"""As PairRM was trained with, the slip of the pen included."""


class PairRM(Ranker):
    """The pair ranker of LLM-Blender: DeBERTa-v3 reads a prompt with two answers, for every ordered pair of answers.

    With s_ij the logit for answer i as the first and j as the second one, a candidate's score is the mean over the
    prompt's K answers, itself with 0 among them, of s_ij - s_ji, as `Blender.rank` gives it. Each s_ij is a comparison
    of its own, with log-odds s_ij. K answers take K (K - 1) passes.

    Answers that can't be read (`control_tokens`, `too_long`) are unscored and leave the other answers' K.

    Source: LLM-Blender paper, arXiv 2306.02561; blender.py, collator.py and pairrm.py of
    github.com/yuchenlin/LLM-Blender; card of llm-blender/PairRM-hf.
    """

    kind: Literal["pair_rm"] = "pair_rm"
    model: Annotated[str, Field(min_length=1)] = "llm-blender/PairRM-hf"
    """A local folder or a Hub id with the tensors of llm-blender/PairRM-hf and a tokenizer.json."""
    source_max_length: Annotated[int, Field(ge=4)] = 1224
    """Most tokens of the prompt, its three special ones included; what it leaves unused goes to the answers."""
    candidate_max_length: Annotated[int, Field(ge=4)] = 412
    """Most tokens of each answer beside a prompt of full length."""
    prompt_form: str = "{prompt}"
    """How a prompt of one turn is written. SPPO gave the text of the policy's chat template, for Mistral
    `<s>[INST] {prompt} [/INST]`; Snorkel the prompt itself."""

    @field_validator("prompt_form")
    @classmethod
    def _holds_the_prompt(cls, form: str) -> str:
        if form.count("{prompt}") != 1:
            raise ValueError("write {prompt} once, where the prompt stands")
        return form

    def score(self, tasks: Iterable[Answers], context: Context) -> Iterator[Scored]:
        """Compares each prompt's answers; see `Scorer.score`. Counts `truncated` answers and `truncated_prompts`.

        Reasons for being unscored, and for comparisons to be undecided: `control_tokens`, `too_long`, `not_finite`, and
        `conversation_shape` for a prompt whose turns don't go from user to assistant and back.

        Raises:
            ModelError: the model can't be found or loaded, or is no such ranker.
            MissingExtraError: a package is not installed.
        """
        for problem in self.problems():
            raise problem
        waiting: dict[int, Answers] = {}
        finished: deque[Scored] = deque()

        def items() -> Iterator[dict[str, JSON]]:
            for number, answers in enumerate(tasks):
                responses = [candidate.response for candidate in answers.candidates]
                texts = conversation_texts(answers.prompt.messages, responses, self.prompt_form)
                if not responses:
                    finished.append(Scored(answers.prompt.prompt_id, ()))
                elif texts is None:
                    roles = ", ".join(message["role"] for message in answers.prompt.messages)
                    failed = {"failure": "conversation_shape", "detail": f"turns of {roles}"}
                    finished.append(_scored(answers, failed))
                else:
                    waiting[number] = answers
                    yield {"key": number, "source": texts[0], "answers": texts[1]}

        config = {**self._config(context), "window": _WINDOW}
        config |= {"source_max_length": self.source_max_length, "candidate_max_length": self.candidate_max_length}
        name = f"the ranker {model_name(self.model)!r}"
        for result in stream(_WORKER, config, items(), in_flight=2 * _WINDOW, env=self._environment(), name=name):
            answers = waiting.pop(result["key"])
            _count(result, context)
            yield _scored(answers, result)
            while finished:
                yield finished.popleft()
        yield from finished
        if waiting:
            raise ConservationError(f"{name} left out {len(waiting)} prompts")


def conversation_texts(
    messages: Sequence[Message], responses: Sequence[str], form: str = "{prompt}"
) -> tuple[str, list[str]] | None:
    """The prompt and each answer as PairRM reads them; None where the turns don't alternate.

    A prompt of one turn stands as it is, or in `form`. A longer conversation has its user turns in the prompt, with a
    numbered gap for each turn of the assistant, and every text that fills a gap in the answer
    (`Blender.compare_conversations`). A system message stands before either, on a line of its own, which is ours:
    LLM-Blender has none.
    """
    turns = list(messages)
    system = turns.pop(0)["content"] + "\n" if turns and turns[0]["role"] == "system" else ""
    roles = ["user", "assistant"] * len(turns)
    if len(turns) % 2 == 0 or [turn["role"] for turn in turns] != roles[: len(turns)]:
        return None
    if len(turns) == 1:
        return form.replace("{prompt}", system + turns[0]["content"]), list(responses)
    gaps = [f"USER: {turn['content']}\nAssistant: <Response {n}>" for n, turn in enumerate(turns[::2], 1)]
    filled = [f"<Response {n}>: {turn['content']}" for n, turn in enumerate(turns[1::2], 1)]
    answers = ["\n".join([*filled, f"<Response {len(gaps)}>: {response}"]) for response in responses]
    return system + _INSTRUCTION + "\n".join(gaps), answers


def _count(result: dict[str, JSON], context: Context) -> None:
    if "prompt_truncated_from" in result:
        context.counted("truncated_prompts", 1)
    if truncated := sum("truncated_from" in answer for answer in result.get("answers", ())):
        context.counted("truncated", truncated)


def _scored(answers: Answers, result: dict[str, JSON]) -> Scored:
    """Scores and comparisons of one prompt from its table of logits, in which null is not finite or not compared."""
    candidates = answers.candidates
    each: list[dict[str, JSON]] = result.get("answers") or [result] * len(candidates)
    failures: list[str | None] = [one.get("failure") for one in each]
    read = [place for place, failure in enumerate(failures) if failure is None]
    table = result.get("logits", ())
    scores, comparisons = [], list[Comparison]()
    for i, candidate in enumerate(candidates):
        won = [] if failures[i] else [_margin(table, i, j) for j in read if j != i]
        known = [margin for margin in won if margin is not None]
        lost = failures[i] or ("not_finite" if len(known) < len(won) else None)
        score = None if lost else math.fsum(known) / len(read)
        detail = each[i].get("detail") or cut_detail(each[i])
        scores.append(Score(candidate.prompt_id, candidate.source, candidate.index, score, lost, detail))
        for j, other in enumerate(candidates):
            if j != i:
                failure = failures[i] or failures[j]
                log_odds = None if failure else table[i][j]
                undecided = failure or ("not_finite" if log_odds is None else None)
                comparisons.append(compared(candidate, other, log_odds, undecided))
    return Scored(answers.prompt.prompt_id, tuple(scores), tuple(comparisons))


def _margin(table: Sequence[Sequence[float | None]], i: int, j: int) -> float | None:
    """s_ij - s_ji; None where one of them is not finite."""
    one, other = table[i][j], table[j][i]
    return None if one is None or other is None else one - other
