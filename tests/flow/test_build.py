"""Whole builds over replayed answers: what is counted, what is kept, what is rerun."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import polars as pl
import pytest
import replayed
from replayed import recipe, tree

from prefdata.errors import InputError
from prefdata.flow.build import build
from prefdata.flow.plan import plan
from prefdata.flow.store import StageFolder
from prefdata.sampling import ExistingCompletions
from prefdata.scoring import GivenScores


def stage(folder: Path, name: str) -> StageFolder:
    """The newest folder of a stage."""
    found = sorted(folder.glob(f"stages/{name}*"), key=lambda path: path.stat().st_mtime_ns)
    return StageFolder(found[-1])


def marks(folder: Path, name: str) -> dict[str, tuple[int, int]]:
    """File → (inode, time of its last change), for all folders of a stage."""
    files = [path for found in folder.glob(f"stages/{name}*") for path in [found, *found.iterdir()]]
    return {str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


@pytest.fixture
def calls(monkeypatch):
    """How many tasks samplers and scorers were asked."""
    counts = {"sampled": 0, "scored": 0}

    def counted(part, method, what):
        real = getattr(part, method)

        def called(self, tasks, context):
            def passing():
                for task in tasks:
                    counts[what] += 1
                    yield task

            return real(self, passing(), context)

        monkeypatch.setattr(part, method, called)

    counted(ExistingCompletions, "sample", "sampled")
    counted(GivenScores, "score", "scored")
    return counts


class TestCounts:
    def test_every_row_is_a_pair_or_a_drop_with_its_reason(self, work):
        built = build(recipe(), "out")
        assert built.ledger == {
            "prompts": replayed.ROWS,
            "pairs": replayed.PAIRS,
            "paired_prompts": replayed.PAIRS,
            "drops": replayed.DROPS,
            "ineligible": {"unscored": 1},
            "stages": [
                {"stage": "prompts", "in": 14, "out": 12, "drops": {"blank": 1, "duplicate": 1}},
                {
                    "stage": "candidates-replayed",
                    "in": replayed.ANSWERS + 1,
                    "out": replayed.CANDIDATES,
                    "drops": {"missing_response": 1, "no_completion": 1},
                },
                {"stage": "scores", "in": 34, "out": 33, "drops": {"missing": 1}},
                {"stage": "pairs", "in": 12, "out": 10, "drops": {"no_contrast": 1, "too_few_candidates": 1}},
            ],
        }

    @pytest.mark.parametrize("shard_size", [1, 5, 256])
    def test_prompts_are_pairs_and_drops_and_no_id_is_in_both(self, work, shard_size):
        built = build(recipe(), "out", shard_size=shard_size)
        pairs, drops = built.pairs, built.drops
        assert len(pairs) + len(drops) == built.ledger["prompts"] == replayed.ROWS
        assert set(pairs["prompt_id"]) == {f"p{number:02d}" for number in range(10)}
        assert pairs["prompt_id"].is_unique().all()
        assert drops.columns == ["prompt_id", "stage", "reason", "detail"]
        assert drops["prompt_id"].to_list() == ["blank", "p01", "p10", "p11"]
        assert set(zip(drops["prompt_id"], drops["stage"], drops["reason"], strict=True)) == {
            ("blank", "prompts", "blank"),
            ("p01", "prompts", "duplicate"),
            ("p10", "pairs", "too_few_candidates"),
            ("p11", "pairs", "no_contrast"),
        }

    def test_the_first_of_duplicates_stays_and_the_drop_names_both_rows(self, work):
        build(recipe(), "out")
        prompts = pl.read_parquet(stage(work / "out", "prompts").shard(0)).sort("prompt_id")
        assert prompts["origin"][1] == "prompts.jsonl, row 2"
        drops = pl.read_parquet(stage(work / "out", "prompts").side_table("drops", 0))
        assert "prompts.jsonl, row 5 repeats prompts.jsonl, row 2" in drops["detail"].to_list()

    def test_every_unscored_or_lost_candidate_is_in_the_table_of_candidate_drops(self, work):
        build(recipe(), "out")
        lost = pl.read_parquet("out/dataset/drops_candidates.parquet")
        assert set(lost.select("prompt_id", "stage", "reason", "source").rows()) == {
            ("p00", "candidates", "missing_response", "replayed"),
            ("p00", "pairs", "unscored", "replayed"),
            ("p10", "candidates", "no_completion", "replayed"),
        }

    def test_the_pairs_are_those_of_the_rule_with_train_before_test(self, work):
        built = build(recipe(), "out")
        pairs = built.pairs
        for row in pairs.to_dicts():
            number = int(row["prompt_id"][1:])
            assert row["chosen"][0]["content"] == f"{number} xxxx"
            assert row["rejected"][0]["content"] == f"{number} {'x' * (number % 3)}"
            assert row["prompt"] == [{"role": "user", "content": f"Question {number}?"}]
        train = pl.read_parquet(built.dataset / "data" / "train-*.parquet")
        assert pairs[: len(train)].equals(train)

    def test_limit_takes_the_first_different_prompts(self, work):
        built = build(recipe(limit=3), "out")
        assert built.ledger["prompts"] == 3
        assert set(built.pairs["prompt_id"]) == {"p00", "p01", "p02"}

    def test_prompts_without_a_single_one_are_an_input_error_with_the_reasons(self, work):
        (work / "prompts.jsonl").write_text('{"id": "a", "prompt": " "}\n{"id": "b", "prompt": ""}\n')
        with pytest.raises(InputError, match=r"hold no prompt: 2 rows read \(2 blank\)"):
            build(recipe(), "out")


class TestSameBytes:
    def test_the_dataset_does_not_depend_on_the_size_of_shards(self, work):
        trees = []
        for size in (1, 4, 256):
            built = build(recipe(), f"out-{size}", shard_size=size)
            trees.append(tree(built.dataset))
        assert trees[0] == trees[1] == trees[2]
        assert len(trees[0]) == 13

    def test_two_builds_in_two_folders_have_the_same_bytes_everywhere(self, work):
        build(recipe(), "one", shard_size=5)
        build(recipe(), work / "two" / "deep", shard_size=5)
        assert tree(work / "one") == tree(work / "two" / "deep")
        assert len(tree(work / "one")) > 20

    def test_the_order_of_rows_in_the_tables_changes_no_pair(self, work):
        before = build(recipe(), "one").pairs
        for name in ("prompts.jsonl", "answers.jsonl"):
            lines = (work / name).read_text().splitlines(keepends=True)
            (work / name).write_text("".join(reversed(lines)))
        after = build(recipe(), "two").pairs
        columns = [name for name in before.columns if not name.startswith("index_")]
        assert before.select(columns).equals(after.select(columns))

    def test_building_again_changes_nothing_and_asks_nobody(self, work, calls):
        build(recipe(), "out")
        before, asked = tree(work / "out"), dict(calls)
        assert asked == {"sampled": 12, "scored": 11}
        build(recipe(), "out")
        assert tree(work / "out") == before
        assert calls == asked

    @pytest.mark.parametrize("lost", ["dataset", "stages/pairs-*", "stages/scores-*", "stages/candidates-*"])
    def test_whatever_is_deleted_is_made_again_with_the_same_bytes(self, work, lost):
        build(recipe(), "out", shard_size=5)
        before = tree(work / "out")
        for folder in (work / "out").glob(lost):
            shutil.rmtree(folder)
        build(recipe(), "out", shard_size=5)
        assert tree(work / "out") == before

    def test_a_dataset_lost_between_the_two_renames_is_put_back_by_the_next_build(self, work):
        build(recipe(), "out")
        before = tree(work / "out")
        (work / "out" / "dataset").rename(work / "out" / ".dataset.77.old")
        (work / "out" / ".dataset.77.part").mkdir()
        build(recipe(), "out")
        assert tree(work / "out") == before

    def test_no_document_has_a_folder_or_a_time_of_this_machine(self, work):
        dataset = build(recipe(), work / "out-folder").dataset
        for name in ("README.md", "recipe.json", "prefdata.lock.json", "ledger.json"):
            text = (dataset / name).read_text("utf-8")
            for foreign in (str(work), str(Path.home()), "out-folder"):
                assert foreign not in text, name
            assert not re.search(r"\d{4}-\d\d-\d\d|\d\d:\d\d:\d\d", text), name


class TestKeys:
    def test_another_rule_samples_and_scores_nothing_and_touches_neither_folder(self, work, calls):
        first = build(recipe(), "out").pairs
        before = {name: marks(work / "out", name) for name in ("prompts", "candidates", "scores")}
        asked = dict(calls)
        second = build(recipe(pairs={"kind": "wpo_hybrid_v1", "threshold": 4, "margin": 2}), "out")
        assert calls == asked
        assert {name: marks(work / "out", name) for name in before} == before
        assert len(list((work / "out" / "stages").glob("pairs-*"))) == 2
        assert second.ledger["pairs"] == 10
        assert not first.equals(second.pairs)
        fresh = build(recipe(pairs={"kind": "wpo_hybrid_v1", "threshold": 4, "margin": 2}), "fresh")
        assert tree(second.dataset) == tree(fresh.dataset)

    @pytest.mark.parametrize(
        ("change", "again"),
        [
            ({"dataset": {"kind": "trl", "test_size": 5}}, set()),
            ({"publish": {"license": "cc0-1.0"}}, set()),
            ({"description": "another"}, set()),
            ({"name": "another"}, set()),
            ({"pairs": {"kind": "wpo_hybrid_v2"}}, {"pairs"}),
            ({"pairs": {"kind": "best_vs_worst", "length": "words"}}, {"pairs"}),
            ({"seed": 6}, {"prompts", "candidates", "scores", "pairs"}),
            ({"limit": 5}, {"prompts", "candidates", "scores", "pairs"}),
        ],
        ids=lambda value: " ".join(sorted(value)) or "nothing",
    )
    def test_a_change_makes_again_what_depends_on_it_and_no_more(self, work, change, again):
        build(recipe(), "out")
        before = {path.name for path in (work / "out" / "stages").iterdir()}
        build(recipe(**change), "out", replace=True)
        made = {path.name.partition("-")[0] for path in (work / "out" / "stages").iterdir() if path.name not in before}
        assert made == again

    @pytest.mark.parametrize(
        ("name", "again"),
        [
            ("prompts.jsonl", {"prompts", "candidates", "scores", "pairs"}),
            ("answers.jsonl", {"candidates", "scores", "pairs"}),
        ],
    )
    def test_one_more_byte_in_a_file_makes_again_what_was_read_from_it(self, work, name, again):
        build(recipe(), "out")
        before = {path.name for path in (work / "out" / "stages").iterdir()}
        with (work / name).open("a") as file:
            file.write("\n")
        build(recipe(), "out")
        made = {path.name.partition("-")[0] for path in (work / "out" / "stages").iterdir() if path.name not in before}
        assert made == again

    def test_a_second_sampler_leaves_the_first_ones_answers(self, work, calls):
        first = recipe().dump()["candidates"][0]
        build(recipe(), "out")
        before, sampled = marks(work / "out", "candidates-replayed"), calls["sampled"]
        built = build(recipe(candidates=[first, {**first, "name": "again"}]), "out")
        assert marks(work / "out", "candidates-replayed") == before
        assert calls["sampled"] == sampled + 12
        assert set(built.pairs["n_candidates"]) == {6, 8}


class TestPlan:
    def test_a_plan_counts_what_a_build_would_ask_and_writes_nothing(self, work):
        planned = plan(recipe(), "out")
        assert not (work / "out").exists()
        assert planned.prompts == replayed.PROMPTS
        assert planned.drops == {"blank": 1, "duplicate": 1}
        assert [(found.stage, found.state, found.asks, found.unit) for found in planned.stages] == [
            ("prompts", "to do", 14, "rows"),
            ("candidates-replayed", "to do", 12, "prompts"),
            ("scores", "to do", 12, "prompts"),
            ("pairs", "to do", 12, "prompts"),
        ]

    def test_samples_are_counted_by_n(self, work):
        generator = {"kind": "chat_endpoint", "model": "m", "base_url": "http://127.0.0.1:9/v1"}
        sampler = {"kind": "samples", "name": "policy", "generator": generator, "n": 7}
        planned = plan(recipe(candidates=[sampler], limit=5), "out")
        assert [found.asks for found in planned.stages] == [7, 35, 5, 5]
        assert [found.unit for found in planned.stages] == ["rows", "answers", "prompts", "prompts"]

    def test_it_tells_what_is_done_and_what_is_begun(self, work, monkeypatch):
        seen = []
        real = GivenScores.score

        def breaks(self, tasks, context):
            for number, scores in enumerate(real(self, tasks, context)):
                if number == 3:
                    raise RuntimeError("broken")
                yield scores

        monkeypatch.setattr(GivenScores, "score", breaks)
        with pytest.raises(RuntimeError, match="broken"):
            build(recipe(), "out")
        before = tree(work / "out")
        seen.append([found.state for found in plan(recipe(), "out").stages])
        assert tree(work / "out") == before
        monkeypatch.undo()
        monkeypatch.chdir(work)
        build(recipe(), "out")
        seen.append([found.state for found in plan(recipe(), "out").stages])
        seen.append([found.state for found in plan(recipe(pairs={"kind": "wpo_hybrid_v2"}), "out").stages])
        assert seen == [
            ["done", "done", "partly done", "to do"],
            ["done", "done", "done", "done"],
            ["done", "done", "done", "to do"],
        ]

    def test_without_a_folder_a_build_goes_to_builds_under_its_name(self, work):
        assert plan(recipe()).folder == Path("builds/replayed")
        built = build(recipe(limit=2))
        assert built.folder == Path("builds/replayed")
        assert built.dataset == Path("builds/replayed/dataset")
        assert json.loads((built.dataset / "recipe.json").read_text())["limit"] == 2


def test_an_interrupted_scorer_is_asked_only_for_the_rest(work, monkeypatch, calls):
    real = GivenScores.score

    def breaks(self, tasks, context):
        for number, scores in enumerate(real(self, tasks, context)):
            yield scores
            if number == 3:
                raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(GivenScores, "score", breaks)
        build(recipe(), "out")
    assert calls == {"sampled": 12, "scored": 4}
    build(recipe(), "out")
    assert calls == {"sampled": 12, "scored": 11}
    assert tree(work / "out") == tree(build(recipe(), "whole").folder)
