"""Stage jobs are plain data: each kind pickles, and makes the same bytes in a process that knows nothing else."""

from __future__ import annotations

import importlib
import json
import pickle
import shutil
from pathlib import Path

import pytest
from replayed import recipe, tree, write_tables

from prefdata.flow.build import build
from prefdata.flow.candidate_stage import SampleJob
from prefdata.flow.engines.local import carry_out
from prefdata.flow.graph import graph_of
from prefdata.flow.jobs import StageJob
from prefdata.flow.pair_stage import PairJob
from prefdata.flow.prompt_stage import PromptJob
from prefdata.flow.reader import BuildReader, BuildRecord
from prefdata.flow.run import stage_job
from prefdata.flow.score_groups import GroupScoreJob
from prefdata.flow.score_stage import CombineJob, ScoreJob
from prefdata.recipe import Recipe, load_recipe, shipped_recipes
from prefdata.spec import Context

PUBLISHED = {"kind": "published_pairs", "name": "published", "path": "published.jsonl", "prompt_id_column": "id"}
KINDS = {
    "prompts": PromptJob,
    "candidates-replayed": SampleJob,
    "candidates-published": SampleJob,
    "scores-scorers.0": ScoreJob,
    "scores-scorers.1-scorer": GroupScoreJob,
    "scores-scorers.1": CombineJob,
    "scores": CombineJob,
    "pairs": PairJob,
}
"""Stages of `made` and the kinds of their jobs."""


def made() -> Recipe:
    """A recipe that has a stage of every kind: filtered prompts, answers, three ways to score, a backfill, pairs."""
    rewarded = {"kind": "length_debiased", "scorer": {"kind": "reward_model", "model": "model"}}
    return recipe(
        filters=[{"kind": "length", "at_least": 3}],
        scores={"kind": "ensemble", "scorers": [{"kind": "given"}, rewarded], "combine_by": "mean"},
        pairs={"kind": "best_vs_worst", "label": {"kind": "comparison"}},
        backfill=PUBLISHED,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of `made`, built in this process, with its tables and its tiny reward model."""
    work = tmp_path_factory.mktemp("jobs")
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(Path(__file__).parents[1] / "scoring"))
        patched.setenv("XDG_CACHE_HOME", str(work / "cache"))
        patched.chdir(work)
        importlib.import_module("test_reward_model").save_model(work / "model")
        write_tables(work)
        row = {"id": "p10", "chosen": "good", "rejected": "bad", "score_chosen": 2, "score_rejected": 1}
        (work / "published.jsonl").write_text(json.dumps(row) + "\n")
        build(made(), "out", shard_size=5)
    return work


@pytest.fixture
def work(whole, tmp_path, monkeypatch):
    """A copy of `whole` as the current folder."""
    shutil.copytree(whole, tmp_path / "work")
    monkeypatch.setenv("XDG_CACHE_HOME", str(whole / "cache"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


CARRY_OUT = """
import pickle, sys
from pathlib import Path
from prefdata.flow.engines.local import carry_out
job = pickle.loads(Path(sys.argv[1]).read_bytes())
carry_out(job, job.context())
"""


def job_of(stage: str) -> StageJob:
    reader = BuildReader("out")
    return stage_job(reader, reader.graph[stage])


def test_the_stages_are_of_every_kind(work):
    assert {stage.name: type(job_of(stage.name)) for stage in BuildReader("out").graph.stages} == KINDS


@pytest.mark.parametrize("stage", KINDS)
def test_a_pickled_job_makes_the_same_bytes_in_a_fresh_process(work, fresh, stage):
    job = job_of(stage)
    before = tree(job.folder.path)
    assert {"shard-00000.parquet", "shard-00001.parquet", "shard-00002.parquet", "stage.json"} <= before.keys()
    (work / "job").write_bytes(pickle.dumps(job))
    shutil.rmtree(job.folder.path)
    said = fresh("job", code=CARRY_OUT, cwd=work)
    assert said.code == 0, said.err
    assert tree(job.folder.path) == before


@pytest.mark.parametrize("stage", [name for name in KINDS if name != "prompts"])
def test_a_job_makes_only_the_shards_that_are_missing(work, stage):
    job = job_of(stage)
    before = tree(job.folder.path)
    (job.folder.path / "stage.json").unlink()
    job.folder.shard(1).unlink()
    kept = job.folder.shard(0).stat().st_ino
    copied = pickle.loads(pickle.dumps(job))
    carry_out(copied, copied.context())
    assert tree(job.folder.path) == before
    assert job.folder.shard(0).stat().st_ino == kept


SHIPPED = {
    f"{name}:{profile}": load_recipe(name).with_profile(profile)
    for name in shipped_recipes()
    for profile in ("full", *load_recipe(name).profiles)
}


@pytest.mark.parametrize("name", SHIPPED)
def test_every_job_of_a_shipped_recipe_comes_back_equal_from_a_pickle(name, tmp_path):
    graph = graph_of(SHIPPED[name]).pinned(0, lambda stage: {"sha": stage.name})
    reader = BuildReader(tmp_path, BuildRecord(SHIPPED[name], graph, 256))
    for stage in graph.stages:
        job = stage_job(reader, stage)
        copied = pickle.loads(pickle.dumps(job))
        assert copied == job
        assert (copied.name, copied.seed, copied.pins) == (stage.name, SHIPPED[name].seed, {"sha": stage.name})


def test_a_context_without_callbacks_can_be_pickled():
    context = Context(3, {"sha": "1"})
    assert pickle.loads(pickle.dumps(context)) == context


def test_a_job_that_the_engine_does_not_know_is_an_error_and_never_a_finished_stage(work):
    job = job_of("pairs")
    (job.folder.path / "stage.json").unlink()
    other = StageJob.__new__(type("Other", (StageJob,), {}))
    for name in ("name", "folder", "seed", "pins"):
        object.__setattr__(other, name, getattr(job, name))
    with pytest.raises(TypeError, match="a Other is not a job"):
        carry_out(other, Context(1))
    assert job.folder.report is None
