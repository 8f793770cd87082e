"""Defines `PairwiseJudge`, a language model that says which of two answers is better, asked in both orders."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field, model_validator

from prefdata.records import Answers, Candidate, Comparison, Generation, Request, Score, Scored
from prefdata.scoring.judges._base import RubricJudge
from prefdata.scoring.judges._judge_prompt import JudgePrompt, render
from prefdata.scoring.judges._questions import Questions, ask
from prefdata.scoring.judges._reply import (
    UnreadableError,
    closed,
    first_word,
    justification_in,
    label_shares,
    object_in,
    short,
    text_of,
    value_of,
    verdict_of,
)
from prefdata.spec import JSON, Context, derive_seed
from prefdata.spec.marks import Harmless

__all__ = ["PairwiseJudge"]

_RUBRIC = """\
Two answers to the last message of the conversation below follow it. Say which one serves the person who wrote that \
message better.
Look at these in turn: does it do what was asked, all of it and nothing else; is everything in it correct; is it \
clear, well ordered and no longer than it has to be. A mistake that would mislead the reader weighs more than a gap, \
and a gap more than a matter of style. Neither length nor a confident tone is a merit, and it means nothing which \
answer comes first."""

_OBJECT = 'Reply with one JSON object and nothing else: "winner", which is {winners}.'
_JUSTIFIED = (
    'Reply with one JSON object and nothing else: "justification", one short sentence on what tells the two apart, and '
    'then "winner", which is {winners}.'
)
_BARE = "Reply with one letter and nothing else: {letters}."

_DECIMALS = 12
_SUREST = 1e-6
"""Least probability of either side in an expected comparison, so that its log-odds are finite."""


class _Match(NamedTuple):
    """Two candidates that are compared, in their total order."""

    a: Candidate
    b: Candidate

    @property
    def same(self) -> bool:
        return self.a.response == self.b.response


class PairwiseJudge(RubricJudge):
    """A judge that compares two answers at a time, each pair in both orders.

    A pair whose orders agree is decided: P(a beats b) is 1, 0, or 0.5 for a tie that both orders called. Orders that
    disagree leave the pair undecided (`disagreement`), which is a state and not a tie. A reply that can't be read
    leaves it undecided too, with its own reason. Two equal texts are a tie, without a request.

    With `expected`, P is the probability of the label as the reply's first token, the mean over both orders, which
    cancels a preference for a position. A candidate's score is its win rate over the pairs that are decided.
    """

    n_shown: ClassVar[int] = 2
    kind: Literal["pairwise_judge"] = "pairwise_judge"
    rubric: Annotated[str, Harmless, Field(pattern=r"\S")] = _RUBRIC
    """Criteria for the better of two answers, as instructions for the judge. The form of the reply is added."""
    ties: Annotated[bool, Harmless] = True
    """Whether the judge may call a tie."""
    against: Annotated[str | None, Harmless] = None
    """The source of a baseline: every other answer is compared with that source's answers only. None compares with all
    answers."""
    neighbours: Annotated[Annotated[int, Field(ge=1)] | None, Harmless] = None
    """The answers are put into a ring drawn from the seed, and each is compared with this many next to it on either
    side: 2 K requests a neighbour for K answers. None compares all pairs: K (K - 1) requests."""
    self_term: Annotated[bool, Harmless] = True
    """Counts half a win against itself in each win rate, as `win_rates` and SPPO do, so of two perfect records the
    longer one is better."""
    expected: Annotated[bool, Harmless] = False
    """Compares by the probabilities of the labels as the reply's first token; needs an engine that gives
    log-probabilities. A reply is then one letter."""

    @model_validator(mode="after")
    def _options_agree(self) -> PairwiseJudge:
        if self.against is not None and self.neighbours is not None:
            raise ValueError("against and neighbours both choose which answers are compared: leave one of them out")
        if self.expected and (self.justify or self.temperature):
            raise ValueError("expected comparisons are read from one letter, drawn greedily: no justify, temperature 0")
        return self

    @property
    def compares(self) -> Literal["probability", "log_odds"]:
        """`log_odds` with `expected`, else `probability`: the log-odds of verdicts are not finite."""
        return "log_odds" if self.expected else "probability"

    def requests(self, answers: Answers, context: Context) -> tuple[Request, ...]:
        """Returns the requests that compare one prompt's candidates: both orders of each pair, one after the other."""
        different = [match for match in self._matches(answers, context.seed) if not match.same]
        orders = [order for a, b in different for order in ((a, b), (b, a))]
        return tuple(self._request(answers.prompt, order, context) for order in orders)

    def score(self, tasks: Iterable[Answers], context: Context) -> Iterator[Scored]:
        """Compares each prompt's candidates; see `Scorer.score`.

        Yields one `Comparison` for each unordered pair. Reasons for being undecided: `disagreement`, `unparsed`,
        `missing`, `duplicate_key`, `cut_off`, with `expected` also `no_logprobs` and `low_mass`, or the generator's
        reason for giving no reply. A candidate without a decided comparison is unscored: `no_comparison`.

        Counts `orders_agree` and `orders_disagree`, whose shares are the judge's agreement with itself.

        Raises:
            ConservationError: the generator answered a request that it was not sent, or left one out.
        """

        def questions(answers: Answers) -> Questions:
            def read(replies: Sequence[Generation]) -> Scored:
                return self._scored(answers, replies, context)

            return Questions(answers.prompt.prompt_id, self.requests(answers, context), read)

        return ask(map(questions, tasks), self.generator, self._decoding(), context)

    def recompute(self, answers: Answers, recorded: Scored, context: Context) -> Scored:
        """Recomputes win rates from the comparisons, and which candidates are compared; see `Scorer.recompute`."""
        by_pair = {((c.source_a, c.index_a), (c.source_b, c.index_b)): c for c in recorded.comparisons}
        comparisons = []
        for match in self._matches(answers, context.seed):
            comparison = by_pair.get((_name(match.a), _name(match.b)))
            if match.same:
                comparisons.append(self._tie(match))
            elif comparison is None:
                comparisons.append(_comparison(match, None, undecided="unparsed"))
            else:
                comparisons.append(self._possible(comparison))
        scores = tuple(self._win_rate(candidate, comparisons) for candidate in answers.candidates)
        return Scored(answers.prompt.prompt_id, scores, tuple(comparisons))

    def _tie(self, match: _Match) -> Comparison:
        return _comparison(match, 0.5, 0.0 if self.expected else None, detail="the two texts are the same")

    def _possible(self, comparison: Comparison) -> Comparison:
        """Returns the nearest comparison that this judge can have made."""
        p = comparison.probability
        if p is None:
            return replace(comparison, log_odds=None)
        if not self.expected:
            verdicts = (0.0, 0.5, 1.0) if self.ties else (0.0, 1.0)
            return replace(comparison, probability=min(verdicts, key=lambda verdict: abs(verdict - p)), log_odds=None)
        p = min(max(p, _SUREST), 1 - _SUREST)
        log_odds = math.log(p / (1 - p))
        # The odds were computed before the probability was rounded.
        odds = comparison.log_odds
        agree = odds is not None and abs(odds - log_odds) * p * (1 - p) < 10**-_DECIMALS
        return replace(comparison, probability=p, log_odds=odds if agree else round(log_odds, _DECIMALS))

    def _matches(self, answers: Answers, seed: int) -> list[_Match]:
        """Lists the pairs that are compared, sorted by the names of both."""
        prompt_id, candidates = answers.prompt.prompt_id, sorted(answers.candidates, key=_name)
        matches = [_Match(a, b) for a, b in combinations(candidates, 2)]
        if self.against is not None:
            return [match for match in matches if (match.a.source == self.against) != (match.b.source == self.against)]
        if self.neighbours is None:
            return matches
        ring = sorted(candidates, key=lambda one: (derive_seed(seed, prompt_id, "judge-ring", *_name(one)), _name(one)))
        position = {_name(one): number for number, one in enumerate(ring)}
        steps = [abs(position[_name(match.a)] - position[_name(match.b)]) for match in matches]
        near = [min(distance, len(ring) - distance) <= self.neighbours for distance in steps]
        return [match for match, kept in zip(matches, near, strict=True) if kept]

    def _text(self, judge_prompt: JudgePrompt) -> str:
        if self.expected:
            letters = "A or B for the better answer" + (", C for a tie" if self.ties else "")
            return render(judge_prompt, self.rubric, _BARE.format(letters=letters))
        winners = '"A", "B", or "tie" when neither is better' if self.ties else '"A" or "B"'
        return render(judge_prompt, self.rubric, (_JUSTIFIED if self.justify else _OBJECT).format(winners=winners))

    def _schema(self) -> dict[str, JSON] | None:
        if self.expected:
            return None
        winner = {"type": "string", "enum": ["A", "B", "tie"] if self.ties else ["A", "B"]}
        return closed({"justification": {"type": "string"}, "winner": winner} if self.justify else {"winner": winner})

    def _scored(self, answers: Answers, replies: Sequence[Generation], context: Context) -> Scored:
        waiting = iter(replies)
        comparisons = []
        for match in self._matches(answers, context.seed):
            if match.same:
                comparisons.append(self._tie(match))
            else:
                comparisons.append(self._compared(match, next(waiting), next(waiting), context))
        scores = tuple(self._win_rate(candidate, comparisons) for candidate in answers.candidates)
        return Scored(answers.prompt.prompt_id, scores, tuple(comparisons))

    def _compared(self, match: _Match, first: Generation, second: Generation, context: Context) -> Comparison:
        """Merges the replies to the two orders of a pair: `first` showed a before b, `second` b before a."""
        verdicts: list[tuple[float, str]] = []
        errors: list[UnreadableError] = []
        for reply in (first, second):
            try:
                verdicts.append(self._expectation(reply) if self.expected else self._verdict(reply))
            except UnreadableError as error:
                errors.append(error)
        if errors:
            detail = " | ".join(dict.fromkeys(f"{error.reason}: {error.detail}" for error in errors))
            return _comparison(match, None, undecided=errors[0].reason, detail=detail)
        p, q = verdicts[0][0], 1 - verdicts[1][0]
        agree = (p > 0.5) == (q > 0.5) and (p < 0.5) == (q < 0.5)
        context.counted("orders_agree" if agree else "orders_disagree", 1)
        if self.expected:
            mean = min(max((p + q) / 2, _SUREST), 1 - _SUREST)
            return _comparison(match, round(mean, _DECIMALS), round(math.log(mean / (1 - mean)), _DECIMALS))
        justifications = " | ".join(text for _, text in verdicts if text)
        if not agree:
            summary = f"{_verdict_in_words(p)}; the other way round {_verdict_in_words(q)}"
            return _comparison(
                match, None, undecided="disagreement", detail=" | ".join(filter(None, [summary, justifications]))
            )
        return _comparison(match, p, detail=justifications)

    def _verdict(self, reply: Generation) -> tuple[float, str]:
        """Reads P(the answer shown first is better), and the justification."""
        verdict = object_in(text_of(reply, self.max_tokens))
        winner = value_of(verdict, "winner")
        chances = {"A": 1.0, "B": 0.0, **({"tie": 0.5} if self.ties else {})}
        if not isinstance(winner, str) or winner not in chances:
            raise UnreadableError("unparsed", f"{short(winner)} is none of {', '.join(chances)}")
        return chances[winner], justification_in(verdict) if self.justify else ""

    def _expectation(self, reply: Generation) -> tuple[float, str]:
        """Reads P(the answer shown first is better); a tie counts half."""
        labels = ["A", "B", "C"] if self.ties else ["A", "B"]
        shares = label_shares(reply, labels, self.min_mass, self.generator.thinking_marks)
        line = verdict_of(reply).strip().partition("\n")[0]
        # "A thorough comparison ..." begins with the token of the label A.
        if first_word(line) not in labels or len(line.split()) > 1:
            raise UnreadableError("unparsed", f"{line[:80]!r} is not a single letter of {', '.join(labels)}")
        return shares["A"] + shares.get("C", 0.0) / 2, ""

    def _win_rate(self, candidate: Candidate, comparisons: Sequence[Comparison]) -> Score:
        name = _name(candidate)
        wins: list[float] = []
        undecided = Counter[str]()
        for comparison in comparisons:
            a, b = (comparison.source_a, comparison.index_a), (comparison.source_b, comparison.index_b)
            if name in (a, b):
                if comparison.probability is None:
                    undecided[comparison.undecided or ""] += 1
                else:
                    wins.append(comparison.probability if name == a else 1 - comparison.probability)
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(undecided.items()))
        if not wins:
            detail = f"all undecided: {reasons}" if reasons else "no other candidate to compare with"
            return Score(candidate.prompt_id, *name, None, "no_comparison", detail)
        own = [0.5] if self.self_term else []
        rate = math.fsum([*wins, *own]) / (len(wins) + len(own))
        detail = f"undecided: {reasons}" if reasons else ""
        return Score(candidate.prompt_id, *name, round(rate, _DECIMALS), None, detail)


def _name(candidate: Candidate) -> tuple[str, int]:
    return candidate.source, candidate.index


def _verdict_in_words(p: float) -> str:
    return {1.0: "a is better", 0.0: "b is better"}.get(p, "a tie")


def _comparison(
    match: _Match,
    probability: float | None,
    log_odds: float | None = None,
    *,
    undecided: str | None = None,
    detail: str = "",
) -> Comparison:
    a, b = match
    return Comparison(
        a.prompt_id, a.source, a.index, b.source, b.index, probability, log_odds, undecided=undecided, detail=detail
    )
