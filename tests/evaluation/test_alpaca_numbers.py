"""The numbers are AlpacaEval's own: on made-up annotations, on golden ones, and on published ones where they are."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from prefdata.errors import InputError
from prefdata.evaluation.alpaca_eval import (
    Annotation,
    Annotator,
    _config,
    _measured,
    _worker,
    check_df_gamed,
    win_rates,
)

GOLDEN = Path(__file__).parent / "golden"
CASES = json.loads((GOLDEN / "length_control.json").read_text())["cases"]
ANNOTATOR = Annotator("weighted_alpaca_eval_gpt4_turbo")
NAMES = ("base", "model")
GIVEN = os.environ.get("PREFDATA_REAL_TABLES")
PLACES = [Path(GIVEN)] if GIVEN else sorted(Path(__file__).parents[3].glob("*/data"))


def rows(preferences, lengths_1, lengths_2, indexes=None):
    indexes = range(len(preferences)) if indexes is None else indexes
    return [
        Annotation(index, f"q{index}", "x" * one, "x" * two, preference)
        for index, preference, one, two in zip(indexes, preferences, lengths_1, lengths_2, strict=True)
    ]


def test_win_rates_are_means_of_preferences():
    preferences = [1.0, 2.0, 1.75, 1.5, None, 1.1]
    found = win_rates(rows(preferences, [3] * 6, [4] * 6), ANNOTATOR, names=NAMES, df_gamed=None)
    wins = [p - 1 for p in preferences if p is not None]
    mean = sum(wins) / 5
    error = math.sqrt(sum((win - mean) ** 2 for win in wins) / 4 / 5)
    assert found["win_rate"] == pytest.approx(100 * mean, abs=1e-12)
    assert found["standard_error"] == pytest.approx(100 * error, abs=1e-12)
    assert [found[name] for name in ("n_wins", "n_wins_base", "n_draws", "n_total")] == [2, 2, 1, 5]
    assert set(found["versions"]) == {"alpaca_eval", "scikit-learn", "pandas", "numpy"}


def test_length_controlled_win_rates_are_the_golden_ones():
    items = []
    for case in CASES:
        preferences = [None if p is None or math.isnan(p) else p for p in case["preference"]]
        items.append(_measured(rows(preferences, case["len_1"], case["len_2"]), NAMES, GOLDEN / "df_gamed.csv"))
    measured = list(_worker(items, ANNOTATOR, _config(ANNOTATOR)))
    assert len(measured) == 4
    for case, result in zip(CASES, measured, strict=True):
        found, expected = result["metrics"], case["expected"]["length_controlled_v1"]["metrics"]
        assert found.keys() == {*expected, "versions"}
        for name, value in expected.items():
            # Cross-validation chooses another penalty with another scikit-learn.
            tolerance = 0.05 if name in ("length_controlled_winrate", "lc_standard_error") else 1e-9
            assert found[name] == pytest.approx(value, abs=tolerance), (case["name"], name)


def test_an_instruction_of_unknown_difficulty_is_refused():
    with pytest.raises(InputError, match="no difficulty for 1 instructions; the first is row 9000"):
        win_rates(rows([1.2, 1.8], [3, 4], [5, 6], [0, 9000]), ANNOTATOR, names=NAMES, df_gamed=GOLDEN / "df_gamed.csv")


def test_lengths_that_all_differ_by_the_same_can_not_be_controlled():
    with pytest.raises(InputError, match="length control can't be fitted"):
        win_rates(rows([1.2, 1.8], [3, 4], [5, 6]), ANNOTATOR, names=NAMES, df_gamed=GOLDEN / "df_gamed.csv")


def test_df_gamed_is_asked_for_and_never_replaced(tmp_path):
    with pytest.raises(InputError) as missing:
        check_df_gamed(None, allow_other=False)
    for part in ("df_gamed.csv", "tatsu-lab/alpaca_eval", "97aeec3f1c7de6de", "--df-gamed", "--no-length-control"):
        assert part in str(missing.value)
    with pytest.raises(InputError, match=r"is not the published df_gamed\.csv"):
        check_df_gamed(GOLDEN / "df_gamed.csv", allow_other=False)
    said = check_df_gamed(GOLDEN / "df_gamed.csv", allow_other=True)
    assert said["df_gamed_is_published"] is False
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no column 'preference'"):
        check_df_gamed(other, allow_other=True)


def test_published_annotations_give_the_published_win_rates():
    """Published numbers are no part of the repository: `PREFDATA_REAL_TABLES` names their folder."""
    places = [place / "alpacaeval_numbers" for place in PLACES if (place / "alpacaeval_numbers").is_dir()]
    if not places:
        pytest.skip("the published annotations are not beside this checkout; PREFDATA_REAL_TABLES names another place")
    published = json.loads((places[0] / "real_annotations_numbers_only.json").read_text())
    expected = json.loads((places[0] / "real_win_rates.json").read_text())
    assert len(published) == 9
    items = []
    for numbers in published.values():
        preferences, index, *lengths = (numbers[key] for key in ("preference", "index", *_length_keys(numbers)))
        items.append(_measured(rows(preferences, *lengths, index), NAMES, None))
    for name, result in zip(published, _worker(items, ANNOTATOR, _config(ANNOTATOR)), strict=True):
        original = expected[name]["original_code"]
        assert {key: result["metrics"][key] for key in original} == original


def _length_keys(numbers):
    return [key for key in numbers if key not in ("preference", "index")]
