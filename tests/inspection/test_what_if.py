"""What-if: several rules on the same candidates, from a table and from a build, against plain Python."""

from __future__ import annotations

import json
import random
import shlex
from statistics import fmean

import pytest

from prefdata.errors import InputError, RecipeError
from prefdata.flow.build import build
from prefdata.flow.run import BuildRunner
from prefdata.inspection.what_if import what_if
from prefdata.pairing import BestVsWorst, CustomRule, Highest, Lowest, Selection, WPOHybridV2
from prefdata.recipe import Recipe, load_rule
from prefdata.sampling import ExistingCompletions

BY_MODEL = {"model_column": "source", "source": "model", "index_column": "index"}


def candidates(seed: int = 1, prompts: int = 40) -> list[dict]:
    """Four answers a prompt of two sources, with ties; every text is another one."""
    draw = random.Random(seed)
    return [
        {
            "prompt_id": f"p{number:03d}",
            "prompt": f"Question {number}?",
            "source": source,
            "index": index,
            "response": f"{number} {source} {index} {'x' * draw.randrange(40)}",
            "score": None if draw.random() < 0.1 else float(draw.randrange(4)),
        }
        for number in range(prompts)
        for source in ("policy", "teacher")
        for index in range(2)
    ]


def picked(rows: list[dict], *, hybrid: bool) -> dict[str, tuple[dict, dict] | str]:
    """Prompt → chosen and rejected row, or the reason of its drop, by the definition of the two rules."""
    found: dict[str, tuple[dict, dict] | str] = {}
    for prompt_id in sorted({row["prompt_id"] for row in rows}):
        pool = [row for row in rows if row["prompt_id"] == prompt_id and row["score"] is not None]
        if len(pool) < 2:
            found[prompt_id] = "too_few_candidates"
            continue
        order = {id(row): place for place, row in enumerate(pool)}
        size = {id(row): len(row["response"]) if hybrid else 0 for row in pool}
        chosen = min(pool, key=lambda row: (-row["score"], size[id(row)], order[id(row)]))
        lower = [row for row in pool if row["score"] < chosen["score"]]
        if not lower:
            found[prompt_id] = "no_contrast"
            continue
        found[prompt_id] = (
            chosen,
            min(lower, key=lambda row: (row["score"], abs(size[id(row)] - size[id(chosen)]), order[id(row)])),
        )
    return found


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "table.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in candidates()), encoding="utf-8")
    return path


@pytest.fixture
def recipe(table, tmp_path):
    """A recipe whose build has the same candidates, and one prompt twice."""
    asked = sorted({(row["prompt_id"], row["prompt"]) for row in candidates()})
    prompts = [{"id": prompt_id, "prompt": text} for prompt_id, text in [*asked, asked[0]]]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts), encoding="utf-8")
    sampler = {"kind": "existing", "name": "given", "path": "table.jsonl", "prompt_id_column": "prompt_id"}
    return Recipe.model_validate(
        {
            "name": "what-if",
            "prompts": {"kind": "file", "path": "prompts.jsonl", "prompt_id_column": "id"},
            "candidates": [{**sampler, "score_column": "score", **BY_MODEL}],
            "scores": {"kind": "given"},
            "pairs": {"kind": "best_vs_worst"},
        }
    )


def test_the_numbers_are_those_of_plain_python(table):
    rows = candidates()
    for outcome, hybrid in zip(what_if(table, [BestVsWorst(), WPOHybridV2()]), (False, True), strict=True):
        found = picked(rows, hybrid=hybrid)
        pairs = [pair for pair in found.values() if not isinstance(pair, str)]
        reasons = [reason for reason in found.values() if isinstance(reason, str)]
        assert (outcome.prompts, outcome.pairs, outcome.paired_prompts) == (40, len(pairs), len(pairs))
        assert outcome.drops == {reason: reasons.count(reason) for reason in sorted(set(reasons))}
        assert len(outcome.drops) >= 1
        assert outcome.mean_margin == round(fmean(chosen["score"] - rejected["score"] for chosen, rejected in pairs), 4)
        lengths = [(len(chosen["response"]), len(rejected["response"])) for chosen, rejected in pairs]
        assert outcome.length == {
            "chosen": round(fmean(chosen for chosen, _ in lengths), 4),
            "rejected": round(fmean(rejected for _, rejected in lengths), 4),
            "difference": round(fmean(chosen - rejected for chosen, rejected in lengths), 4),
        }
        assert outcome.chosen_longer == round(fmean(chosen > rejected for chosen, rejected in lengths), 4)
        for side in (0, 1):
            share = fmean(pair[side]["source"] == "teacher" for pair in pairs)
            assert outcome.sources["teacher"]["chosen" if side == 0 else "rejected"] == round(share, 4)


def test_a_rule_differs_from_the_first_where_it_picks_other_answers(table):
    rows = candidates()
    first, second = what_if(table, [BestVsWorst(), WPOHybridV2()])
    assert first.differs == {"both": first.pairs, "chosen": 0.0, "rejected": 0.0, "pair": 0.0, "gained": 0, "lost": 0}
    one, two = picked(rows, hybrid=False), picked(rows, hybrid=True)
    both = [(one[name], two[name]) for name in one if not isinstance(one[name], str)]
    assert second.differs == {
        "both": len(both),
        "chosen": round(fmean(a[0] is not b[0] for a, b in both), 4),
        "rejected": round(fmean(a[1] is not b[1] for a, b in both), 4),
        "pair": round(fmean(a[0] is not b[0] or a[1] is not b[1] for a, b in both), 4),
        "gained": 0,
        "lost": 0,
    }
    assert 0 < second.differs["chosen"] < 1


@pytest.mark.parametrize("shard_size", [3, 256])
def test_a_build_gives_the_numbers_of_its_table_and_asks_nobody(recipe, table, monkeypatch, shard_size):
    build(recipe, "out", shard_size=shard_size)

    def never(*_):
        raise AssertionError("asked again")

    monkeypatch.setattr(ExistingCompletions, "sample", never)
    from_build, from_table = (what_if(where, [BestVsWorst(), WPOHybridV2()]) for where in ("out", table))
    for built, read in zip(from_build, from_table, strict=True):
        assert built.prompts == read.prompts + 1
        assert built.drops == {"duplicate": 1, **read.drops}
        assert {**vars(built), "prompts": 0, "drops": 0} == {**vars(read), "prompts": 0, "drops": 0}


def test_a_dataset_with_its_candidates_is_enough(recipe, table, prefdata):
    dataset = build(recipe, "out").dataset
    assert prefdata("pair", table, "--rule", "best_vs_worst", "--out", "pairs", "--with-candidates").code == 0
    rules = [BestVsWorst(), WPOHybridV2()]
    assert what_if(dataset, rules) == what_if("out", rules)
    assert what_if("pairs", rules) == what_if(table, rules)


def test_a_build_that_stopped_after_the_scores_is_enough(recipe, monkeypatch):
    real = BuildRunner.run_stage

    def stop_at(name):
        def run_stage(self, stage, engines=None):
            if stage.name == name:
                raise KeyboardInterrupt
            real(self, stage, engines)

        monkeypatch.setattr(BuildRunner, "run_stage", run_stage)

    stop_at("pairs")
    with pytest.raises(KeyboardInterrupt):
        build(recipe, "out")
    assert what_if("out", [BestVsWorst()])[0].pairs > 0
    stop_at("scores")
    with pytest.raises(KeyboardInterrupt):
        build(recipe, "other")
    with pytest.raises(InputError, match="no build with finished scores"):
        what_if("other", [BestVsWorst()])


def test_a_folder_that_is_no_build_is_refused(tmp_path):
    with pytest.raises(InputError, match="is a folder without a table"):
        what_if(tmp_path, [BestVsWorst()])


def test_a_rule_from_json_is_named_with_its_options(tmp_path, table):
    rule = CustomRule(chosen=Selection(by=(Highest(),)), rejected=Selection(by=(Lowest(),)), length="words")
    (tmp_path / "rule.json").write_text(json.dumps(rule.dump()))
    assert load_rule(tmp_path / "rule.json") == rule
    named, custom = what_if(table, [BestVsWorst(), rule])
    assert custom.rule.startswith("custom: chosen highest score; rejected lowest score")
    assert "length words" in custom.rule
    assert custom.differs["pair"] == 0.0
    assert custom.length != named.length


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not JSON"),
        ('{"kind": "best"}', "unknown kind 'best'"),
        ("null", "does not hold a rule"),
        ('{"kind": "best_vs_worst", "lenght": "words"}', "did you mean 'length'"),
    ],
)
def test_a_json_file_that_holds_no_rule_is_refused(tmp_path, text, says):
    (tmp_path / "rule.json").write_text(text)
    with pytest.raises(RecipeError, match=says):
        load_rule(tmp_path / "rule.json")


class TestCommand:
    def test_json_has_one_object_a_rule(self, table, prefdata):
        said = prefdata("what-if", table, "--rules", "best_vs_worst,wpo_hybrid_v2", "--json")
        outcomes = json.loads(said.out)["rules"]
        assert [found["rule"].partition(":")[0] for found in outcomes] == ["best_vs_worst", "wpo_hybrid_v2"]
        for found in outcomes:
            assert found["prompts"] == found["paired_prompts"] + sum(found["drops"].values())

    def test_the_page_has_one_column_a_rule(self, table, prefdata):
        said = prefdata("what-if", table, "--rules", "best_vs_worst, wpo_hybrid_v2,wpo_hybrid_v1")
        assert said.code == 0
        lines = said.out.splitlines()
        assert [line.partition(":")[0] for line in lines[:3]] == [
            "1  best_vs_worst",
            "2  wpo_hybrid_v2",
            "3  wpo_hybrid_v1",
        ]
        prompts = next(line for line in lines if line.startswith("prompts "))
        assert prompts.split() == ["prompts", "40", "40", "40"]
        assert any(line.startswith("chosen from teacher") for line in lines)

    def test_no_rule_and_an_unknown_rule_are_refused(self, table, prefdata):
        assert "no rule to try" in prefdata("what-if", table).err
        said = prefdata("what-if", table, "--rules", "best_vs_worst,nothing")
        assert (said.code, said.out) == (2, "")
        assert "no pair rule 'nothing'" in said.err

    def test_a_rule_file_is_one_more_column(self, table, tmp_path, prefdata):
        (tmp_path / "rule.json").write_text('{"kind": "wpo_hybrid_v2", "length": "words"}')
        said = prefdata("what-if", table, "--rules", "wpo_hybrid_v2", "--rule-json", tmp_path / "rule.json")
        assert "2  wpo_hybrid_v2: chosen highest score, then shortest" in said.out
        assert "(length words, " in said.out


@pytest.mark.parametrize("first", ["named", "file"])
def test_the_next_command_makes_the_pairs_of_the_first_rule(prefdata, table, tmp_path, first):
    (tmp_path / "rule.json").write_text(json.dumps(WPOHybridV2(length="words").dump()))
    rule = ["--rules", "wpo_hybrid_v2"] if first == "named" else ["--rule-json", tmp_path / "rule.json"]
    said = prefdata("what-if", table, *rule, "--length", "words")
    last = said.out.splitlines()[-1].partition("prefdata ")[2]
    paired = prefdata(*shlex.split(last.replace("DIR", str(tmp_path / "out"))))
    assert paired.code == 0, paired.err
    assert json.loads((tmp_path / "out" / "recipe.json").read_text())["pairs"] == WPOHybridV2(length="words").dump()


def test_each_rule_of_code_is_found_in_the_folder_of_its_file(table, tmp_path):
    for name in ("first", "second"):
        code = 'import polars as pl\n\n\ndef best(candidates):\n    return -pl.col("score"), pl.col("score")\n'
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}_rule.py").write_text(code)
        (tmp_path / name / "rule.json").write_text(json.dumps({"kind": "python", "path": f"{name}_rule:best"}))
    files = [tmp_path / name / "rule.json" for name in ("first", "second")]
    named, first, second = what_if(table, ["best_vs_worst", *files], allow_code=True)
    assert named.pairs == first.pairs == second.pairs > 0
