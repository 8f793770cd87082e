"""`Scorer.recompute` gives back what the scorer said, whatever that was."""

from __future__ import annotations

import random
from typing import Any

import pytest
from scripted import Scripted, places, says, scored_by, task, worths

from prefdata.records import Comparison, Generation, Request, Score, Scored
from prefdata.scoring import BaselineScorer, Ensemble, PairRM, PairwiseJudge
from prefdata.scoring.rewards.pair_rm import _from_logits
from prefdata.spec import Context


class Judge(PairwiseJudge):
    generator: Scripted = Scripted()


def without_details(scored: Scored) -> tuple[list[tuple[Any, ...]], tuple[Comparison, ...]]:
    return [(s.source, s.index, s.score, s.unscored) for s in scored.scores], scored.comparisons


@pytest.mark.parametrize("seed", range(40))
def test_a_pair_rankers_log_odds_give_its_scores_again(seed: int) -> None:
    draw = random.Random(seed)
    answers = task(1, *range(draw.randrange(7)))
    size = len(answers.candidates)
    each = [draw.choice([{}, {}, {}, {"failure": draw.choice(["too_long", "control_tokens"])}]) for _ in range(size)]
    logits = [[draw.choice([draw.gauss(0, 3), draw.gauss(0, 3), draw.uniform(0, 1), None]) for _ in each] for _ in each]
    if seed % 2:
        logits = [[draw.gauss(0, 3) for _ in each] for _ in each]
    said = _from_logits(answers, {"answers": each, "logits": logits})
    scorer = PairRM(model="nowhere")
    assert without_details(scorer.recompute(answers, said, Context(seed=5))) == without_details(said)
    for place, score in enumerate(said.scores):
        read = [at for at, one in enumerate(each) if not one]
        if score.score is not None:
            margins = [logits[place][at] - logits[at][place] for at in read if at != place]
            assert score.score == pytest.approx(sum(margins) / len(read), abs=1e-12)


@pytest.mark.parametrize("options", [{}, {"ties": False}, {"self_term": False}, {"neighbours": 1}, {"expected": True}])
@pytest.mark.parametrize("seed", range(6))
def test_a_judges_comparisons_give_its_win_rates_again(seed: int, options: dict[str, Any]) -> None:
    draw = random.Random(seed)

    def reply(request: Request) -> list[Generation]:
        if options.get("expected"):
            first, second = worths(request)
            share = min(max(0.5 + (first - second) / 8 + draw.uniform(-0.2, 0.2), 0.0), 1.0)
            shares = {"A": share * 0.98 + 1e-9, "B": (1 - share) * 0.98 + 1e-9}
            letter = max(shares, key=lambda name: shares[name])
            return says(letter, top_logprobs=places(shares))(request)
        return says(draw.choice(['{"winner": "A"}', '{"winner": "B"}', '{"winner": "tie"}', "neither"]))(request)

    scorer = Judge(**options)
    tasks = [task(number, *(draw.choice([1, 2, 3]) for _ in range(draw.randrange(1, 6)))) for number in range(5)]
    said = scored_by(scorer, tasks, reply, seed=seed)
    for answers in tasks:
        found = said[answers.prompt.prompt_id]
        assert scorer.recompute(answers, found, Context(seed=seed)) == found


def test_other_scorers_say_what_follows_and_what_does_not() -> None:
    answers = task(1, 3, 1, 2)
    baseline = BaselineScorer(comparisons=True)
    [said] = baseline.score([answers], Context(seed=1))
    unknown = Scored("prompt-1", tuple(Score("prompt-1", "policy", index, 0.0) for index in range(3)))
    assert baseline.recompute(answers, unknown, Context(seed=1)) == said
    panel = Ensemble(scorers=(baseline, BaselineScorer()))
    [said] = panel.score([answers], Context(seed=1))
    assert panel.recompute(answers, said, Context(seed=1)) == said
    assert len(panel.recompute(answers, unknown, Context(seed=1)).comparisons) == 3
