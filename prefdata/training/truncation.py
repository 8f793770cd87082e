"""How the token ids of a pair are cut to a limit. Pure functions of three lists."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Pair", "add_marks", "cut", "cut_as_published"]

_Ids = list[int]


@dataclass(frozen=True)
class Pair:
    """Token ids of a prompt and of the two answers that continue it."""

    prompt: _Ids
    chosen: _Ids
    rejected: _Ids

    @property
    def length(self) -> int:
        """Tokens of the longer of the two sequences."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


def add_marks(pair: Pair, bos: int | None, eos: int | None, *, always: bool) -> Pair:
    """Puts BOS before the prompt and EOS after each answer.

    Args:
        pair: the ids.
        bos: None where the tokenizer has none.
        eos: None where the tokenizer has none.
        always: also where it is there already, as the published SPPO trainer does; otherwise as TRL 0.9.6 did.
    """

    def begun(ids: _Ids) -> _Ids:
        return ids if bos is None or (not always and ids[:1] == [bos]) else [bos, *ids]

    def ended(ids: _Ids) -> _Ids:
        return ids if eos is None or (not always and ids[-1:] == [eos]) else [*ids, eos]

    return Pair(begun(pair.prompt), ended(pair.chosen), ended(pair.rejected))


def cut_as_published(pair: Pair, max_length: int, max_prompt_length: int) -> Pair:
    """Cuts a pair by the rule of TRL 0.9.6 and of uclaml/SPPO.

    Where prompt and longer answer exceed `max_length`, the prompt keeps its last `max_prompt_length` tokens. Where they
    still exceed it, both answers keep their first `max_length` - `max_prompt_length` tokens, however short the prompt.
    """
    if pair.length <= max_length:
        return pair
    pair = Pair(pair.prompt[-max_prompt_length:], pair.chosen, pair.rejected)
    if pair.length <= max_length:
        return pair
    room = max_length - max_prompt_length
    return Pair(pair.prompt, pair.chosen[:room], pair.rejected[:room])


def cut(pair: Pair, max_length: int, max_prompt_length: int | None, *, keep: str) -> Pair:
    """Cuts a pair so that neither sequence exceeds `max_length`; see `Training.truncation`.

    Answers come out empty where the prompt fills the limit.

    Args:
        pair: the ids.
        max_length: most tokens of prompt and answer together.
        max_prompt_length: most tokens of the prompt; None sets no limit of its own.
        keep: `answer_start`, `prompt_end` or `as_published`.
    """
    limit = max_length if max_prompt_length is None else max_prompt_length
    if keep == "as_published":
        return cut_as_published(pair, max_length, limit)
    prompt = pair.prompt[-limit:]
    if keep == "prompt_end":
        room = max_length - max(len(pair.chosen), len(pair.rejected))
        # A prompt of which nothing was left would make the pair a different one; the answers then give way.
        prompt = prompt[-max(room, min(len(prompt), max_length // 2)) :]
    room = max(0, max_length - len(prompt))
    return Pair(prompt, pair.chosen[:room], pair.rejected[:room])
