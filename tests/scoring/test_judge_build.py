"""Whole builds with a judge on loopback that talks nonsense about one prompt in five: counted, and no other harmed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from judging import (
    ANSWERS,
    BROKEN,
    NONSENSE,
    PROMPTS,
    REASONS,
    WORTHS,
    judging,
    recipe,
)

from prefdata.flow.build import build
from prefdata.recipe import Recipe


def pairs_by_prompt(folder: Path) -> dict[str, str]:
    """SHA-256 of the shard of pairs of each prompt; a shard holds one prompt."""
    [prompts], [pairs] = ([*folder.glob(f"stages/{name}-*")] for name in ("prompts", "pairs"))
    found = {}
    for shard in sorted(pairs.glob("shard-*.parquet")):
        [prompt_id] = pl.read_parquet(prompts / shard.name)["prompt_id"]
        found[prompt_id] = hashlib.sha256(shard.read_bytes()).hexdigest()
    return found


PER_PROMPT = {"additive_judge": 1, "pointwise_judge": ANSWERS, "pairwise_judge": ANSWERS * (ANSWERS - 1)}


@pytest.mark.parametrize(
    "scorer",
    [
        {"kind": "additive_judge"},
        {"kind": "pointwise_judge"},
        {"kind": "pointwise_judge", "expected": True},
        {"kind": "pairwise_judge"},
    ],
    ids=lambda scorer: "-".join(map(str, scorer.values())),
)
def test_nonsense_about_one_prompt_in_five_is_counted_and_changes_no_other_prompt(
    scorer: dict[str, Any], tmp_path: Path
) -> None:
    broken = {number: BROKEN[number // NONSENSE] for number in range(0, PROMPTS, NONSENSE)}
    found = {}
    for name, nonsense in (("sane", {}), ("broken", broken)):
        with judging(nonsense) as server:
            built = build(recipe(tmp_path, scorer, server), tmp_path / name, shard_size=1)
            assert server.asked == dict.fromkeys(range(PROMPTS), PER_PROMPT[scorer["kind"]])
        found[name] = (built.ledger, pairs_by_prompt(built.folder), built.pairs["prompt_id"].to_list())
    (ledger, shards, paired), (broken_ledger, broken_shards, broken_paired) = found["sane"], found["broken"]

    hit = {f"p{number:02d}" for number in broken}
    assert ledger["drops"] == {}
    assert broken_ledger["drops"] == {"too_few_candidates": len(hit)}
    assert broken_ledger["ineligible"] == {"unscored": len(hit) * ANSWERS}
    [scores] = (stage for stage in broken_ledger["stages"] if stage["stage"] == "scores")
    assert scores["drops"] == expected_reasons(scorer)
    assert len(paired) == PROMPTS
    assert sorted(broken_paired) == sorted(set(paired) - hit)
    assert len(shards) == PROMPTS
    for prompt_id, digest in shards.items():
        assert (broken_shards[prompt_id] == digest) == (prompt_id not in hit), prompt_id


def expected_reasons(scorer: dict[str, Any]) -> dict[str, int]:
    if scorer["kind"] == "pairwise_judge":
        return {"no_comparison": len(REASONS) * ANSWERS}
    if scorer.get("expected"):
        return {"no_logprobs": 2 * ANSWERS, "refused": ANSWERS}
    return dict.fromkeys(sorted(REASONS), ANSWERS)


def test_a_panel_asks_each_judge_once_and_its_members_failures_are_named(tmp_path: Path) -> None:
    broken = dict.fromkeys(range(0, PROMPTS, NONSENSE), BROKEN[0])
    with judging(broken) as server:
        panel = {"kind": "ensemble", "scorers": [{"kind": "additive_judge"}, {"kind": "pointwise_judge"}]}
        built = build(recipe(tmp_path, {**panel, "combine_by": "mean"}, server), tmp_path / "panel")
        assert next(s["drops"] for s in built.ledger["stages"] if s["stage"] == "scores") == {
            "member_unscored": len(broken) * ANSWERS
        }
        pairs = built.pairs
        assert len(pairs) == PROMPTS - len(broken)
        for row in pairs.iter_rows(named=True):
            worths = [WORTHS[int(row["prompt_id"][1:]), a] for a in range(ANSWERS)]
            assert (row["score_chosen"], row["score_rejected"]) == (max(worths), min(worths))
        asked = dict(server.asked)
        assert asked == dict.fromkeys(range(PROMPTS), 1 + ANSWERS)
        # Another way to combine sends no request.
        again = build(recipe(tmp_path, {**panel, "combine_by": "majority"}, server), tmp_path / "panel")
        assert dict(server.asked) == asked
        # Two of each prompt's answers are equally good.
        assert set(again.pairs["score_chosen"]) <= {0.5, 1.0}
        told = json.loads((again.dataset / "scoring.json").read_text(encoding="utf-8"))["scores"]
        assert told["fitted"]["agreement"]["alpha_interval"] == 1
        assert told["comparisons"]["out"] == (PROMPTS - len(broken)) * 3


def test_a_pairwise_judge_gives_the_soft_labels_of_a_build(tmp_path: Path) -> None:
    with judging({}) as server:
        plain = recipe(tmp_path, {"kind": "pairwise_judge"}, server)
        rule = {"kind": "best_vs_worst", "label": {"kind": "comparison"}}
        built = build(Recipe.model_validate({**plain.dump(), "pairs": rule}), tmp_path / "labels")
    labels = built.pairs["label_chosen"].to_list()
    assert labels == [1.0] * PROMPTS


def test_an_ensemble_within_a_correction_is_built_stage_by_stage(tmp_path: Path) -> None:
    inner = {"kind": "ensemble", "scorers": [{"kind": "additive_judge"}, {"kind": "pairwise_judge", "neighbours": 1}]}
    with judging({}) as server:
        plain = recipe(tmp_path, inner, server)
        nested = {"kind": "length_debiased", "scorer": plain.dump()["scores"], "unit": "words", "strength": 0.5}
        built = build(Recipe.model_validate({**plain.dump(), "scores": nested}), tmp_path / "nested")
        assert server.asked == dict.fromkeys(range(PROMPTS), 1 + ANSWERS * (ANSWERS - 1))
    told = json.loads((built.dataset / "scoring.json").read_text(encoding="utf-8"))
    assert set(told) == {"scores-scorer-scorers.1", "scores-scorer", "scores"}
    assert told["scores"]["fitted"]["answers"] == PROMPTS * ANSWERS
    # All answers have as many words, so that there is nothing to correct.
    assert told["scores"]["fitted"]["slope"] == 0
    assert told["scores-scorer"]["fitted"]["agreement"]["kendall_tau_b"]["scorers.0 scorers.1"]["mean"] == 1
    assert len(built.pairs) == PROMPTS
