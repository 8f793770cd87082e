"""Files and folders that appear at once or not at all, and the right to write a build folder."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from replayed import tree

from prefdata.errors import StoreError
from prefdata.flow.disk import check_replaceable, replace_folder, store_errors, write_atomically, write_json
from prefdata.flow.store import BuildFolder, StageFolder
from prefdata.tables.schemas import read_parquet, write_parquet

BIG = pa.table({"noise": [os.urandom(1000).hex() for _ in range(3000)]})
"""About 3 MB of Parquet."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def put(text: str):
    return lambda path: path.write_text(text) and None


class TestWriteAtomically:
    def test_the_file_is_there_with_its_content_and_nothing_beside_it(self, tmp_path):
        write_atomically(tmp_path / "file", put("one"))
        write_atomically(tmp_path / "file", put("two"))
        assert (tmp_path / "file").read_text() == "two"
        assert names(tmp_path) == ["file"]

    def test_while_it_is_written_the_old_file_is_there_whole(self, tmp_path):
        write_atomically(tmp_path / "file", put("old"))
        seen = []

        def write(path):
            path.write_text("half")
            seen.append((tmp_path / "file").read_text())
            path.write_text("new")

        write_atomically(tmp_path / "file", write)
        assert seen == ["old"]
        assert (tmp_path / "file").read_text() == "new"

    def test_who_has_the_old_file_open_goes_on_reading_the_old_one(self, tmp_path):
        write_atomically(tmp_path / "file", put("old"))
        with (tmp_path / "file").open() as reader:
            write_atomically(tmp_path / "file", put("new"))
            assert reader.read() == "old"

    def test_a_failure_in_between_leaves_the_old_file_and_nothing_beside_it(self, tmp_path):
        write_atomically(tmp_path / "file", put("old"))

        def write(path):
            path.write_text("half")
            raise RuntimeError("a bug")

        with pytest.raises(RuntimeError, match="a bug"):
            write_atomically(tmp_path / "file", write)
        assert (tmp_path / "file").read_text() == "old"
        assert names(tmp_path) == ["file"]

    @pytest.mark.parametrize(
        ("number", "why"),
        [
            (errno.ENOSPC, "the disk is full"),
            (errno.EDQUOT, "the disk quota is used up"),
            (errno.EACCES, "can't be written by this user"),
            (errno.EPERM, "can't be written by this user"),
            (errno.EROFS, "the file system is read-only"),
            (errno.EFBIG, "a file would be larger than this system allows"),
        ],
    )
    def test_what_the_file_system_refuses_is_one_message_with_a_hint(self, tmp_path, number, why):
        write_atomically(tmp_path / "file", put("old"))

        def write(path):
            path.write_text("half")
            raise OSError(number, os.strerror(number))

        with pytest.raises(StoreError, match=why) as caught:
            write_atomically(tmp_path / "file", write)
        assert repr(str(tmp_path / "file")) in caught.value.problem
        assert caught.value.hint
        assert (tmp_path / "file").read_text() == "old"
        assert names(tmp_path) == ["file"]

    @pytest.mark.parametrize("number", sorted(errno.errorcode))
    def test_every_error_of_a_file_system_is_one_message(self, tmp_path, number):
        with pytest.raises(StoreError, match="can't be written: ") as caught, store_errors(tmp_path):
            raise OSError(number, os.strerror(number))
        assert caught.value.hint

    def test_a_folder_that_may_not_be_written_is_one_message(self, tmp_path):
        code = (
            "import os, sys; from pathlib import Path; from prefdata.flow.disk import write_json\n"
            "from prefdata.errors import StoreError\n"
            "if os.getuid() == 0: os.setgid(65534); os.setuid(65534)\n"
            "try: write_json(Path(sys.argv[1]) / 'file', 1)\n"
            "except StoreError as error: print(error)\n"
        )
        folder = tmp_path / "mine"
        folder.mkdir()
        for parent in [folder, *folder.parents]:
            if parent.stat().st_uid == os.getuid() and parent.is_relative_to("/tmp") and parent != Path("/tmp"):
                parent.chmod(parent.stat().st_mode | 0o055)
        folder.chmod(0o555)
        done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
        assert "the folder can't be written by this user\n  next:  choose another folder" in done.stdout, done.stderr
        assert names(folder) == []

    def test_a_file_that_the_system_cuts_off_is_one_message_and_the_old_one_stays(self, tmp_path):
        code = (
            "import os, resource, signal, sys; from pathlib import Path\n"
            "import pyarrow as pa\n"
            "from prefdata.errors import StoreError\n"
            "from prefdata.flow.disk import write_atomically\n"
            "from prefdata.tables.schemas import write_parquet\n"
            "table = pa.table({'noise': [os.urandom(1000).hex() for _ in range(3000)]})\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
            "try: write_atomically(Path(sys.argv[1]), lambda path: write_parquet(path, table))\n"
            "except StoreError as error: print(error)\n"
        )
        path = tmp_path / "shard.parquet"
        write_parquet(path, BIG.slice(0, 5))
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
        assert "a file would be larger than this system allows\n  next:  raise the limit" in done.stdout, done.stderr
        assert read_parquet(path).equals(BIG.slice(0, 5))
        assert names(tmp_path) == ["shard.parquet"]

    def test_json_is_sorted_and_ends_with_a_line_feed(self, tmp_path):
        write_json(tmp_path / "file", {"b": "ä", "a": [1, None]})
        assert (tmp_path / "file").read_text("utf-8") == '{\n  "a": [\n    1,\n    null\n  ],\n  "b": "ä"\n}\n'


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB; only an administrator may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.skipif(not Path("/proc/mounts").exists() or os.getuid() != 0, reason="needs Linux and an administrator")
class TestFullDisk:
    def test_a_file_that_does_not_fit_is_one_message_and_the_old_one_stays(self, small_disk):
        path = small_disk / "shard.parquet"
        write_parquet(path, BIG.slice(0, 5))
        with pytest.raises(StoreError, match="the disk is full") as caught:
            write_atomically(path, lambda beside: write_parquet(beside, BIG))
        assert "run the same command again" in caught.value.hint
        assert read_parquet(path).equals(BIG.slice(0, 5))
        assert names(small_disk) == ["shard.parquet"]
        write_atomically(path, lambda beside: write_parquet(beside, BIG.slice(0, 6)))
        assert read_parquet(path).num_rows == 6

    def test_a_dataset_that_does_not_fit_leaves_the_old_dataset(self, small_disk):
        folder = small_disk / "dataset"
        replace_folder(folder, dataset_with("old"))

        def fill(beside):
            (beside / "ledger.json").write_text("{}")
            write_parquet(beside / "data.parquet", BIG)

        with pytest.raises(StoreError, match="the disk is full"):
            replace_folder(folder, fill)
        assert (folder / "content").read_text() == "old"
        assert names(small_disk) == ["dataset"]

    def test_a_journal_on_a_full_disk_keeps_its_whole_lines(self, small_disk):
        journal = StageFolder(small_disk).journal(0)
        appended = 0
        with pytest.raises(StoreError, match="the disk is full"):
            for _ in range(100_000):
                journal.append({"text": "x" * 1000})
                appended += 1
        journal.close()
        assert appended > 500
        assert len(list(StageFolder(small_disk).journal(0).read())) == appended


def dataset_with(text: str):
    def fill(folder: Path) -> None:
        (folder / "ledger.json").write_text("{}")
        (folder / "content").write_text(text)

    return fill


class TestReplaceFolder:
    def test_the_folder_and_its_parents_are_made(self, tmp_path):
        replace_folder(tmp_path / "a" / "b", dataset_with("one"))
        assert names(tmp_path / "a") == ["b"]
        assert names(tmp_path / "a" / "b") == ["content", "ledger.json"]

    def test_an_empty_folder_and_a_dataset_are_replaced_whole(self, tmp_path):
        (tmp_path / "out").mkdir()
        replace_folder(tmp_path / "out", dataset_with("one"))
        replace_folder(tmp_path / "out", dataset_with("two"))
        assert (tmp_path / "out" / "content").read_text() == "two"
        assert names(tmp_path / "out") == ["content", "ledger.json"]
        assert names(tmp_path) == ["out"]

    def test_a_folder_with_other_files_is_refused_and_untouched(self, tmp_path):
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis" / "chapter").write_text("years of work")
        with pytest.raises(StoreError, match="holds other files") as caught:
            replace_folder(tmp_path / "thesis", dataset_with("one"))
        assert caught.value.valid
        assert caught.value.hint
        assert (tmp_path / "thesis" / "chapter").read_text() == "years of work"

    def test_a_dataset_to_which_somebody_added_a_file_is_refused_and_untouched(self, tmp_path):
        replace_folder(tmp_path / "out", dataset_with("one"))
        (tmp_path / "out" / "notes").write_text("mine")
        with pytest.raises(StoreError, match="holds other files \\('notes'\\)"):
            replace_folder(tmp_path / "out", dataset_with("two"))
        assert names(tmp_path / "out") == ["content", "ledger.json", "notes"]
        assert (tmp_path / "out" / "content").read_text() == "one"
        assert names(tmp_path) == ["out"]

    @pytest.mark.parametrize(
        "name", ["notes", "data/notes", "data/train-0.parquet.bak", ".git/HEAD", "kto/mine.parquet"]
    )
    def test_a_file_that_no_manifest_lists_is_refused_before_anything_is_written(self, tmp_path, name):
        def fill(folder):
            (folder / "data").mkdir()
            for file in ("ledger.json", "data/train-0.parquet", "kto"):
                (folder / file).write_text("")
            entries = {"ledger.json": {}, "data/train-0.parquet": {}, "kto": {}}
            (folder / "prefdata.manifest.json").write_text(json.dumps({"files": entries}))

        out = tmp_path / "out"
        replace_folder(out, fill)
        check_replaceable(out)
        (out / "kto").unlink()
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("mine")
        spending = partial(replace_folder, out, lambda _: pytest.fail("it was spent"))
        for call in (partial(check_replaceable, out), spending):
            with pytest.raises(StoreError, match=f"holds other files \\({re.escape(repr(name))}\\)"):
                call()
        assert (out / name).read_text() == "mine"

    def test_what_a_killed_process_of_the_same_id_left_is_no_obstacle(self, tmp_path):
        (tmp_path / f".out.{os.getpid()}.part").mkdir()
        (tmp_path / f".out.{os.getpid()}.part" / "half").write_text("")
        replace_folder(tmp_path / "out", dataset_with("one"))
        assert names(tmp_path / "out") == ["content", "ledger.json"]
        assert names(tmp_path) == ["out"]

    def test_a_file_in_its_place_is_refused_and_untouched(self, tmp_path):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(StoreError):
            replace_folder(tmp_path / "file", dataset_with("one"))
        assert (tmp_path / "file").read_text() == "mine"
        assert names(tmp_path) == ["file"]

    def test_a_failure_while_it_is_filled_leaves_the_old_one(self, tmp_path):
        replace_folder(tmp_path / "out", dataset_with("old"))

        def fill(folder):
            (folder / "half").write_text("")
            raise RuntimeError("a bug")

        with pytest.raises(RuntimeError, match="a bug"):
            replace_folder(tmp_path / "out", fill)
        assert (tmp_path / "out" / "content").read_text() == "old"
        assert names(tmp_path) == ["out"]

    def test_when_the_old_one_can_not_be_moved_back_either_the_next_run_does_it(self, tmp_path, monkeypatch):
        replace_folder(tmp_path / "out", dataset_with("old"))
        real = Path.rename

        def rename(self, target):
            if Path(target).name == "out":
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(self, target)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "rename", rename)
            with pytest.raises(StoreError, match="the file system says"):
                replace_folder(tmp_path / "out", dataset_with("new"))
        assert names(tmp_path) == [f".out.{os.getpid()}.old"]
        with pytest.raises(RuntimeError):
            replace_folder(tmp_path / "out", lambda folder: (_ for _ in ()).throw(RuntimeError()))
        assert (tmp_path / "out" / "content").read_text() == "old"

    def test_when_the_new_one_can_not_be_moved_in_the_old_one_comes_back(self, tmp_path, monkeypatch):
        replace_folder(tmp_path / "out", dataset_with("old"))
        real = Path.rename

        def rename(self, target):
            if self.suffix == ".part":
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
            return real(self, target)

        monkeypatch.setattr(Path, "rename", rename)
        with pytest.raises(StoreError, match="can't be written by this user"):
            replace_folder(tmp_path / "out", dataset_with("new"))
        assert (tmp_path / "out" / "content").read_text() == "old"
        assert names(tmp_path) == ["out"]


HOLD = (
    "import sys, time; from pathlib import Path; from prefdata.flow.store import BuildFolder\n"
    "with BuildFolder(Path(sys.argv[1])).writing():\n"
    "    print('holding', flush=True); time.sleep(60)\n"
)


class TestWriting:
    def test_a_second_process_is_refused_until_the_first_is_killed(self, tmp_path):
        build = BuildFolder(tmp_path / "build")
        with subprocess.Popen([sys.executable, "-c", HOLD, str(build.root)], stdout=subprocess.PIPE) as holder:
            assert holder.stdout.readline() == b"holding\n"
            with pytest.raises(StoreError, match="is in use by another build") as caught, build.writing():
                raise AssertionError("two builds write")
            assert caught.value.hint
            holder.send_signal(signal.SIGKILL)
            holder.wait()
        with build.writing():
            pass

    def test_it_is_given_back_after_an_error(self, tmp_path):
        build = BuildFolder(tmp_path / "build")
        with pytest.raises(RuntimeError), build.writing():
            raise RuntimeError
        with build.writing(), pytest.raises(StoreError), build.writing():
            pass

    def test_what_killed_builds_left_half_written_is_cleared_and_nothing_else(self, tmp_path):
        (tmp_path / ".dataset.77.part").mkdir()
        (tmp_path / ".dataset.77.part" / "data").write_text("half")
        (tmp_path / ".prefdata.lock.json.77.part").write_text("half")
        mine = [".bashrc.old", ".movie.mkv.part", "notes.part", ".dataset.part", ".dataset.x77.part", ".notes.77.part"]
        mine += [".dataset.77.part.old", ".prefdata.lock.json.77.old", ".dataset.78.part", "..part", ".77.part"]
        for name in mine:
            (tmp_path / name).write_text("mine")
        for name in (".ssh.old", ".prefdata.lock.json.78.part", ".work.79.part"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "file").write_text("mine")
        (tmp_path / ".dataset.80.part").symlink_to(tmp_path / ".ssh.old")
        before = tree(tmp_path)
        with BuildFolder(tmp_path).writing():
            pass
        gone = {".dataset.77.part/data", ".prefdata.lock.json.77.part"}
        assert tree(tmp_path) == {name: sha for name, sha in before.items() if name not in gone} | {
            ".writing": hashlib.sha256(b"").hexdigest()
        }
        assert not (tmp_path / ".dataset.77.part").exists()
        assert (tmp_path / ".dataset.80.part").is_symlink()

    def test_a_dataset_that_a_kill_left_put_aside_is_put_back(self, tmp_path):
        replace_folder(tmp_path / "dataset", dataset_with("whole"))
        (tmp_path / "dataset").rename(tmp_path / ".dataset.77.old")
        with BuildFolder(tmp_path).writing():
            pass
        assert (tmp_path / "dataset" / "content").read_text() == "whole"
        assert names(tmp_path) == [".writing", "dataset"]

    def test_a_stage_folder_is_cleared_of_half_written_shards_only(self, tmp_path):
        stage = StageFolder(tmp_path / "stages" / "scores-0")
        stage.create()
        for name in (".shard-00000.parquet.77.part", ".stage.json.77.part", ".files.jsonl.77.part"):
            (stage.path / name).write_text("")
        mine = [".notes.77.part", ".shard-00000.parquet.part", "journal-00002.jsonl", "shard-00001.parquet"]
        for name in mine:
            (stage.path / name).write_text("")
        stage.create()
        assert names(stage.path) == mine

    def test_no_file_is_opened_through_a_link_or_emptied(self, tmp_path):
        (tmp_path / "notes").write_text("mine")
        build = BuildFolder(tmp_path / "build")
        build.root.mkdir()
        (build.root / ".writing").symlink_to(tmp_path / "notes")
        with pytest.raises(StoreError, match="it is a link") as caught, build.writing():
            pass
        assert "remove the link" in caught.value.hint
        write_json(build.lock_file, {})
        build.recipe_file.symlink_to(tmp_path / "notes")
        (build.root / f".{build.recipe_file.name}.{os.getpid()}.part").symlink_to(tmp_path / "notes")
        write_json(build.recipe_file, {"a": 1})
        assert not build.recipe_file.is_symlink()
        assert (tmp_path / "notes").read_text() == "mine"

    def test_a_build_folder_that_can_not_be_made_is_one_message(self, tmp_path):
        (tmp_path / "file").write_text("")
        with (
            pytest.raises(StoreError, match=r"a part of the path is a file|there is a file of that name"),
            BuildFolder(tmp_path / "file" / "build").writing(),
        ):
            pass


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc, where no folder can be made")
def test_a_place_where_no_folder_can_be_made_is_one_clear_error():
    with pytest.raises(StoreError, match="its folder can't be made"):
        replace_folder(Path("/proc/prefdata"), lambda folder: None)
