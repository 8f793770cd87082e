"""Builds that are read from their folder alone: finished, half-finished, moved, and folders that are not builds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from replayed import ANSWERS, CANDIDATES, DROPS, PAIRS, PROMPTS, UNSCORED, recipe, tree

from prefdata.errors import InputError, RecipeError, StoreError
from prefdata.flow.build import build
from prefdata.flow.graph import FORMAT
from prefdata.flow.reader import BuildReader
from prefdata.tables.schemas import CANDIDATE_DROPS

PANEL = {"kind": "ensemble", "scorers": [{"kind": "given"}, {"kind": "given"}], "combine_by": "mean"}
LABELLED = {"kind": "best_vs_worst", "label": {"kind": "comparison"}}
STAGES = ["prompts", "candidates-replayed", "scores-scorers.0", "scores-scorers.1", "scores", "pairs"]


def panel():
    return recipe(scores=PANEL, pairs=LABELLED)


def edit(path: Path, **changes: object) -> None:
    """Changes a document as its writer might have: without the checksum, as earlier versions wrote it."""
    value = {**json.loads(path.read_text()), **changes}
    value.pop("checksum", None)
    path.write_text(json.dumps(value))


class TestFinished:
    def test_every_table_is_there_without_the_recipe_s_files_and_in_another_place(self, work):
        built = build(panel(), "out", shard_size=5)
        lock, ledger, pairs, drops = (
            json.loads((built.folder / "prefdata.lock.json").read_text()),
            built.ledger,
            built.pairs,
            built.drops,
        )
        scoring = json.loads((built.dataset / "scoring.json").read_text())
        (work / "out").rename(work / "moved")
        for name in ("prompts.jsonl", "answers.jsonl"):
            (work / name).unlink()
        shutil.rmtree(work / "moved" / "dataset")
        read = BuildReader(work / "moved")
        assert read.recipe == panel()
        assert {stage.name: stage.key for stage in read.graph.parts} == {
            name: part["key"] for name, part in lock["parts"].items()
        }
        assert (read.shard_size, read.shards) == (5, range(3))
        assert [read.state(name) for name in STAGES] == ["done"] * len(STAGES)
        assert read.ledger() == ledger
        assert read.scoring() == scoring
        ids = sorted(f"p{number:02d}" for number in range(PROMPTS))
        assert read.all_prompt_ids() == ids
        assert [name for shard in read.shards for name in read.prompts(shard)["prompt_id"].to_pylist()] == ids
        assert sum(read.candidates(shard).num_rows for shard in read.shards) == CANDIDATES
        assert sum(read.scores(shard)["score"].null_count for shard in read.shards) == UNSCORED
        assert sum(read.scored_candidates(shard)["score"].null_count() for shard in read.shards) == UNSCORED
        assert sum(read.answers(shard).num_rows for shard in read.shards) == CANDIDATES
        compared = pa.concat_tables([read.comparisons(shard) for shard in read.shards])
        assert compared.num_rows == 33 + 3
        found = pl.concat([pl.DataFrame(read.pairs(shard)) for shard in read.shards])
        assert found.height == PAIRS
        same = ["prompt_id", "score_chosen", "score_rejected", "label_chosen"]
        assert found.select(same).equals(pairs.sort("prompt_id").select(same))
        assert read.all_drops("drops", read_schema(drops))["prompt_id"].to_pylist() == drops["prompt_id"].to_list()
        assert read.all_drops("candidate_drops", CANDIDATE_DROPS).num_rows == ANSWERS + 1 - CANDIDATES + UNSCORED

    def test_opening_a_build_changes_nothing_and_loads_nothing_that_runs_stages(self, work, fresh):
        build(recipe(), "out")
        before = tree(work / "out")
        code = (
            "import sys; from prefdata.flow.reader import BuildReader; build = BuildReader(sys.argv[1])\n"
            "print(sum(build.pairs(shard).num_rows for shard in build.shards))\n"
            "print('prefdata.flow.run' in sys.modules, 'prefdata.flow.engines.local' in sys.modules)"
        )
        said = fresh("out", code=code, cwd=work)
        assert said.out.split() == [str(PAIRS), "False", "False"], said.err
        assert tree(work / "out") == before

    def test_of_two_shard_sizes_the_one_with_more_finished_stages_is_read(self, work):
        build(recipe(), "out", shard_size=4)
        build(recipe(), "out", shard_size=5)
        assert BuildReader("out").shard_size == 4
        (BuildReader("out").stage("pairs").path / "stage.json").unlink()
        assert BuildReader("out").shard_size == 5

    def test_another_rule_makes_it_another_build_of_the_same_scores(self, work):
        build(recipe(), "out")
        build(recipe(pairs={"kind": "wpo_hybrid_v2"}), "out")
        assert BuildReader("out").recipe.pairs.dump()["kind"] == "wpo_hybrid_v2"
        assert BuildReader("out").ledger()["drops"] == DROPS

    def test_a_build_of_an_earlier_version_has_its_recipe_in_the_dataset(self, work):
        build(recipe(), "out")
        (work / "out" / "prefdata.recipe.json").unlink()
        assert BuildReader("out").recipe == recipe()


def read_schema(frame: pl.DataFrame) -> pa.Schema:
    return pa.schema([(name, pa.string()) for name in frame.columns])


KILLED = """
import json, os, signal, sys
from prefdata.flow.build import build
from prefdata.flow.store import StageFolder
from prefdata.recipe import load_recipe

real, stage = StageFolder.finish, sys.argv[1]

def finish(self, report):
    if self.path.name.startswith(stage + "-") and not self.path.name.startswith(stage + "-scorers"):
        if sys.argv[2] == "in the middle":
            os.remove(self.shard(1))
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, report)

StageFolder.finish = finish
build(load_recipe("recipe.json"), "out", shard_size=5)
"""


class TestHalfFinished:
    @pytest.fixture
    def killed(self, work, fresh):
        (work / "recipe.json").write_text(json.dumps(panel().dump()))

        def kill(stage: str, moment: str) -> BuildReader:
            assert fresh(stage, moment, code=KILLED, cwd=work).code == -9
            return BuildReader(work / "out")

        return kill

    @pytest.mark.parametrize("moment", ["at the end", "in the middle"])
    @pytest.mark.parametrize("stage", STAGES)
    def test_a_build_killed_in_any_stage_gives_what_was_finished_and_names_what_was_not(
        self, work, killed, stage, moment
    ):
        whole = BuildReader(build(panel(), "whole", shard_size=5).folder)
        read = killed(stage, moment)
        done = STAGES.index(stage)
        states = ["done"] * done + ["partly done"] + ["to do"] * (len(STAGES) - done - 1)
        assert [read.state(name) for name in STAGES] == states
        assert read.recipe == panel()
        for name in STAGES[:done]:
            assert read.report(name) == whole.report(name)
        with pytest.raises(InputError, match=f"{stage!r} of the build in .* is not finished") as caught:
            read.report(stage)
        assert caught.value.hint
        with pytest.raises(InputError, match="is not finished"):
            read.ledger()
        if done == 0:
            with pytest.raises(InputError, match="is not finished"):
                len(read.shards)
        else:
            assert read.shards == whole.shards
            self.same_tables(read, whole, done)
        build(panel(), "out", shard_size=5)
        assert tree(work / "out") == tree(work / "whole")

    def same_tables(self, read: BuildReader, whole: BuildReader, done: int) -> None:
        tables = {1: "prompts", 2: "candidates", 5: "scores", 6: "pairs"}
        for needed, name in tables.items():
            for shard in whole.shards if done >= needed else ():
                assert getattr(read, name)(shard).equals(getattr(whole, name)(shard))
            if done < needed - 1:
                with pytest.raises(InputError, match="is not finished") as caught:
                    getattr(read, name)(0)
                assert "run the build again" in caught.value.hint
        if done >= 5:
            assert all(read.answers(shard).equals(whole.answers(shard)) for shard in whole.shards)
            assert all(read.comparisons(shard).equals(whole.comparisons(shard)) for shard in whole.shards)

    def test_a_build_that_has_made_nothing_yet_is_opened_and_has_no_shards(self, work):
        build(recipe(), "out")
        shutil.rmtree(work / "out" / "stages")
        read = BuildReader("out")
        assert {read.state(stage.name) for stage in read.graph.stages} == {"to do"}
        with pytest.raises(InputError, match="is not finished"):
            read.all_prompt_ids()


class TestRefused:
    @pytest.fixture
    def out(self, work):
        return build(recipe(), "out").folder

    @pytest.mark.parametrize("folder", [".", "nowhere", "prompts.jsonl"])
    def test_a_folder_that_is_not_a_build(self, work, folder):
        with pytest.raises(InputError, match="holds no build") as caught:
            BuildReader(folder)
        assert (caught.value.valid, caught.value.hint) == ("the folder of a build", "check the path")

    @pytest.mark.parametrize("value", [FORMAT + 1, FORMAT - 1, None, "2"])
    def test_a_build_of_another_format(self, out, value):
        edit(out / "prefdata.lock.json", format=value)
        with pytest.raises(InputError, match=f"has format {value!r}, and this prefdata reads {FORMAT}") as caught:
            BuildReader(out)
        assert caught.value.hint

    def test_a_lock_that_is_not_json(self, out):
        (out / "prefdata.lock.json").write_text("{")
        with pytest.raises(StoreError, match="is not JSON"):
            BuildReader(out)

    def test_a_lock_that_pins_commits_only(self, out):
        (out / "prefdata.lock.json").write_text(json.dumps({"format": FORMAT, "commits": {}}))
        with pytest.raises(InputError, match="has not begun"):
            BuildReader(out)

    @pytest.mark.parametrize("parts", [{}, {"prompts": {}}, [], None])
    def test_a_lock_that_lacks_a_stage(self, out, parts):
        edit(out / "prefdata.lock.json", parts=parts)
        with pytest.raises(InputError, match="does not have pins and key of every stage"):
            BuildReader(out)

    def test_a_recipe_that_is_not_the_lock_s(self, out):
        shutil.rmtree(out / "dataset")
        edit(out / "prefdata.recipe.json", seed=99)
        with pytest.raises(RecipeError, match="another recipe than its lock") as caught:
            BuildReader(out)
        assert caught.value.hint

    def test_no_recipe_at_all(self, out):
        shutil.rmtree(out / "dataset")
        (out / "prefdata.recipe.json").unlink()
        with pytest.raises(RecipeError, match="holds no recipe"):
            BuildReader(out)

    @pytest.mark.parametrize("text", ["{", "null", '{"name": "x"}'])
    def test_a_recipe_that_can_not_be_read(self, out, text):
        (out / "prefdata.recipe.json").write_text(text)
        with pytest.raises(RecipeError):
            BuildReader(out)
