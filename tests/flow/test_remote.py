"""Build folders on an object store, on the store in memory that fsspec brings: what no server is needed for."""

from __future__ import annotations

import json
import secrets
import shutil
import sys
from pathlib import Path

import fsspec
import pytest
from replayed import recipe, tree

from prefdata import build, check, pair, push, verify
from prefdata.errors import InputError, MissingExtraError, StoreError
from prefdata.flow import mirror
from prefdata.flow.disk import stopped_by
from prefdata.flow.journal import Journal
from prefdata.flow.journal_parts import JournalParts
from prefdata.flow.lease import Lease
from prefdata.flow.mirror import Mirror
from prefdata.flow.store import build_folder
from prefdata.hub import ObjectStore, is_remote
from prefdata.models.environment import worker_environment


@pytest.fixture
def memory():
    return fsspec.filesystem("memory")


@pytest.fixture
def where(memory, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    address = f"memory://{secrets.token_hex(4)}/folder"
    yield address
    memory.rm(address.removeprefix("memory:/").removesuffix("/folder"), recursive=True)


@pytest.fixture
def store(where):
    store = ObjectStore(where)
    store.put_bytes({"kept": b""})
    return store


def contents(where: str) -> dict[str, bytes]:
    store = ObjectStore(where)
    return {name: store.read(name) or b"" for name in store.files() if not name.startswith(".writing/")}


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def test_a_build_in_memory_is_what_a_local_one_is(work, where):
    local = build(recipe(), "local", shard_size=4)
    remote = build(recipe(), where, shard_size=4)
    assert tree(remote.dataset) == tree(local.dataset)
    assert contents(where) == files_of(remote.folder) == files_of(local.folder)


def test_a_working_folder_that_is_lost_is_fetched(work, where):
    first = build(recipe(), where, shard_size=4)
    before = tree(first.folder)
    shutil.rmtree(first.folder)
    assert {stage.state for stage in check(recipe(), where, shard_size=4).stages} == {"done"}
    again = build(recipe(), where, shard_size=4)
    assert tree(again.dataset) == {
        name.removeprefix("dataset/"): sha for name, sha in before.items() if name.startswith("dataset/")
    }
    assert contents(where) == files_of(again.folder)


def test_another_dataset_replaces_the_files_of_the_first(work, where):
    build(recipe(), where)
    assert "dataset/kto/train-00000-of-00001.parquet" not in contents(where)
    build(recipe(also=[{"kind": "kto"}]), where)
    assert any(name.startswith("dataset/kto/") for name in contents(where))
    last = build(recipe(), where)
    assert contents(where) == files_of(last.folder) | others(where, last.folder)
    assert not any(name.startswith("dataset/kto/") for name in contents(where))
    assert verify(where).holds


def others(where: str, folder: Path) -> dict[str, bytes]:
    """What a store keeps of stages that another recipe has left; the working folder has it, too."""
    return {name: text for name, text in contents(where).items() if (folder / name).exists()}


def test_a_build_that_is_killed_over_its_dataset_leaves_none_that_can_be_read(work, where, memory, monkeypatch):
    build(recipe(), where)
    expected = dataset_of(where)
    put = ObjectStore.put

    def dying(self, files):
        if any(name.startswith("dataset/") for name in files):
            put(self, {name: path for name, path in files.items() if name.startswith("dataset/kto/")})
            raise SystemExit
        put(self, files)

    monkeypatch.setattr(ObjectStore, "put", dying)
    with pytest.raises(SystemExit):
        build(recipe(also=[{"kind": "kto"}]), where)
    monkeypatch.setattr(ObjectStore, "put", put)
    with pytest.raises(StoreError, match="is being replaced by a build, or one was killed over it"):
        verify(where)
    # On another machine, which sees files that the manifest does not list.
    shutil.rmtree(work / "builds")
    build(recipe(), where)
    assert dataset_of(where) == expected
    assert verify(where).holds


def dataset_of(where: str) -> dict[str, bytes]:
    return {name: text for name, text in contents(where).items() if name.startswith("dataset/")}


def test_what_two_machines_set_aside_has_two_names(work, where):
    for number in (0, 1):
        built = build(recipe(), where, shard_size=4)
        (shard,) = built.folder.glob("stages/pairs-*/shard-00001.parquet")
        shard.write_bytes(bytes([number]) * shard.stat().st_size)
        build(recipe(), where, shard_size=4, repair=True)
        shutil.rmtree(built.folder)
    aside = [text for name, text in contents(where).items() if "/shard-00001.parquet." in name]
    assert [text[0] for text in aside] == [0, 1]


def test_a_damaged_shard_is_set_aside_on_the_store_too(work, where):
    built = build(recipe(), where, shard_size=4)
    (shard,) = built.folder.glob("stages/pairs-*/shard-00001.parquet")
    before = contents(where)
    damaged = bytes(shard.stat().st_size)
    shard.write_bytes(damaged)
    with pytest.raises(StoreError, match="is damaged"):
        build(recipe(), where, shard_size=4)
    built = build(recipe(), where, shard_size=4, repair=True)
    after = contents(where)
    name = shard.relative_to(built.folder).as_posix()
    assert after.pop(f"damaged/{name}.0") == damaged
    aside = {n.rpartition("/")[2] for n in after if n.startswith("damaged/")}
    assert aside == {"stage.json.0", "drops-00001.parquet.0", "candidate_drops-00001.parquet.0"}
    assert {n: t for n, t in after.items() if not n.startswith("damaged/")} == before


def test_a_table_that_is_cut_here_or_there_is_healed_by_the_whole_one(work, where):
    built = build(recipe(), where, shard_size=4)
    before = contents(where)
    name = next(name for name in before if "/scores-" in name and name.endswith("shard-00000.parquet"))
    (built.folder / name).write_bytes(before[name][:100])
    build(recipe(), where, shard_size=4)
    assert (built.folder / name).read_bytes() == before[name]
    ObjectStore(where).put_bytes({name: before[name][:100]})
    build(recipe(), where, shard_size=4)
    assert contents(where) == files_of(built.folder) == before


def test_a_table_that_another_machine_made_otherwise_is_fetched(work, where, monkeypatch, tmp_path):
    built = build(recipe(), where, shard_size=4)
    name = next(name for name in contents(where) if "/scores-" in name and name.endswith("shard-00000.parquet"))
    kept = (built.folder / name).read_bytes()
    stage = (built.folder / name).with_name("stage.json")
    # As a machine has it that was cut off, and has made this shard itself: a record of its own, and other bytes.
    (built.folder / name).write_bytes(bytes(len(kept)))
    stage.unlink()
    Mirror(built.folder, ObjectStore(where)).fetch()
    assert (built.folder / name).read_bytes() == kept
    assert stage.exists()


def test_files_that_are_not_on_the_store_go_up_with_the_next_run(work, where, memory):
    built = build(recipe(), where, shard_size=4)
    before = contents(where)
    name = next(name for name in before if "/pairs-" in name and name.endswith("shard-00000.parquet"))
    ObjectStore(where).delete([name])
    build(recipe(), where, shard_size=4)
    assert contents(where) == before
    assert built.folder.exists()


def test_what_appears_is_put_in_an_order_that_a_killed_build_could_have_left(work, where, monkeypatch):
    order: list[str] = []
    put = ObjectStore.put

    def noted(self, files):
        order.extend(files)
        put(self, files)

    monkeypatch.setattr(ObjectStore, "put", noted)
    monkeypatch.setattr(mirror, "_FLUSH_S", 3600.0)
    build(recipe(), where, shard_size=4)
    places = {name: place for place, name in enumerate(order)}
    shards = [name for name in order if "/shard-" in name]
    assert len(shards) > 3
    for shard in shards:
        folder, _, file = shard.rpartition("/")
        beside = [name for name in order if name.startswith(folder) and name.endswith(file.removeprefix("shard"))]
        assert all(places[name] <= places[shard] for name in beside)
        assert places[shard] < places[f"{folder}/stage.json"]
    assert order[-1] == "dataset/prefdata.manifest.json"


def test_the_stage_is_not_finished_on_the_store_before_its_last_table_is(work, where, monkeypatch, memory):
    pipe = type(memory).pipe_file

    def failing(self, path, value, **options):
        if path.endswith("shard-00001.parquet"):
            raise PermissionError("not this one")
        return pipe(self, path, value, **options)

    monkeypatch.setattr(type(memory), "pipe_file", failing)
    with pytest.raises(StoreError, match="not this one"):
        build(recipe(), where, shard_size=4)
    assert not any(name.endswith(("stage.json", "shard-00001.parquet")) for name in contents(where))
    monkeypatch.undo()
    monkeypatch.chdir(work)
    build(recipe(), where, shard_size=4)
    expected = build(recipe(), "local", shard_size=4)
    assert {n for n in contents(where) if n.startswith("stages/")} == {
        n for n in files_of(expected.folder) if n.startswith("stages/")
    }


# Journals.


def test_a_journal_goes_up_in_parts_and_comes_back(tmp_path, store):
    path, other = tmp_path / "journal-00000.jsonl", tmp_path / "other" / "journal-00000.jsonl"
    journal, parts = Journal(path), JournalParts(store, path, "j.jsonl")
    for number in range(5):
        journal.append({"n": number})
        parts.flush()
        parts.flush()
    with path.open("ab") as file:
        file.write(b"torn")
    parts.flush()
    names = [name for name in store.files() if name.startswith("j.jsonl.parts/")]
    assert len(names) == 5
    JournalParts(store, other, "j.jsonl", names).fetch()
    assert [line["n"] for line in Journal(other).read()] == [0, 1, 2, 3, 4]


def test_lines_of_two_machines_are_put_together_and_the_store_has_the_last_word(tmp_path, store):
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    shared, mine, theirs = ({"n": name} for name in ("shared", "mine", "theirs"))
    for path, records in ((one, [shared, mine]), (two, [shared, theirs])):
        for record in records:
            Journal(path).append(record)
    JournalParts(store, two, "j.jsonl").flush()
    names = [name for name in store.files() if ".parts/" in name]
    merged = JournalParts(store, one, "j.jsonl", names)
    merged.fetch()
    assert [line["n"] for line in Journal(one).read()] == ["mine", "shared", "theirs"]
    merged.flush()
    again = [name for name in store.files() if ".parts/" in name]
    assert len(again) == 1
    assert again != names
    assert store.read(again[0]) == one.read_bytes()


def test_many_parts_become_one(tmp_path, store, monkeypatch):
    monkeypatch.setattr("prefdata.flow.journal_parts._MOST", 3)
    path = tmp_path / "j.jsonl"
    journal, parts = Journal(path), JournalParts(store, path, "j.jsonl")
    for number in range(10):
        journal.append(number)
        parts.flush()
        assert len([name for name in store.files() if ".parts/" in name]) <= 4
    names = [name for name in store.files() if ".parts/" in name]
    JournalParts(store, tmp_path / "k.jsonl", "j.jsonl", names).fetch()
    assert list(Journal(tmp_path / "k.jsonl").read()) == [*range(10)]
    parts.remove()
    assert [name for name in store.files() if ".parts/" in name] == []


def test_a_part_that_is_missing_costs_only_what_follows_it(tmp_path, store):
    path = tmp_path / "j.jsonl"
    journal, parts = Journal(path), JournalParts(store, path, "j.jsonl")
    for number in range(3):
        journal.append(number)
        parts.flush()
    names = [name for name in store.files() if ".parts/" in name]
    store.delete([names[1]])
    JournalParts(store, tmp_path / "k.jsonl", "j.jsonl", [names[0], names[2]]).fetch()
    assert list(Journal(tmp_path / "k.jsonl").read()) == [0]


# Stopping.


def test_a_build_stops_after_the_write_that_finds_the_store_gone(tmp_path):
    def gone() -> None:
        raise StoreError("gone")

    journal = Journal(tmp_path / "j.jsonl")
    with stopped_by(gone), pytest.raises(StoreError, match="gone"):
        journal.append("kept")
    assert list(Journal(tmp_path / "j.jsonl").read()) == ["kept"]


def test_a_journal_that_a_kill_has_left_beside_its_shard_goes(work, where):
    built = build(recipe(), where, shard_size=4)
    before = contents(where)
    folder = next(name for name in before if "/scores-" in name).rpartition("/")[0]
    left = {f"{folder}/{name}.parts/000001-000000000000": b"" for name in ("journal-00000.jsonl", "files.jsonl")}
    for lost in (False, True):
        ObjectStore(where).put_bytes(left)
        Journal(built.folder / folder / "journal-00001.jsonl").append("left here")
        if lost:
            shutil.rmtree(built.folder)
        build(recipe(), where, shard_size=4)
        assert contents(where) == files_of(built.folder) == before


def test_a_build_that_is_interrupted_puts_its_journals_first(work, where, monkeypatch):
    append, left = Journal.append, 5

    def interrupted(self, record):
        nonlocal left
        if self.path.name.startswith("journal-"):
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
        append(self, record)

    monkeypatch.setattr(mirror, "_FLUSH_S", 3600.0)
    monkeypatch.setattr(Journal, "append", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(recipe(), where)
    (part,) = (text for name, text in contents(where).items() if "/journal-00000.jsonl.parts/" in name)
    assert len(part.splitlines()) == 5
    monkeypatch.setattr(Journal, "append", append)
    shutil.rmtree(work / "builds")
    assert tree(build(recipe(), where).dataset) == tree(build(recipe(), "local").dataset)
    assert not any(".parts/" in name for name in contents(where))


def test_workers_get_no_key_of_a_store(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.setenv(name, "hidden-0123")
    assert "hidden-0123" not in worker_environment({}).values()


def test_a_store_without_conditional_puts_says_so_once_and_refuses_a_live_lease(store):
    said: list[str] = []
    store.conditional = False
    Lease(store, "one", said.append).take()
    assert len([line for line in said if "can't keep two builds apart" in line]) == 1
    with pytest.raises(StoreError, match="is in use by another build"):
        Lease(store, "two", said.append).take()


def test_a_lease_that_is_released_is_free_at_once(store):
    first = Lease(store, "one", print)
    first.take()
    first.release()
    second = Lease(store, "two", print)
    second.take()
    second.check()
    assert [name for name in store.files() if name.startswith(".writing/")] == [".writing/000002.json"]


# What is refused.


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("foo://bucket/folder", "'foo' is not a kind of store that fsspec knows"),
        ("s3://", "is not a folder of an object store"),
        ("s3://bucket/../other", "is not a folder of an object store"),
        ("simplecache::s3://bucket/folder", "'simplecache::s3://bucket/folder'"),
        ("s3://KEYKEYKEY:hidden-0123@bucket/folder", "has a key in it"),
    ],
)
def test_an_address_that_is_none_is_one_message(work, prefdata, address, says):
    (work / "recipe.json").write_text(json.dumps(recipe().dump()))
    said = prefdata("build", "recipe.json", "--out", address)
    assert said.code == 2
    assert says in " ".join(said.err.split())
    assert "hidden-0123" not in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize("package", ["fsspec", "s3fs"])
def test_a_package_that_is_missing_is_named_with_its_extra(work, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(MissingExtraError) as refused:
        build(recipe(), "s3://bucket/folder")
    assert f"needs the package {package!r}" in str(refused.value)
    assert 'pip install "prefdata[remote]"' in str(refused.value)


def test_a_kind_of_store_whose_package_is_not_ours_to_bring_is_named(work, monkeypatch):
    fsspec.register_implementation("lacking", "no_such_package.FileSystem", errtxt="Install no_such_package")
    with pytest.raises(MissingExtraError, match="Install no_such_package"):
        build(recipe(), "lacking://bucket/folder")


@pytest.mark.parametrize(
    "command",
    [
        ["pair", "answers.jsonl", "--rule", "best_vs_worst", "--columns", "prompt=id", "--out"],
        ["run", "gpo_gpm_llama3", "--profile", "cpu", "--out"],
        ["train", "local", "--set", "beta=0.1", "--out"],
        ["build", "recipe.json", "--reuse"],
        ["clean"],
    ],
    ids=lambda command: command[0],
)
def test_only_build_and_check_write_to_an_address(work, prefdata, command):
    (work / "recipe.json").write_text(json.dumps(recipe().dump()))
    build(recipe(training={"kind": "dpo", "model": "owner/model"}), "local")
    said = prefdata(*command, "s3://bucket/folder")
    assert said.code == 2
    assert "'s3://bucket/folder' is the address of a folder elsewhere" in " ".join(said.err.split())
    assert not (work / "s3:").exists()


def test_a_path_that_is_made_of_an_address_is_refused(work):
    with pytest.raises(StoreError, match="is the address of a folder elsewhere"):
        build(recipe(), Path("s3://bucket/folder"))
    assert not (work / "s3:").exists()


def test_a_folder_without_a_finished_build_can_not_be_read(store, where):
    store.delete(["kept"])
    with pytest.raises(InputError, match="holds no files"):
        verify(where)
    store.put_bytes({"stages/prompts-0-256/shard-00000.parquet": b""})
    with pytest.raises(InputError, match="holds a build that is not finished"):
        verify(where)


def test_a_pushed_folder_is_found_on_the_store(work, where, monkeypatch):
    built = build(recipe(), where)
    pushed = []
    monkeypatch.setattr("prefdata.publish.pushing.push", lambda folder, repo, **_: pushed.append(Path(folder)))
    push(where, "owner/name")
    assert tree(pushed[0]) == tree(built.dataset)


def test_addresses_are_told_from_paths():
    assert all(map(is_remote, ("s3://bucket/folder", "gs://b/f", "hf://buckets/o/n/f", "memory://x")))
    assert not any(map(is_remote, ("builds/x", "hf:owner/name", "https://x/y", Path("s3://b/f"), None, "file:///x")))
    folder = build_folder("name", "s3://bucket/a folder%2F..")
    assert folder.root.parent == Path("builds")
    assert folder.out == "s3://bucket/a folder%2F.."
    assert build_folder("name", "s3://bucket/f").root == build_folder("other", "s3://bucket/f/").root


def test_what_is_listed_can_not_lead_out_of_the_folder(store, memory, where):
    root = where.removeprefix("memory:/")
    memory.store[f"{root}/../outside"] = memory.store[f"{root}/kept"]
    memory.store[f"{root}/a\\b"] = memory.store[f"{root}/kept"]
    try:
        assert set(store.files()) == {"kept"}
    finally:
        del memory.store[f"{root}/../outside"]


def test_pairs_of_a_table_still_go_to_a_folder_with_a_colon_that_is_there(work):
    (work / "with:").mkdir()
    assert pair("answers.jsonl", rule="best_vs_worst", columns={"prompt_id": "id"}, out="with:/out")
