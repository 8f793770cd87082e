"""The dataset folder: `datasets`, pandas and Polars read it alike, and its bytes depend on the data only."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from dataset_folders import IDS, rows, written

from prefdata.errors import ConservationError
from prefdata.publish import folder
from prefdata.tables.schemas import CANDIDATE_DROPS, DROPS


def tree(where: Path) -> dict[str, str]:
    files = (path for path in sorted(where.rglob("*")) if path.is_file())
    return {str(path.relative_to(where)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def data(where: Path) -> list[str]:
    return sorted(path.name for path in (where / "data").iterdir())


LOAD = """
import json, sys
import pyarrow.parquet as pq
from pathlib import Path
from datasets import load_dataset
found = load_dataset(sys.argv[1], cache_dir=sys.argv[2], streaming=sys.argv[3] == "streamed")
told = {"names": list(found)}
for name, split in found.items():
    files = sorted(Path(sys.argv[1]).glob(f"data/{name}-*.parquet"))
    rows = list(split)
    told[name] = {
        "rows": len(rows),
        "equal": rows == [row for file in files for row in pq.ParquetFile(file).read().to_pylist()],
        "features": {column: str(kind) for column, kind in split.features.items()},
    }
print(json.dumps(told))
"""


def loaded(where: Path, cache: Path, how: str = "whole") -> dict[str, object]:
    """What `datasets` reads from the folder in a fresh process."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(cache), "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, "-W", "error::UserWarning", "-c", LOAD, str(where), str(cache), how]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


MESSAGES = "List({'role': Value('string'), 'content': Value('string')})"


class TestDatasetsReadsIt:
    """One fresh process each: importing `datasets` takes seconds."""

    def test_two_splits_of_several_row_groups_and_files(self, tmp_path, monkeypatch):
        monkeypatch.setattr(folder, "_FILE_BYTES", 20_000)
        where = written(tmp_path / "dataset", test_ids=IDS[::5])
        assert len(data(where)) >= 3
        splits = loaded(where, tmp_path / "cache")
        assert splits["names"] == ["train", "test"]
        assert (splits["train"]["rows"], splits["test"]["rows"]) == (2000, 500)
        assert splits["train"]["equal"] and splits["test"]["equal"]
        assert splits["train"]["features"] == splits["test"]["features"]
        features = splits["train"]["features"]
        assert [features[name] for name in ("prompt", "chosen", "rejected")] == [MESSAGES] * 3
        assert features["prompt_id"] == "Value('string')"
        assert features["score_chosen"] == "Value('float64')"
        assert features["n_candidates"] == "Value('int64')"
        assert list(features) == pq.read_schema(next((where / "data").iterdir())).names

    def test_without_a_single_pair_its_stream_is_empty_and_keeps_the_features(self, tmp_path):
        # Not streamed, `datasets` loads no split that has no row: "corresponds to no data".
        splits = loaded(written(tmp_path / "dataset", [], ["held out"]), tmp_path / "cache", "streamed")
        assert splits["names"] == ["train"]
        assert splits["train"]["rows"] == 0
        assert splits["train"]["equal"]
        assert splits["train"]["features"]["chosen"] == MESSAGES
        assert splits["train"]["features"]["score_chosen"] == "Value('float64')"

    @pytest.mark.parametrize(("test_ids", "left"), [(["dropped"], "train"), (IDS[:5], "test")])
    def test_a_split_without_a_pair_is_left_out_because_it_would_make_all_of_it_unloadable(
        self, tmp_path, test_ids, left
    ):
        where = written(tmp_path / "dataset", IDS[:5], test_ids)
        assert data(where) == [f"{left}-00000-of-00001.parquet"]
        splits = loaded(where, tmp_path / "cache")
        assert splits["names"] == [left]
        assert splits[left]["equal"]


class TestFiles:
    def test_every_row_is_in_the_split_of_its_prompt_and_in_order(self, tmp_path):
        where = written(tmp_path / "dataset", test_ids=[*IDS[::5], "not among them"])
        train, test = (pq.read_table(where / "data" / name) for name in reversed(data(where)))
        assert train["prompt_id"].to_pylist() == [i for n, i in enumerate(IDS) if n % 5]
        assert test["prompt_id"].to_pylist() == IDS[::5]
        whole = rows(IDS)
        assert train.replace_schema_metadata().equals(whole.take([n for n in range(2500) if n % 5]))

    def test_bytes_do_not_depend_on_how_the_rows_come(self, tmp_path):
        trees = [tree(written(tmp_path / str(step), test_ids=IDS[:300], step=step)) for step in (70, 1000, 2500)]
        assert trees[0] == trees[1] == trees[2]

    def test_files_roll_over_and_are_numbered_by_how_many_there_are(self, tmp_path, monkeypatch):
        assert data(written(tmp_path / "one")) == ["train-00000-of-00001.parquet"]
        monkeypatch.setattr(folder, "_FILE_BYTES", 1)
        names = [f"train-0000{number}-of-00003.parquet" for number in range(3)]
        where = written(tmp_path / "three")
        assert data(where) == names
        assert [pq.read_metadata(where / "data" / name).num_rows for name in names] == [1000, 1000, 500]
        assert data(written(tmp_path / "exactly", IDS[:2000], step=1000)) == [
            f"train-0000{number}-of-00002.parquet" for number in range(2)
        ]

    def test_row_groups_are_small_and_have_a_page_index_and_plain_types(self, tmp_path):
        where = written(tmp_path / "dataset", test_ids=IDS[:10])
        for path in [*(where / "data").iterdir(), *where.glob("*.parquet")]:
            file = pq.ParquetFile(path)
            groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
            assert all(group.num_rows <= 1000 for group in groups)
            for group in groups:
                for number in range(group.num_columns):
                    column = group.column(number)
                    assert column.has_offset_index, (path.name, column.path_in_schema)
                    assert column.has_column_index, (path.name, column.path_in_schema)
                    assert column.compression == "ZSTD"
            kinds = {str(field.type) for field in file.schema_arrow}
            assert not any("large" in kind or "view" in kind or "dictionary" in kind for kind in kinds)

    def test_every_table_tells_its_features_in_its_schema(self, tmp_path):
        where = written(tmp_path / "dataset", IDS[:10], IDS[:2])
        for path in [*(where / "data").iterdir(), *where.glob("*.parquet")]:
            schema = pq.read_schema(path)
            features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
            assert list(features) == schema.names
            assert features["prompt_id"] == {"dtype": "string", "_type": "Value"}
        turn = {"role": {"dtype": "string", "_type": "Value"}, "content": {"dtype": "string", "_type": "Value"}}
        schema = pq.read_schema(next((where / "data").iterdir()))
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        assert features["chosen"] == {"feature": turn, "_type": "List"}
        assert features["score_chosen"] == {"dtype": "float64", "_type": "Value"}

    def test_pandas_and_polars_read_the_same_rows(self, tmp_path):
        import pandas as pd
        import polars as pl

        path = written(tmp_path / "dataset", IDS[:50]) / "data" / "train-00000-of-00001.parquet"
        expected = rows(IDS[:50]).to_pylist()
        assert pl.read_parquet(path).to_dicts() == expected
        frame = pd.read_parquet(path)
        assert frame["prompt_id"].tolist() == IDS[:50]
        assert [[dict(turn) for turn in turns] for turns in frame["prompt"]] == [row["prompt"] for row in expected]

    def test_the_drops_are_tables_of_their_own_schemas(self, tmp_path):
        where = written(tmp_path / "dataset", IDS[:3])
        for name, schema, count in (("drops", DROPS, 1), ("drops_candidates", CANDIDATE_DROPS, 2)):
            table = pq.read_table(where / f"{name}.parquet")
            assert table.schema.remove_metadata() == schema
            assert table.num_rows == count

    def test_only_the_splits_are_in_the_data_folder_and_the_card_names_them(self, tmp_path):
        for name, test_ids in (("with", IDS[:2]), ("without", ())):
            where = written(tmp_path / name, IDS[:5], test_ids)
            header = yaml.safe_load((where / "README.md").read_text("utf-8").split("---\n")[1])
            (config,) = header["configs"]
            expected = ["train", "test"] if test_ids else ["train"]
            assert [entry["split"] for entry in config["data_files"]] == expected
            for entry in config["data_files"]:
                assert len(list(where.glob(entry["path"]))) == 1
            assert len(data(where)) == len(expected)
            assert sorted(path.name for path in where.iterdir()) == [
                "README.md",
                "data",
                "drops.parquet",
                "drops_candidates.parquet",
                "ledger.json",
                "prefdata.lock.json",
                "prefdata.manifest.json",
                "recipe.json",
            ]

    def test_rows_that_the_ledger_does_not_count_are_a_conservation_error(self, tmp_path):
        ledger = {"prompts": 5, "pairs": 4, "drops": {}, "ineligible": {}, "stages": []}
        with pytest.raises(ConservationError, match="dataset: 4 pairs in, 5 rows out"):
            written(tmp_path / "dataset", IDS[:5], ledger=ledger)

    def test_a_long_test_split_in_a_short_table_and_the_other_way_round(self, tmp_path):
        for held in (IDS[:2499], IDS[2499:], IDS):
            where = written(tmp_path / str(len(held)), test_ids=held)
            counts = {name.partition("-")[0]: pq.read_metadata(where / "data" / name).num_rows for name in data(where)}
            expected = {"train": 2500 - len(held), "test": len(held)}
            assert counts == {name: count for name, count in expected.items() if count}
