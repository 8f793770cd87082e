"""Kills builds with SIGKILL while a model scores: every file is that of a build that was not killed."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tiny_armorm
import tiny_gpm
import tiny_pair_rm
import tiny_reward
from stopping_build import build_until

from prefdata.scoring.rewards._armorm_worker import _ArmoRM
from prefdata.scoring.rewards._gpm_worker import _Embedder
from prefdata.scoring.rewards._pair_rm_worker import _Ranker
from prefdata.scoring.rewards._reward_worker import _RewardModel

# DeBERTa's module is scripted
pytestmark = [pytest.mark.usefixtures("own_cache"), pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")]

PROMPTS, SHARD = 80, 24
"""Shards are of another size than groups, which have one prompt."""


def write_work(work: Path, scores: dict[str, Any], *, answers: int, longest: int) -> None:
    """A recipe over answers of very different lengths; some prompts have none."""
    draw = random.Random(7)
    prompts = [{"id": f"p{number:03}", "prompt": f"question {number}"} for number in range(PROMPTS)]
    rows = [
        {"id": prompt["id"], "response": " ".join(draw.choices(tiny_gpm.WORDS, k=1 + draw.randrange(longest)))}
        for number, prompt in enumerate(prompts)
        for _ in range(0 if number % 9 == 4 else answers)
    ]
    for file, lines in {"prompts.jsonl": prompts, "answers.jsonl": rows}.items():
        (work / file).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    recipe = {
        "name": "killed",
        "seed": 5,
        "prompts": {"kind": "file", "path": "prompts.jsonl", "prompt_id_column": "id"},
        "candidates": [{"kind": "existing", "name": "replayed", "path": "answers.jsonl", "prompt_id_column": "id"}],
        "scores": scores,
        "pairs": {"kind": "best_vs_worst"},
        "dataset": {"kind": "trl", "test_size": 4},
    }
    (work / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")


def tree(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_build_that_is_killed_while_a_reward_model_scores_has_the_bytes_of_one_that_is_not(tmp_path: Path) -> None:
    model = tiny_reward.save_model(tmp_path / "model")
    write_work(tmp_path, {"kind": "reward_model", "model": str(model), "batch_tokens": 900}, answers=4, longest=30)
    assert not build_until(tmp_path, "whole", SHARD)
    for records in (0, 1, 2):
        assert build_until(tmp_path, "killed", SHARD, "scores-", records)
        assert not list((tmp_path / "killed").glob("stages/scores-*/stage.json"))
    assert not build_until(tmp_path, "killed", SHARD)
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")
    # Shards of another size are other files; what is published is the same.
    assert build_until(tmp_path, "larger", 3 * SHARD, "scores-", 1)
    assert not build_until(tmp_path, "larger", 3 * SHARD)
    assert tree(tmp_path / "larger" / "dataset") == tree(tmp_path / "whole" / "dataset")


def test_a_build_that_is_killed_in_each_member_of_an_ensemble_has_the_bytes_of_one_that_is_not(tmp_path: Path) -> None:
    members = [
        {"kind": "pair_rm", "model": str(tiny_pair_rm.save_ranker(tmp_path / "ranker")), "batch_tokens": 900},
        {
            "kind": "length_debiased",
            "scorer": {
                "kind": "gpm",
                "model": str(tiny_gpm.save_model(tmp_path / "gpm")),
                "max_length": tiny_gpm.POSITIONS,
                "batch_tokens": 900,
            },
        },
    ]
    scores = {"kind": "ensemble", "scorers": members, "combine_by": "z_mean"}
    write_work(tmp_path, scores, answers=3, longest=20)
    assert not build_until(tmp_path, "whole", SHARD)
    assert build_until(tmp_path, "killed", SHARD, "scores-scorers.0-", 2)
    assert build_until(tmp_path, "killed", SHARD, "scores-scorers.1-scorer-", 1)
    assert not build_until(tmp_path, "killed", SHARD)
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")


# The results of a group ----------------------------------------------------------------------------------------------


def texts(seed: int, longest: int) -> list[list[str]]:
    draw = random.Random(seed)
    return [[" ".join(draw.choices(tiny_gpm.WORDS, k=draw.randint(1, longest))) for _ in range(4)] for _ in range(12)]


def conversations(seed: int, longest: int = 30) -> list[dict[str, Any]]:
    return [
        {
            "key": [number, place],
            "messages": [{"role": "user", "content": f"q {number}"}, {"role": "assistant", "content": text}],
        }
        for number, of_prompt in enumerate(texts(seed, longest))
        for place, text in enumerate(of_prompt)
    ]


def answers_to_embed(seed: int, longest: int = 30) -> list[dict[str, Any]]:
    items = conversations(seed, longest)
    return [{"key": i["key"], "prompt": i["messages"][:1], "answer": i["messages"][1]["content"]} for i in items]


def rankings(seed: int, longest: int = 30) -> list[dict[str, Any]]:
    made = enumerate(texts(seed, longest))
    return [{"key": [number, 0], "source": f"q {number}", "answers": of_prompt} for number, of_prompt in made]


class Worker(NamedTuple):
    """A worker without its process."""

    score: Callable[[Sequence[dict[str, Any]]], Any]
    body: Any
    """The module of PyTorch that is given the batches."""


def reward_model(folder: Path) -> Worker:
    worker = _RewardModel(tiny_reward.config(tiny_reward.save_model(folder)))
    return Worker(worker.score, worker._model.base_model)


def armorm(folder: Path) -> Worker:
    worker = _ArmoRM(tiny_armorm.config(tiny_armorm.save_model(folder)))
    return Worker(worker.score, worker._backbone)


def pair_rm(folder: Path) -> Worker:
    worker = _Ranker(tiny_pair_rm.config(tiny_pair_rm.save_ranker(folder)))
    return Worker(worker.rank, worker._model["pretrained_model"])


def gpm(folder: Path) -> Worker:
    worker = _Embedder(tiny_gpm.config(tiny_gpm.save_model(folder)))
    return Worker(worker.embed, worker._model)


KINDS = [(reward_model, conversations), (armorm, conversations), (pair_rm, rankings), (gpm, answers_to_embed)]


def results(worker: Worker, items: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Key → the whole result as JSON, which writes every bit of a number."""
    by_key = {json.dumps(result["key"]): json.dumps(result, sort_keys=True) for result in worker.score(items)}
    assert len(by_key) == len(items)
    return by_key


def batches(worker: Worker, items: Sequence[dict[str, Any]]) -> list[list[list[int]]]:
    """The token ids of each batch that the model is given, padding included."""
    inputs: list[list[list[int]]] = []

    def record(_module: Any, _arguments: Any, options: dict[str, Any]) -> None:
        inputs.append(options["input_ids"].tolist())

    handle = worker.body.register_forward_pre_hook(record, with_kwargs=True)
    try:
        assert len(list(worker.score(items))) == len(items)
    finally:
        handle.remove()
    return inputs


@pytest.mark.parametrize(("make", "group"), KINDS, ids=[make.__name__ for make, _ in KINDS])
def test_a_group_gets_the_same_numbers_after_any_other_group(tmp_path: Path, make: Any, group: Any) -> None:
    worker = make(tmp_path / "model")
    first = results(worker, group(1))
    for longest in (3, 60):
        results(worker, group(2, longest))
    assert results(worker, group(1)) == first
    assert results(make(tmp_path / "again"), group(1)) == first


@pytest.mark.parametrize(("make", "group"), KINDS, ids=[make.__name__ for make, _ in KINDS])
def test_the_batches_of_a_group_depend_on_all_of_it_and_on_nothing_else(tmp_path: Path, make: Any, group: Any) -> None:
    """Texts that share a batch can change each other's last digits, so a group is scored as a whole."""
    worker = make(tmp_path / "model")
    whole = batches(worker, group(1))
    assert len(whole) > 1
    batches(worker, group(2, 60))
    assert batches(worker, group(1)) == whole
    half = batches(worker, group(1)[1::2])
    assert any(batch not in whole for batch in half)


@pytest.mark.model
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_vllm_reads_nothing_that_an_earlier_group_left_in_its_cache(tmp_path: Path) -> None:
    folder = tiny_reward.save_model(tmp_path / "model", head_dim=32)
    env = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    script = Path(__file__).parents[1] / "support" / "vllm_groups.py"
    done = subprocess.run([sys.executable, script, folder, "1,2,1"], env=env, stdout=subprocess.PIPE, check=True)
    report = json.loads(done.stdout.splitlines()[-1])
    first, _, again = report["cached"]
    assert 0 < first == again
    assert report["results"][0] == report["results"][2] != report["results"][1]
