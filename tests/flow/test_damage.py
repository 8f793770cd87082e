"""Damaged build folders: named and never believed, set aside on request, and only what is lost is made again."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from replayed import recipe, tree

from benchmarks.damage import tries, write_recipe
from prefdata.errors import StoreError
from prefdata.flow import stage_files
from prefdata.flow.build import build
from prefdata.flow.journal import Journal
from prefdata.flow.reader import BuildReader
from prefdata.sampling.existing import ExistingCompletions
from prefdata.scoring.given import GivenScores


def test_flips_and_cuts_of_every_kind_of_file_give_one_message_or_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = None
    for report, done in tries(tmp_path, write_recipe(tmp_path), 110, seed=7):
        assert report.broken == [], done
    assert report is not None
    assert {"shard", "stage.json", "files.jsonl", "journal", "spending.jsonl", "prefdata.lock.json"} <= {*report.tries}
    assert min(report.tries.values()) >= 8
    assert report.named > 20
    assert report.unchanged > 20


@pytest.fixture
def out(work) -> Path:
    return build(recipe(), "out", shard_size=5).folder


@pytest.mark.parametrize("name", ["ledger.json", "data/train-00000-of-00001.parquet"])
def test_a_manifest_that_lists_another_file_is_named_and_the_dataset_set_aside(out, name):
    whole, manifest = tree(out / "dataset"), out / "dataset" / "prefdata.manifest.json"
    assert name in whole
    manifest.write_text(manifest.read_text().replace(f'"{name}"', f'"x{name}"'))
    damaged = tree(out / "dataset")
    with pytest.raises(StoreError) as refused:
        build(recipe(), "out", shard_size=5)
    assert f"{name!r}" in str(refused.value)
    assert f"prefdata.manifest.json lists 'x{name}', which is not there" in str(refused.value)
    assert tree(out / "dataset") == damaged
    build(recipe(), "out", shard_size=5, repair=True)
    assert tree(out / "dataset") == whole
    assert tree(out / "damaged" / "dataset.0") == damaged


def stage(out: Path, name: str) -> Path:
    (folder,) = (out / "stages").glob(f"{name}-*")
    return folder


def flip(path: Path, at: int = 200) -> None:
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= 1
    path.write_bytes(content)


def asked_of(monkeypatch, kind: type, method: str) -> list[str]:
    """Names of the prompts that a sampler or scorer is asked for from now on."""
    asked, real = [], getattr(kind, method)

    def watched(self, tasks, context):
        def each():
            for task in tasks:
                asked.append(task.prompt.prompt_id)
                yield task

        return real(self, each(), context)

    monkeypatch.setattr(kind, method, watched)
    return asked


def test_a_message_names_the_file_what_is_lost_and_what_is_asked_again(out):
    path = stage(out, "candidates-replayed") / "shard-00001.parquet"
    flip(path)
    with pytest.raises(StoreError) as caught:
        build(recipe(), "out", shard_size=5)
    words = str(caught.value)
    relative = path.relative_to(out.parent) if out.is_absolute() else path
    assert f"{str(relative)!r} is damaged: its SHA-256 is " in words
    assert "Lost with them: shard 1 of candidates-replayed; asked again: at most 5 answers" in words
    assert "--repair" in words


def test_repair_sets_the_file_aside_and_asks_for_its_shard_only(out, monkeypatch):
    before, path = tree(out), stage(out, "candidates-replayed") / "shard-00001.parquet"
    flip(path)
    broken = path.read_bytes()
    asked, scored = asked_of(monkeypatch, ExistingCompletions, "sample"), asked_of(monkeypatch, GivenScores, "score")
    build(recipe(), "out", shard_size=5, repair=True)
    assert asked == [f"p{number:02d}" for number in range(5, 10)]
    assert scored == []
    left = tree(out)
    aside = {name: left.pop(name) for name in list(left) if name.startswith("damaged/")}
    assert left == before
    assert (out / "damaged" / path.relative_to(out).parent / f"{path.name}.0").read_bytes() == broken
    assert len(aside) == 3


@pytest.mark.parametrize("name", ["prompts", "candidates-replayed", "scores", "pairs"])
def test_a_record_and_a_shard_of_one_stage_that_are_damaged_together_are_repaired_together(out, name):
    before, folder = tree(out), stage(out, name)
    table = sorted(folder.glob("*-00000.parquet"))[0]
    flip(table)
    flip(folder / "stage.json")
    with pytest.raises(StoreError, match="damaged"):
        build(recipe(), "out", shard_size=5)
    build(recipe(), "out", shard_size=5, repair=True)
    left = {path: sha for path, sha in tree(out).items() if not path.startswith("damaged/")}
    assert left == before
    build(recipe(), "out", shard_size=5, check=True)


def test_a_flip_that_leaves_size_and_time_alone_is_found_by_a_check_and_by_reading(out):
    path = stage(out, "scores") / "shard-00000.parquet"
    times = path.stat()
    flip(path, 60)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(StoreError, match="is damaged: its SHA-256"):
        build(recipe(), "out", shard_size=5, check=True)
    # Without a check the page's own checksum says it.
    with pytest.raises(StoreError, match="is damaged: it is not a whole table"):
        build(recipe(pairs={"kind": "wpo_hybrid_v2"}), "out", shard_size=5)


def test_every_reader_of_a_build_names_a_damaged_table(out):
    flip(stage(out, "scores") / "shard-00000.parquet")
    read = BuildReader(out)
    with pytest.raises(StoreError, match=r"shard-00000.parquet' is damaged"):
        read.scored_candidates(0)
    assert read.scored_candidates(1).height


def test_what_was_made_of_a_shard_that_comes_out_otherwise_is_made_again(out, monkeypatch):
    flip(stage(out, "candidates-replayed") / "shard-00001.parquet")
    real = ExistingCompletions.sample

    def otherwise(self, tasks, context):
        for result in real(self, tasks, context):
            longer = [replace(each, response=f"{each.response} longer") for each in result.candidates]
            yield replace(result, candidates=tuple(longer))

    monkeypatch.setattr(ExistingCompletions, "sample", otherwise)
    scored = asked_of(monkeypatch, GivenScores, "score")
    built = build(recipe(), "out", shard_size=5, repair=True)
    assert scored == [f"p{number:02d}" for number in range(5, 10)]
    pairs = built.pairs.sort("prompt_id")
    longer = [row["chosen"][-1]["content"].endswith("longer") for row in pairs.to_dicts()]
    assert longer == [row in range(5, 10) for row in (int(i[1:]) for i in pairs["prompt_id"])]


def test_a_lock_that_is_damaged_is_taken_from_the_dataset(out):
    before = tree(out)
    (out / "prefdata.lock.json").write_text('{"format": 2, "com')
    with pytest.raises(StoreError, match=r"lock.json' is damaged: it is not JSON"):
        build(recipe(), "out", shard_size=5)
    build(recipe(), "out", shard_size=5, repair=True)
    assert {name: sha for name, sha in tree(out).items() if not name.startswith("damaged/")} == before


@pytest.mark.parametrize("text", ["3", "[" * 100_000, "[]", '{"a": 1', "\ud800", ""])
@pytest.mark.parametrize("name", ["prefdata.lock.json", "stage.json"])
def test_documents_that_are_something_else_are_one_message(out, name, text):
    path = out / name if name.startswith("prefdata") else stage(out, "scores") / name
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(StoreError, match=f"{name}' is damaged"):
        build(recipe(), "out", shard_size=5)
    path.unlink()
    path.mkdir()
    with pytest.raises(StoreError, match="is damaged: it is not a file"):
        build(recipe(), "out", shard_size=5)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(StoreError, match="is damaged: it is not a file"):
        build(recipe(), "out", shard_size=5)
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(StoreError, match="is damaged: it is a link"):
        build(recipe(), "out", shard_size=5)
    build(recipe(), "out", shard_size=5, repair=True)
    assert path.is_file()
    assert not path.is_symlink()


@pytest.mark.parametrize(
    "make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("nowhere")], ids=["folder", "pipe", "link"]
)
def test_a_recipe_that_is_not_a_file_hangs_nothing_and_is_written_anew(out, make):
    before = tree(out)
    (out / "prefdata.recipe.json").unlink()
    make(out / "prefdata.recipe.json")
    # The dataset has the recipe, too.
    assert BuildReader(out).recipe == recipe()
    build(recipe(), "out", shard_size=5, repair=True)
    assert {name: sha for name, sha in tree(out).items() if not name.startswith("damaged/")} == before


def test_a_build_of_an_earlier_version_is_read_and_gets_its_record_where_it_is_made_again(out):
    before = tree(out)
    for path in out.glob("stages/*/stage.json"):
        report = json.loads(path.read_text())
        path.write_text(json.dumps({name: report[name] for name in report if name not in ("files", "checksum")}))
    lock = json.loads((out / "prefdata.lock.json").read_text())
    (out / "prefdata.lock.json").write_text(json.dumps({name: lock[name] for name in lock if name != "checksum"}))
    build(recipe(), "out", shard_size=5, check=True)
    assert {n: s for n, s in tree(out).items() if "stage.json" not in n} == {
        n: s for n, s in before.items() if "stage.json" not in n
    }
    path = stage(out, "candidates-replayed") / "shard-00001.parquet"
    flip(path)
    with pytest.raises(StoreError, match="is damaged: it is not a whole table"):
        build(recipe(), "out", shard_size=5, check=True)
    build(recipe(), "out", shard_size=5, repair=True)
    assert tree(path.parent)[path.name] == before[str(path.relative_to(out))]


def test_a_folder_that_is_copied_or_whose_clock_went_back_is_whole(out, work, monkeypatch):
    before = tree(out)
    shutil.copytree(out, work / "elsewhere", copy_function=shutil.copyfile)
    for number, path in enumerate(sorted((work / "elsewhere").rglob("*"))):
        os.utime(path, (10**9 - number, 10**9 - number))
    build(recipe(), "elsewhere", shard_size=5)
    assert tree(work / "elsewhere") == before
    shutil.rmtree(stage(work / "elsewhere", "pairs"))
    monkeypatch.setattr("time.time", lambda: 5.0)
    build(recipe(), "elsewhere", shard_size=5)
    assert tree(work / "elsewhere") == before


def test_the_record_of_a_stage_is_gone_when_it_is_finished_also_after_a_kill_in_between(out):
    assert not list(out.rglob("files.jsonl"))
    Journal(stage(out, "scores") / "files.jsonl").append({"packages": {"python": "2"}})
    build(recipe(), "out", shard_size=5)
    assert not list(out.rglob("files.jsonl"))


class TestVersions:
    """The lock names the versions that made each stage, whatever an earlier lock says."""

    @staticmethod
    def installed(monkeypatch, version: str) -> None:
        monkeypatch.setattr(stage_files, "packages", lambda: {"prefdata": "1", "vllm": version})

    @staticmethod
    def published(out: Path) -> dict[str, object]:
        lock = json.loads((out / "dataset" / "prefdata.lock.json").read_text())
        return {name: part["packages"].get("vllm") for name, part in lock["parts"].items()}

    def test_stages_that_are_made_again_have_the_versions_of_now(self, work, monkeypatch):
        self.installed(monkeypatch, "0.1")
        build(recipe(), "out", shard_size=5)
        self.installed(monkeypatch, "0.2")
        build(recipe(), "out", shard_size=5)
        assert set(self.published(work / "out").values()) == {"0.1"}
        shutil.rmtree(work / "out" / "stages")
        build(recipe(), "out", shard_size=5)
        assert set(self.published(work / "out").values()) == {"0.2"}

    def test_a_stage_of_two_versions_names_both(self, work, monkeypatch):
        self.installed(monkeypatch, "0.1")
        build(recipe(), "out", shard_size=5)
        flip(stage(work / "out", "candidates-replayed") / "shard-00001.parquet")
        self.installed(monkeypatch, "0.2")
        build(recipe(), "out", shard_size=5, repair=True)
        versions = self.published(work / "out")
        assert versions.pop("candidates-replayed") == ["0.1", "0.2"]
        assert set(versions.values()) == {"0.1"}
