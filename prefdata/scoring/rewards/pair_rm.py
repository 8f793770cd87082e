"""Defines `PairRM`, a ranker that reads two answers at once and compares them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from typing import Annotated, Literal

from pydantic import Field, field_validator

from prefdata.records import Answers, Message, Scored
from prefdata.scoring.rewards._ranking import ranked, recompute_ranking
from prefdata.scoring.rewards._worker_model import Ranker, cut_detail, with_prompt
from prefdata.spec import JSON, Context
from prefdata.spec.marks import MODEL, Harmless

__all__ = ["PairRM", "conversation_texts"]

_INSTRUCTION = "Finish the following coversation in each i-th turn by filling in <Response i> with your response."
"""The instruction with which PairRM was trained, with its misspelling."""


class PairRM(Ranker):
    """The pair ranker of LLM-Blender: DeBERTa-v3 reads a prompt with two answers, for every ordered pair of answers.

    With s_ij the logit for answer i as the first and j as the second one, a candidate's score is the mean of
    s_ij - s_ji over the prompt's K answers, including itself with 0, like the scores of `Blender.rank`. Each s_ij is a
    comparison of its own, with log-odds s_ij. K answers take K (K - 1) passes.

    Answers that can't be read (`control_tokens`, `too_long`) are unscored and do not count in the other answers' K.
    Other reasons for being unscored, and for comparisons to be undecided, are `not_finite`, and `conversation_shape`
    for a prompt whose turns do not alternate between user and assistant. Counts `truncated` answers and
    `truncated_prompts`.

    Source: LLM-Blender paper, arXiv 2306.02561; blender.py, collator.py and pairrm.py of
    github.com/yuchenlin/LLM-Blender; card of llm-blender/PairRM-hf.
    """

    kind: Literal["pair_rm"] = "pair_rm"
    model: Annotated[str, MODEL, Field(min_length=1)] = "llm-blender/PairRM-hf"
    """A local folder or a Hub id with the tensors of llm-blender/PairRM-hf and a tokenizer.json."""
    source_max_length: Annotated[int, Harmless, Field(ge=4)] = 1224
    """Most tokens of the prompt, its three special ones included; tokens that it leaves unused go to the answers."""
    candidate_max_length: Annotated[int, Harmless, Field(ge=4)] = 412
    """Most tokens of each answer, its three special ones included, if the prompt has its full length."""
    prompt_form: Annotated[str, Harmless] = "{prompt}"
    """How a prompt of one turn is written; holds `{prompt}` once. SPPO used the text of the policy's chat template, for
    Mistral `<s>[INST] {prompt} [/INST]`; Snorkel used the prompt itself."""

    @field_validator("prompt_form")
    @classmethod
    def _holds_the_prompt(cls, form: str) -> str:
        return with_prompt(form)

    def _worker(self) -> str:
        return "prefdata.scoring.rewards._pair_rm_worker"

    def _config(self, context: Context) -> dict[str, JSON]:
        limits = {"source_max_length": self.source_max_length, "candidate_max_length": self.candidate_max_length}
        return {**super()._config(context), **limits}

    def _texts(self, answers: Answers) -> list[dict[str, JSON]]:
        responses = [candidate.response for candidate in answers.candidates]
        texts = conversation_texts(answers.prompt.messages, responses, self.prompt_form)
        return [{"source": texts[0], "answers": texts[1]}] if texts and responses else []

    def _scored(self, answers: Answers, results: Mapping[int, JSON], context: Context) -> Scored:
        if 0 in results:
            _count(results[0], context)
            return _from_logits(answers, results[0])
        roles = ", ".join(message["role"] for message in answers.prompt.messages)
        return _from_logits(answers, {"failure": "conversation_shape", "detail": f"turns of {roles}"})

    def recompute(self, answers: Answers, recorded: Scored, context: Context) -> Scored:
        """Recomputes scores and probabilities from the log-odds; see `Scorer.recompute`."""
        # `not_finite` is a state of a comparison: its answers could be read.
        failures = [None if score.unscored == "not_finite" else score.unscored for score in recorded.scores]
        return recompute_ranking(answers, failures, _orders(answers), recorded)


def conversation_texts(
    messages: Sequence[Message], responses: Sequence[str], form: str = "{prompt}"
) -> tuple[str, list[str]] | None:
    """Writes the prompt and each answer in the form that PairRM reads; returns None if the turns don't alternate.

    A prompt of one turn is written by `form`. Of a longer conversation, the prompt has the user turns, with a numbered
    gap for each turn of the assistant, and the answer has every text that fills a gap, as in
    `Blender.compare_conversations`. A system message comes before either, on a line of its own: LLM-Blender has no form
    for it, so this one is ours.
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


def _from_logits(answers: Answers, result: dict[str, JSON]) -> Scored:
    """Computes scores and comparisons of one prompt from its table of logits; null is not finite or not compared."""
    each: list[dict[str, JSON]] = result.get("answers") or [result] * len(answers.candidates)
    details = [one.get("detail") or cut_detail(one) for one in each]
    logits = {(i, j): logit for i, row in enumerate(result.get("logits", ())) for j, logit in enumerate(row)}
    return ranked(answers, [one.get("failure") for one in each], _orders(answers), logits, details)


def _orders(answers: Answers) -> Iterator[tuple[int, int]]:
    """Lists the indices of every two candidates, in both orders."""
    return permutations(range(len(answers.candidates)), 2)
