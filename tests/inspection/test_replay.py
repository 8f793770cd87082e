"""Replay: what a rule reproduces of published pairs, and why it does not reproduce the rest."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from published import row, rows, turns, written

from prefdata.errors import InputError
from prefdata.inspection.replay import replay
from prefdata.pairing import BestVsWorst, SnorkelPairRM, UltraFeedbackBinarized, WPOHybridV1, WPOHybridV2


@pytest.fixture
def classes(tmp_path):
    """The classes of one table, and the share."""

    def run(table, rule=None, **options):
        report = replay(written(tmp_path / "table.jsonl", table), rule or BestVsWorst(), **options)
        assert report.pairs == len(table) == report.reproduced + sum(report.classes.values())
        assert sum(report.dropped.values()) == report.classes.get("rule_drops", 0)
        return report.classes, report.reproduced

    return run


def expected(one: dict) -> str | None:
    """The class of a row made by argmax and argmin, from the definitions; None when it must be reproduced."""
    answers, scores = one["all_generated_responses"], one["all_rm_scores"]
    chosen, rejected = one["chosen"][-1]["content"], one["rejected"][-1]["content"]
    best, low = max(scores), min(scores)
    # Sources are all the same here, so the total order is the index.
    mine_chosen = answers[scores.index(best)]
    pool = [(score, place) for place, score in enumerate(scores) if score < best and answers[place] != mine_chosen]
    mine_rejected = answers[min(pool)[1]] if pool else None
    if (mine_chosen, mine_rejected) == (chosen, rejected):
        return None
    if chosen == rejected:
        return "identical_text"
    if mine_rejected is None:
        return "rule_drops"
    return "tie_rejected" if min(pool)[0] == low else "other"


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_with_the_quirks_every_pair_is_reproduced(tmp_path, seed, suffix):
    table = rows(seed, 300)
    report = replay(written(tmp_path / f"table{suffix}", table), BestVsWorst(), quirks=True)
    assert (report.pairs, report.reproduced, report.share, report.classes) == (300, 300, 1.0, {})


@pytest.mark.parametrize("seed", range(5))
def test_without_the_quirks_the_rest_is_known(classes, seed):
    table = rows(seed, 300)
    expected_classes = Counter(expected(one) for one in table)
    reproduced = expected_classes.pop(None)
    assert expected_classes.keys() >= {"identical_text"}
    assert classes(table) == (dict(sorted(expected_classes.items())), reproduced)


@pytest.mark.parametrize("rule", [SnorkelPairRM(), BestVsWorst()])
def test_a_dataset_without_ties_or_repeats_is_reproduced(classes, rule):
    table = [row(n, [f"{n} {i}" for i in range(5)], [float((i * 7 + n) % 5) for i in range(5)]) for n in range(50)]
    assert classes(table, rule) == ({}, 50)
    assert classes(table, rule, quirks=True) == ({}, 50)


class TestClasses:
    def test_a_tie_at_the_top_and_at_the_bottom(self, classes):
        answers = ["aa", "bb", "cc", "dd"]
        assert classes([row(0, answers, [2, 2, 1, 1], (1, 2))])[0] == {"tie_chosen": 1}
        assert classes([row(0, answers, [2, 2, 1, 1], (0, 3))])[0] == {"tie_rejected": 1}
        assert classes([row(0, answers, [2, 2, 1, 1], (1, 3))])[0] == {"tie_chosen+tie_rejected": 1}

    def test_a_length_key_that_the_publisher_did_not_have(self, classes):
        answers = ["long answer", "short", "no", "another"]
        scores = [2, 2, 1, 1]
        assert classes([row(0, answers, scores, (1, 3))], WPOHybridV2()) == ({}, 1)
        assert classes([row(0, answers, scores, (0, 3))], WPOHybridV2())[0] == {"length_key_chosen": 1}
        assert classes([row(0, answers, scores, (1, 2))], WPOHybridV2())[0] == {"length_key_rejected": 1}

    def test_the_length_key_is_in_the_unit_of_the_rule(self, classes):
        table = [row(0, ["a b c", "abcdefgh", "no"], [2, 2, 1], (1, 2))]
        assert classes(table, WPOHybridV2())[0] == {"length_key_chosen": 1}
        assert classes(table, WPOHybridV2(length="words")) == ({}, 1)

    def test_what_no_rule_may_see_is_ineligible(self, classes):
        blank, unscored = row(0, ["a", "b", " "], [3, 2, 1]), row(1, ["a", "b", "c"], [3, 2, None], (0, 2))
        assert classes([blank, unscored])[0] == {"ineligible_rejected": 2}
        assert classes([blank], BestVsWorst(admit=("blank",))) == ({}, 1)
        assert classes([blank], quirks=True) == ({}, 1)

    def test_another_score_is_other(self, classes):
        assert classes([row(0, ["a", "b", "c"], [3, 2, 1], (1, 2))])[0] == {"other": 1}
        assert classes([row(0, ["a", "b", "c"], [3, 2, 1], (2, 0))])[0] == {"other": 1}

    def test_identical_texts_come_before_the_drop_of_the_rule(self, classes):
        assert classes([row(0, ["same"] * 3, [3, 2, 1])])[0] == {"identical_text": 1}
        assert classes([row(0, ["a", "b", "c"], [1, 1, 1])])[0] == {"identical_text": 1}

    def test_what_the_rule_drops_has_the_reason_of_the_rule(self, tmp_path):
        table = [row(0, ["a", "b", "c"], [1, 1, 1], (0, 1)), row(1, ["a", " ", "c"], [1, 0, None], (0, 1))]
        report = replay(written(tmp_path / "t.jsonl", table), BestVsWorst())
        assert report.classes == {"rule_drops": 2}
        assert report.dropped == {"no_contrast": 1, "too_few_candidates": 1}
        assert report.examples["rule_drops"][0] == {
            "prompt_id": "id0",
            "row": 0,
            "published_chosen": {"scores": [1.0], "length": 1},
            "published_rejected": {"scores": [1.0], "length": 1},
            "reason": "no_contrast",
        }

    def test_a_text_that_nobody_answered(self, classes):
        strange = {**row(0, ["a", "b"], [2, 1]), "chosen": "c"}
        missing = {**row(1, ["a", "b"], [2, 1]), "rejected": None}
        empty = {**row(2, ["a", "b"], [2, 1]), "rejected": []}
        assert classes([strange, missing, empty])[0] == {"not_in_candidates": 3}

    def test_a_random_key_is_told_from_a_wrong_score(self, classes):
        table = [row(n, ["a", "b", "c", "d"], [4, 3, 2, 1], (0, 1 + n % 3)) for n in range(30)]
        found, reproduced = classes(table, UltraFeedbackBinarized())
        assert found == {"random_rejected": 30 - reproduced}
        assert 0 < reproduced < 30

    def test_lists_of_unequal_length_are_a_drop(self, tmp_path):
        broken = {**row(0, ["a", "b"], [2, 1]), "all_rm_scores": [2.0]}
        report = replay(written(tmp_path / "t.jsonl", [broken]), BestVsWorst())
        assert (report.classes, report.dropped) == ({"rule_drops": 1}, {"misaligned_scores": 1})

    def test_the_same_text_with_two_scores_is_found_by_either(self, classes):
        table = [row(0, ["x", "y", "x", "z"], [1, 2, 3, 0], (2, 3)), row(1, ["x", "y", "x"], [1, 3, 0], (1, 2))]
        assert classes(table) == ({}, 2)


class TestShapes:
    @pytest.mark.parametrize("quirks", [False, True])
    def test_texts_turns_and_conversations_of_many_turns(self, tmp_path, quirks):
        first = {**row(0, ["a", "b"], [2, 1]), "chosen": "a", "rejected": "b"}
        talk = [*turns("Hello?", "not this one"), *turns("And?", "a")]
        second = {**row(1, ["a", "b"], [2, 1]), "chosen": talk}
        third = {**row(2, ["a", "b"], [2, 1]), "chosen": turns("x", "a")[1:], "rejected": json.dumps(turns("x", "b"))}
        table = written(tmp_path / "t.jsonl", [first, second, third])
        assert replay(table, BestVsWorst(), quirks=quirks).share == 1.0

    def test_a_folder_of_the_hub_has_splits(self, tmp_path):
        for name in ("train_iteration_1", "train_iteration_2"):
            table = rows(len(name), 40)
            written(tmp_path / "data" / f"{name}-00000-of-00002-abc.parquet", table[:15])
            written(tmp_path / "data" / f"{name}-00001-of-00002-abc.parquet", table[15:])
        written(tmp_path / "data" / "test_iteration_1-00000-of-00001.parquet", rows(9, 7))
        with pytest.raises(InputError, match="several splits") as refused:
            replay(tmp_path, BestVsWorst(), quirks=True)
        assert "test_iteration_1, train_iteration_1, train_iteration_2" in str(refused.value)
        second = replay(tmp_path, BestVsWorst(), split="train_iteration_2", quirks=True)
        assert (second.pairs, second.share) == (40, 1.0)
        with pytest.raises(InputError, match="no split 'train_iteration_3'"):
            replay(tmp_path, BestVsWorst(), split="train_iteration_3")

    def test_a_prompt_that_comes_twice_is_judged_row_by_row(self, classes):
        first, second = row(0, ["a", "b"], [2, 1]), row(0, ["c", "d"], [9, 0])
        assert classes([first, second, first]) == ({}, 3)

    def test_rows_are_judged_alike_in_any_block(self, tmp_path, monkeypatch):
        table = written(tmp_path / "t.parquet", rows(4, 100))
        whole = replay(table, BestVsWorst())
        monkeypatch.setattr("prefdata.inspection.replay._BLOCK", 7)
        assert replay(table, BestVsWorst()) == whole

    def test_columns_go_by_other_names(self, tmp_path, prefdata):
        renamed = [
            {"q": one["prompt"], "gens": one["all_generated_responses"], "rm": one["all_rm_scores"]}
            | {"best": one["chosen"], "worst": one["rejected"]}
            for one in rows(1, 20)
        ]
        table = written(tmp_path / "t.jsonl", renamed)
        columns = "prompt=q,response=gens,score=rm,chosen=best,rejected=worst"
        result = prefdata("replay", table, "--rule", "best_vs_worst", "--columns", columns, "--quirks", "--json")
        assert (result.code, json.loads(result.out)["share"]) == (0, 1.0)

    def test_scores_may_be_texts_and_lists_of_one(self, classes):
        table = [{**row(0, ["a", "b", "c"], [3, 1, 2]), "all_rm_scores": ["3.0", [1], 2]}]
        assert classes(table) == ({}, 1)


class TestCommand:
    def test_the_page_has_the_share_the_classes_and_examples(self, tmp_path, prefdata):
        table = [row(0, ["a", "b"], [2, 1]), row(1, ["a\x1b[2J", "b", "c"], [2, 2, 1], (1, 2))]
        result = prefdata("replay", written(tmp_path / "t.jsonl", table), "--rule", "best_vs_worst")
        assert result.code == 0
        assert "reproduced     1 of 2 pairs (50.00%)" in result.out
        assert "tie_chosen" in result.out
        assert "row 1; id1; published chosen 2, length 1; rule chosen 2, length 5" in result.out
        assert "\x1b" not in result.out

    @pytest.mark.parametrize(
        ("rule", "change", "says"),
        [
            ("best_vs_worts", {}, "did you mean 'best_vs_worst'"),
            ("best_vs_worst", {"all_rm_scores": "scores"}, "no column 'all_rm_scores' for the role 'score'"),
            ("best_vs_worst", {"chosen": "selected"}, "--columns chosen=NAME"),
        ],
    )
    def test_mistakes_end_in_one_message(self, tmp_path, prefdata, rule, change, says):
        table = [{change.get(name, name): cell for name, cell in one.items()} for one in rows(0, 3)]
        result = prefdata("replay", written(tmp_path / "t.jsonl", table), "--rule", rule)
        assert (result.code, result.out) == (2, "")
        assert says in result.err

    def test_a_folder_without_a_table_is_refused(self, tmp_path, prefdata):
        (tmp_path / "data-00000-of-00001.arrow").write_bytes(b"")
        result = prefdata("replay", tmp_path, "--rule", "best_vs_worst")
        assert result.code == 2
        assert "to_parquet" in result.err

    def test_a_table_without_rows_is_refused(self, tmp_path, prefdata):
        table = written(tmp_path / "t.parquet", rows(0, 3))
        import pyarrow.parquet as pq

        pq.write_table(pq.ParquetFile(table).read().slice(0, 0), table)
        result = prefdata("replay", table, "--rule", "best_vs_worst", "--json")
        assert result.code == 2
        assert "has no rows" in result.err

    def test_a_rule_of_many_pairs_has_no_quirks(self, tmp_path, prefdata):
        table = written(tmp_path / "t.parquet", rows(0, 3))
        (tmp_path / "rule.json").write_text('{"kind": "top_k_vs_bottom_k", "k": 2}')
        result = prefdata("replay", table, "--rule-json", tmp_path / "rule.json", "--quirks")
        assert result.code == 2
        assert "leave --quirks out" in result.err


def test_a_margin_that_was_not_published_is_a_drop(tmp_path):
    table = [row(0, ["a", "b"], [4, 1]), row(1, ["a", "b"], [6, 5.5])]
    report = replay(written(tmp_path / "t.jsonl", table), WPOHybridV1())
    assert report.dropped == {"no_chosen": 1, "no_rejected": 1}
