"""`prefdata verify`: what it prints, how it ends, and datasets of a Hub."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from forgery import rewrite, rows
from minihub import MiniHub

TRAIN = "data/train-00000-of-00001.parquet"


def test_it_ends_with_0_when_all_holds(dataset, prefdata):
    result = prefdata("verify", dataset)
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[-1] == "Everything that was checked holds."
    assert "checked      ledger, recounted" in result.out


def test_it_ends_with_1_on_a_mismatch_and_shows_the_first_ones_of_all(dataset, prefdata):
    def change(table):
        for row in table:
            row["score_chosen"] += 1

    rewrite(dataset / TRAIN, change)
    result = prefdata("verify", dataset)
    assert (result.code, result.err) == (1, "")
    # The manifest's hash, and its size unless the compressed file happens to be as long.
    count, listed = len(rows(dataset / TRAIN)), result.out.count("manifest: ")
    assert listed in (1, 2)
    assert result.out.splitlines()[-1] == f"{count + listed} mismatches: field {count}, manifest {listed}"
    assert f"... and {count + listed - 20} more; --json shows all" in result.out
    assert result.out.count("expected") == 20
    result = prefdata("verify", dataset, "--json")
    assert result.code == 1
    report = json.loads(result.out)
    assert len(report["mismatches"]) == count + listed
    assert report["counts"] == {"field": count, "manifest": listed}


def test_texts_of_the_data_can_not_write_to_the_terminal(dataset, prefdata):
    rewrite(dataset / TRAIN, lambda table: table[0].update(prompt_id="\x1b[2J\u202e", source_chosen="\x1b[31m"))
    result = prefdata("verify", dataset)
    assert result.code == 1
    assert "\x1b" not in result.out
    assert "\u202e" not in result.out


def test_mistakes_end_with_2(prefdata, tmp_path):
    for arguments in (["nowhere"], [tmp_path], [tmp_path / "a" / "b"]):
        result = prefdata("verify", *arguments)
        assert (result.code, result.out) == (2, "")
        assert "Traceback" not in result.err


@pytest.fixture
def hub(tmp_path):
    server = MiniHub(tmp_path / "hub").start()
    yield server
    server.stop()


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_dataset_of_the_hub_is_verified_at_one_commit(built, dataset, hub, fresh, tmp_path):
    sha = hub.put(
        "dataset", "alice/prefs", {**files_of(built / "dataset"), ".gitattributes": b"*.parquet filter=lfs\n"}
    )
    rewrite(dataset / TRAIN, lambda table: table[0].update(score_chosen=99.0))
    hub.put("dataset", "alice/prefs", {TRAIN: (dataset / TRAIN).read_bytes()})
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    environment["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ.pop("HF_HUB_OFFLINE", None)

    good = fresh("verify", f"alice/prefs@{sha}", "--json", cwd=tmp_path, **environment)
    assert good.code == 0, good.err + good.out
    assert json.loads(good.out)["commit"] == sha

    bad = fresh("verify", "alice/prefs", cwd=tmp_path, **environment)
    assert bad.code == 1, bad.err
    assert "score_chosen" in bad.out

    none = fresh("verify", "alice/nothing", cwd=tmp_path, **environment)
    assert none.code == 2
    assert "alice/nothing" in none.err
