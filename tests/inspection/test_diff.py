"""What differs between two dataset folders, and the exit code of `prefdata diff`."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefdata.errors import InputError
from prefdata.flow.from_table import pair
from prefdata.inspection.diff import diff
from prefdata.pairing import BestVsWorst, WPOHybridV2


def answers(prompt: str, *scored: tuple[str, float | None]) -> list[dict]:
    return [
        {"prompt_id": prompt, "prompt": f"Question {prompt}?", "response": text, "score": score}
        for text, score in scored
    ]


# p0 and p1 give pairs, p2 has no contrast, p3 has a tie at the top where the shorter answer is not the first.
BEFORE = [
    *answers("p0", ("good answer", 3), ("bad", 1)),
    *answers("p1", ("yes", 4), ("no", 2), ("perhaps", 2)),
    *answers("p2", ("one", 1), ("two", 1)),
    *answers("p3", ("a longer answer", 5), ("short", 5), ("worst", 0)),
]


def dataset(folder: Path, rows: list[dict], rule=None) -> Path:
    """The dataset of a table; tables of all folders have the same name."""
    folder.mkdir()
    table = folder / "table.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pair(table, rule or BestVsWorst(), folder / "out")
    return folder / "out"


@pytest.fixture
def before(tmp_path):
    return dataset(tmp_path / "before", BEFORE)


def rewritten(folder: Path, change) -> None:
    """Lets `change` edit the rows of the train split."""
    path = folder / "data" / "train-00000-of-00001.parquet"
    table = pq.ParquetFile(path).read()
    rows = change(table.to_pylist())
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)


def test_a_dataset_equals_itself_and_its_copy(before, tmp_path):
    shutil.copytree(before, tmp_path / "copy")
    for other in (before, tmp_path / "copy", dataset(tmp_path / "again", BEFORE)):
        difference = diff(before, other)
        assert difference.equal
        assert (difference.gained, difference.lost, difference.outcomes, difference.changed, difference.card) == (
            0,
            0,
            {},
            {},
            [],
        )
        assert difference.counts == {"prompts": [4, 4], "pairs": [3, 3]}


def test_prompts_gained_and_lost(before, tmp_path):
    rows = [row for row in BEFORE if row["prompt_id"] != "p0"]
    difference = diff(
        before, dataset(tmp_path / "after", [*rows, *answers("p9", ("a", 2), ("b", 1)), *answers("p8", ("a", 1))])
    )
    assert (difference.gained, difference.lost) == (2, 1)
    assert (difference.examples["gained"], difference.examples["lost"]) == (["p8", "p9"], ["p0"])
    assert difference.counts["prompts"] == [4, 5]
    assert (difference.outcomes, difference.changed) == ({}, {})


def test_reasons_that_changed(before, tmp_path):
    rows = [row for row in BEFORE if row["prompt_id"] not in ("p0", "p2")]
    rows += [*answers("p0", ("good answer", 3), ("bad", None)), *answers("p2", ("one", 1), ("two", 0))]
    difference = diff(before, dataset(tmp_path / "after", rows))
    assert difference.outcomes == {"no_contrast → pair": 1, "pair → too_few_candidates": 1}
    assert difference.examples["outcomes"] == ["p0", "p2"]
    assert {entry["path"] for entry in difference.ledger} >= {"drops.no_contrast", "drops.too_few_candidates"}


def test_another_rule_changes_pairs_numbers_recipe_and_card(before, tmp_path):
    after = dataset(tmp_path / "after", BEFORE, WPOHybridV2())
    difference = diff(before, after)
    # p3's chosen answer is the shorter one; p1's rejected one is the one nearer to "yes", which is the first anyway.
    assert (difference.changed["chosen"], difference.changed.get("rejected")) == (1, None)
    assert difference.changed["length_chosen"] == 1
    assert difference.changed["decided_chosen"] == 1
    assert difference.examples["chosen"] == ["p3"]
    assert difference.means["length_chosen"] == [round((11 + 3 + 15) / 3, 4), round((11 + 3 + 5) / 3, 4)]
    assert difference.means["score_margin"] == [3.0, 3.0]
    assert {"path": "pairs.kind", "before": "best_vs_worst", "after": "wpo_hybrid_v2"} in difference.recipe
    assert any(line.startswith("-# table-best_vs_worst") for line in difference.card)
    assert any(line.startswith("+# table-wpo_hybrid_v2") for line in difference.card)
    assert difference.audit


def test_means_are_over_the_pairs_of_both_alone(before, tmp_path):
    difference = diff(before, dataset(tmp_path / "after", [*BEFORE, *answers("p9", ("x" * 1000, 100), ("y", -100))]))
    assert all(was == now for was, now in difference.means.values())
    assert difference.means["score_chosen"][0] == 4.0


def test_a_prompt_that_moved_to_another_split(before, tmp_path):
    after = tmp_path / "moved"
    shutil.copytree(before, after)
    train = after / "data" / "train-00000-of-00001.parquet"
    table = pq.ParquetFile(train).read()
    pq.write_table(table.slice(0, 1), after / "data" / "test-00000-of-00001.parquet")
    pq.write_table(table.slice(1), train)
    difference = diff(before, after)
    assert difference.splits == {"train → test": 1}
    assert difference.examples["splits"] == ["p0"]
    assert not difference.equal


def test_one_character_of_a_text_is_a_difference(before, tmp_path):
    after = tmp_path / "edited"
    shutil.copytree(before, after)

    def change(rows):
        rows[0]["rejected"][0]["content"] += "!"
        return rows

    rewritten(after, change)
    difference = diff(before, after)
    assert difference.changed == {"rejected": 1}
    assert difference.examples == {"rejected": ["p0"]}


def test_columns_added_removed_and_of_another_type(before, tmp_path):
    after = tmp_path / "columns"
    shutil.copytree(before, after)
    path = after / "data" / "train-00000-of-00001.parquet"
    table = pq.ParquetFile(path).read().drop_columns(["n_eligible"])
    table = table.append_column("note", pa.array(["x"] * table.num_rows))
    column = table.schema.get_field_index("length_chosen")
    table = table.set_column(column, "length_chosen", table["length_chosen"].cast(pa.float64()))
    pq.write_table(table, path)
    difference = diff(before, after)
    assert difference.schema == {
        "length_chosen": ["Int64", "Float64"],
        "n_eligible": ["Int64", None],
        "note": [None, "String"],
    }


def test_recipe_paths_at_any_depth(before, tmp_path):
    after = tmp_path / "recipe"
    shutil.copytree(before, after)
    recipe = json.loads((after / "recipe.json").read_text())
    recipe["pairs"] = {**recipe["pairs"], "admit": ["blank"], "length": "words", "new": None}
    del recipe["table"]
    (after / "recipe.json").write_text(json.dumps(recipe))
    assert diff(before, after).recipe == [
        {"path": "pairs.admit[0]", "after": "blank"},
        {"path": "pairs.length", "before": "characters", "after": "words"},
        {"path": "pairs.new", "after": None},
        {"path": "table", "before": "table.jsonl"},
    ]


def test_several_pairs_of_a_prompt_are_matched_by_their_number(before, tmp_path):
    twice, changed = tmp_path / "twice", tmp_path / "changed"
    for folder in (twice, changed):
        shutil.copytree(before, folder)
        rewritten(folder, lambda rows: [*rows, *({**row, "pair_index": 1} for row in rows)])

    def change(rows):
        rows[-1]["chosen"][0]["content"] = "another"
        return rows

    rewritten(changed, change)
    assert diff(twice, twice).equal
    assert diff(twice, changed).changed == {"chosen": 1}
    assert diff(before, twice).counts["pairs"] == [3, 6]


def test_a_long_card_is_cut_off(before, tmp_path):
    after = tmp_path / "card"
    shutil.copytree(before, after)
    (after / "README.md").write_text("".join(f"line {number}\n" for number in range(1000)))
    card = diff(before, after).card
    assert len(card) == 81
    assert card[-1].endswith("more lines")


class TestCommand:
    def test_equal_folders_end_with_0(self, before, prefdata):
        result = prefdata("diff", before, before)
        assert (result.code, result.err) == (0, "")
        assert "the same dataset: 3 pairs" in result.out
        assert json.loads(prefdata("diff", before, before, "--json").out)["equal"] is True

    def test_different_ones_end_with_1_and_say_where(self, before, tmp_path, prefdata):
        after = dataset(tmp_path / "after", [*BEFORE, *answers("p\x1b[2J9", ("a", 2), ("b", 1))], WPOHybridV2())
        result = prefdata("diff", before, after)
        assert (result.code, result.err) == (1, "")
        lines = result.out.splitlines()
        assert lines[0].startswith("3 → 4 pairs, 1 prompts gained")
        assert lines[-1] == f"Next:    prefdata diff {before} {after} --ids"
        hashes = [bool(re.search("[0-9a-f]{40}", line)) for line in lines[:-2]]
        assert hashes == sorted(hashes), "a line with a hash comes before one without"
        assert any(hashes)
        assert "prompts        1 gained, 0 lost" in result.out
        assert 'recipe         pairs.kind: "best_vs_worst" → "wpo_hybrid_v2"' in result.out
        assert "mean           length_chosen 9.667 → 6.333" in result.out
        assert "\x1b" not in result.out
        as_json = prefdata("diff", before, after, "--json")
        assert as_json.code == 1
        assert json.loads(as_json.out)["gained"] == 1

    def test_every_id_is_named_where_they_are_asked_for(self, tmp_path, prefdata):
        prompts = [f"prompt-{number:03d}" for number in range(40)]
        tables = (
            [row for prompt in prompts[:start] for row in answers(prompt, ("a", 2), ("b", 1))] for start in (10, 40)
        )
        few, many = (dataset(tmp_path / str(place), rows) for place, rows in enumerate(tables))
        assert len(diff(few, many).examples["gained"]) == 5
        assert diff(few, many, ids=True).examples["gained"] == prompts[10:]
        lines = prefdata("diff", few, many, "--ids").out.splitlines()
        assert [line.split()[1] for line in lines if line.startswith("gained ")] == prompts[10:]

    def test_what_is_no_dataset_ends_with_2(self, before, tmp_path, prefdata):
        result = prefdata("diff", before, tmp_path / "nothing")
        assert (result.code, result.out) == (2, "")
        assert "there is no file or folder" in result.err


@pytest.mark.parametrize("file", ["data/train-00000-of-00001.parquet", "drops.parquet", "recipe.json"])
def test_a_damaged_folder_is_refused(before, tmp_path, file):
    after = tmp_path / "damaged"
    shutil.copytree(before, after)
    (after / file).write_bytes((after / file).read_bytes()[:40])
    with pytest.raises(InputError):
        diff(before, after)
