"""The cache of the reference: what it depends on, what a kill costs, and what it never believes."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefdata.training.reference import ReferenceCache, hash_tokens, hash_weights, reference_key

ROWS = [(row, -10.0 - row, -20.0 - row) for row in range(9)]


def filled(folder, key="k" * 64, rows=9):
    cache = ReferenceCache(folder, key, rows)
    cache.append(ROWS[:4])
    cache.append(ROWS[4:rows])
    cache.finish()
    return cache


def test_a_finished_cache_is_one_file_and_gives_its_numbers_back(tmp_path):
    filled(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["k" * 64 + ".parquet"]
    cache = ReferenceCache(tmp_path, "k" * 64, 9)
    assert cache.load()
    chosen, rejected = cache.columns()
    assert chosen.dtype == np.float32
    assert chosen.tolist() == [row[1] for row in ROWS]
    assert rejected.tolist() == [row[2] for row in ROWS]


def test_a_killed_pass_goes_on_after_its_last_chunk(tmp_path):
    before = ReferenceCache(tmp_path, "k", 9)
    before.append([ROWS[7], ROWS[2]])
    before.append([ROWS[0]])
    after = ReferenceCache(tmp_path, "k", 9)
    assert not after.load()
    assert after.missing() == [1, 3, 4, 5, 6, 8]
    after.append([ROWS[row] for row in after.missing()])
    after.finish()
    assert ReferenceCache(tmp_path, "k", 9).load()


def test_a_chunk_cut_off_by_the_kill_is_computed_again(tmp_path):
    cache = ReferenceCache(tmp_path, "k", 9)
    cache.append(ROWS[:5])
    (part,) = tmp_path.glob("k.parts/*.parquet")
    part.write_bytes(part.read_bytes()[:-7])
    again = ReferenceCache(tmp_path, "k", 9)
    again.load()
    assert len(again.missing()) == 9


@pytest.mark.parametrize("position", [4, 40, 60, -60, -20])
def test_a_damaged_file_is_not_believed(tmp_path, position):
    filled(tmp_path)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[position] ^= 255
    file.write_bytes(content)
    cache = ReferenceCache(tmp_path, "k" * 64, 9)
    # Either a byte that means nothing was hit, or the file is as if it were not there.
    assert not cache.load() or cache.columns()[0].tolist() == [row[1] for row in ROWS]


def test_a_file_under_another_key_or_of_other_rows_is_not_believed(tmp_path):
    filled(tmp_path)
    shutil.copy(tmp_path / ("k" * 64 + ".parquet"), tmp_path / "other.parquet")
    assert not ReferenceCache(tmp_path, "other", 9).load()
    assert not ReferenceCache(tmp_path, "k" * 64, 8).load()


def test_weights_are_hashed_by_their_bytes_whatever_their_time_says(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"one")
    times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    before = hash_weights(tmp_path)
    file.write_bytes(b"two")
    os.utime(file, ns=times)
    after = hash_weights(tmp_path)
    assert set(before) == {"config.json", "model.safetensors"}
    assert before["config.json"] == after["config.json"]
    assert before["model.safetensors"] != after["model.safetensors"]


def tokens(file, prompt, chosen, rejected):
    ids = pa.list_(pa.int32())
    names = {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
    table = pa.table({name: pa.array(values, ids) for name, values in names.items()})
    pq.write_table(table.append_column("id", pa.array(["a", "b"])), file)
    return hash_tokens(file)


def test_tokens_are_hashed_with_their_boundaries(tmp_path):
    first = tokens(tmp_path / "a", [[1, 2], [3]], [[4], [5]], [[6], [7]])
    assert first == tokens(tmp_path / "b", [[1, 2], [3]], [[4], [5]], [[6], [7]])
    others = [
        tokens(tmp_path / "c", [[1], [2, 3]], [[4], [5]], [[6], [7]]),
        tokens(tmp_path / "d", [[1, 2], [3]], [[6], [7]], [[4], [5]]),
        tokens(tmp_path / "e", [[1, 2], [3]], [[4], [5]], [[6], [8]]),
    ]
    assert len({first, *others}) == 4


def test_the_key_covers_each_part():
    parts = {"weights": {"a": "1"}, "tokens": "t", "dtype": ["float32", "fp32"], "ld_alpha": None}
    changed = [{**parts, name: "other"} for name in parts]
    assert len({reference_key(told) for told in (parts, *changed)}) == 5
