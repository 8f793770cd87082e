"""`PairRM`: a ranker that reads two answers at once and says which one is better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from prefdata.records import Answers, Message, Scored
from prefdata.scoring.rewards._ranking import ranked, recompute_ranking
from prefdata.scoring.rewards._worker_model import Ranker, cut_detail
from prefdata.spec import JSON, Context

__all__ = ["PairRM", "conversation_texts"]

_INSTRUCTION = "Finish the following coversation in each i-th turn by filling in <Response i> with your response."
"""As PairRM was trained with, the slip of the pen included."""


class PairRM(Ranker):
    """The pair ranker of LLM-Blender: DeBERTa-v3 reads a prompt with two answers, for every ordered pair of answers.

    With s_ij the logit for answer i as the first and j as the second one, a candidate's score is the mean over the
    prompt's K answers, itself with 0 among them, of s_ij - s_ji, as `Blender.rank` gives it. Each s_ij is a comparison
    of its own, with log-odds s_ij. K answers take K (K - 1) passes.

    Answers that can't be read (`control_tokens`, `too_long`) are unscored and leave the other answers' K. Reasons for
    being unscored, and for comparisons to be undecided, are also `not_finite`, and `conversation_shape` for a prompt
    whose turns don't go from user to assistant and back. Counted: `truncated` answers and `truncated_prompts`.

    Source: LLM-Blender paper, arXiv 2306.02561; blender.py, collator.py and pairrm.py of
    github.com/yuchenlin/LLM-Blender; card of llm-blender/PairRM-hf.
    """

    group: ClassVar[int] = 16
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

    def _worker(self) -> str:
        return "prefdata.scoring.rewards._pair_rm_worker"

    def _config(self, context: Context) -> dict[str, JSON]:
        limits = {"source_max_length": self.source_max_length, "candidate_max_length": self.candidate_max_length}
        return {**super()._config(context), **limits}

    def _texts(self, answers: Answers) -> list[dict[str, JSON]]:
        responses = [candidate.response for candidate in answers.candidates]
        texts = conversation_texts(answers.prompt.messages, responses, self.prompt_form)
        return [{"source": texts[0], "answers": texts[1]}] if texts and responses else []

    def _said(self, answers: Answers, results: Mapping[int, JSON], context: Context) -> Scored:
        if 0 in results:
            _count(results[0], context)
            return _scored(answers, results[0])
        roles = ", ".join(message["role"] for message in answers.prompt.messages)
        return _scored(answers, {"failure": "conversation_shape", "detail": f"turns of {roles}"})

    def recompute(self, answers: Answers, said: Scored, context: Context) -> Scored:
        """Scores and probabilities from the log-odds; see `Scorer.recompute`."""
        # Of this model's output a comparison is not finite, never an answer, which then was read.
        failures = [None if score.unscored == "not_finite" else score.unscored for score in said.scores]
        return recompute_ranking(answers, failures, _orders(answers), said)


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
    each: list[dict[str, JSON]] = result.get("answers") or [result] * len(answers.candidates)
    details = [one.get("detail") or cut_detail(one) for one in each]
    logits = {(i, j): logit for i, row in enumerate(result.get("logits", ())) for j, logit in enumerate(row)}
    return ranked(answers, [one.get("failure") for one in each], _orders(answers), logits, details)


def _orders(answers: Answers) -> Iterator[tuple[int, int]]:
    """Places of every two candidates, in both orders."""
    return permutations(range(len(answers.candidates)), 2)
