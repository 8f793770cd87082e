"""Build folders on a real S3-compatible server: moto's, in a process of its own."""

from __future__ import annotations

import json
import shutil
import threading

import fsspec
import pytest
from counting_endpoint import answering, write_prompts
from counting_endpoint import recipe as asking
from remote_build import stopped_build
from replayed import recipe, tree
from s3_server import BUCKET, SECRET, CuttingProxy, client_environment, s3_server

from prefdata import build, check, verify
from prefdata.errors import StoreError
from prefdata.flow import lease, mirror
from prefdata.hub import object_store

pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
GUARD_S = 120.0


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(shared, monkeypatch, tmp_path):
    """The server, found through the environment; each test has a folder of its own."""
    use(monkeypatch, shared.environment)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return shared


def use(monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def below(server, folder: str) -> dict[str, bytes]:
    return {name.removeprefix(f"{folder}/"): text for name, text in server.objects(f"{folder}/").items()}


def dataset_of(objects: dict[str, bytes]) -> dict[str, bytes]:
    return {name.removeprefix("dataset/"): text for name, text in objects.items() if name.startswith("dataset/")}


def local_dataset(folder) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_build_on_s3_has_the_bytes_of_a_local_one(work, s3):
    local = build(recipe(), "local", shard_size=4)
    remote = build(recipe(), f"s3://{BUCKET}/same", shard_size=4)
    objects = below(s3, "same")
    assert dataset_of(objects) == local_dataset(local.dataset) == local_dataset(remote.dataset)
    stages = {name: text for name, text in objects.items() if name.startswith("stages/")}
    assert {name for name in stages if ".parts/" in name} == set()
    assert stages == {f"stages/{name}": text for name, text in local_dataset(local.folder / "stages").items()}
    assert not any(SECRET.encode() in text for text in objects.values())


def test_another_machine_asks_nothing_again(work, s3, monkeypatch, tmp_path):
    with answering() as endpoint:
        write_prompts(work / "asked.jsonl")
        asked = asking(endpoint.url, work / "asked.jsonl")
        first = build(asked, f"s3://{BUCKET}/elsewhere", reuse=False)
        count = len(endpoint.bodies)
        (tmp_path / "other").mkdir()
        monkeypatch.chdir(tmp_path / "other")
        assert {stage.state for stage in check(asked, f"s3://{BUCKET}/elsewhere").stages} == {"done"}
        second = build(asked, f"s3://{BUCKET}/elsewhere", reuse=False)
        assert len(endpoint.bodies) == count > 0
        assert tree(second.dataset) == tree(work / first.dataset)


def test_a_killed_build_is_resumed_on_another_machine_and_only_what_was_not_flushed_is_asked_again(
    work, s3, monkeypatch, tmp_path
):
    out = f"s3://{BUCKET}/killed"
    with answering() as endpoint:
        write_prompts(work / "asked.jsonl")
        asked = asking(endpoint.url, work / "asked.jsonl", judge=None)
        (work / "recipe.json").write_text(json.dumps(asked.dump()))
        expected = build(asked, "local", shard_size=4, reuse=False)
        whole = len(endpoint.bodies)
        endpoint.bodies.clear()
        records = 7
        with stopped_build(work, out, s3.environment, records, shard_size=4):
            wait_for(lambda: len(kept(below(s3, "killed"))) >= records)
            before = below(s3, "killed")
        shutil.rmtree(work / "builds")
        endpoint.bodies.clear()
        (tmp_path / "other").mkdir()
        monkeypatch.chdir(tmp_path / "other")
        with pytest.raises(StoreError, match="is in use by another build"):
            build(asked, out, shard_size=4, reuse=False)
        assert endpoint.bodies == []
        monkeypatch.setattr(lease, "_OLD_S", 0.0)
        resumed = build(asked, out, shard_size=4, reuse=False)
        assert len(endpoint.bodies) == whole - len(kept(before))
        assert tree(resumed.dataset) == tree(work / expected.dataset)
        assert dataset_of(below(s3, "killed")) == local_dataset(work / expected.dataset)
        assert not any(".parts/" in name for name in below(s3, "killed") if not name.startswith("spending"))


def kept(objects: dict[str, bytes]) -> set[tuple[str, str, int]]:
    """The answers that are on the store: in parts of journals, or in shards."""
    import io

    import pyarrow.parquet as pq

    found = set()
    for name, text in objects.items():
        if "/candidates-" not in name:
            continue
        if "/journal-" in name:
            for line in text.splitlines():
                record = json.loads(line.partition(b" ")[2])
                found |= {(c["prompt_id"], c["source"], c["index"]) for c in record["candidates"]}
        elif "/shard-" in name:
            rows = pq.read_table(io.BytesIO(text), columns=["prompt_id", "source", "index"]).to_pylist()
            found |= {tuple(row.values()) for row in rows}
    return found


def wait_for(condition) -> None:
    done = threading.Event()
    for _ in range(int(GUARD_S / 0.1)):
        if condition():
            return
        done.wait(0.1)
    raise AssertionError("it did not come")


def test_a_server_that_is_killed_and_started_again_costs_nothing(work, tmp_path, monkeypatch):
    monkeypatch.setattr(mirror, "_FLUSH_S", 0.05)
    (tmp_path / "server").mkdir()
    with s3_server(tmp_path / "server") as server, answering() as endpoint:
        use(monkeypatch, server.environment)
        write_prompts(work / "asked.jsonl")
        asked = asking(endpoint.url, work / "asked.jsonl")
        expected = build(asked, "local", shard_size=4, reuse=False)
        whole = len(endpoint.bodies)
        endpoint.bodies.clear()
        kill_at(endpoint, 20, lambda: (server.kill(), threading.Timer(1.0, server.start).start()))
        built = build(asked, f"s3://{BUCKET}/again", shard_size=4, reuse=False)
        assert len(endpoint.bodies) == whole
        assert tree(built.dataset) == tree(expected.dataset)
        assert dataset_of(below(server, "again")) == local_dataset(expected.dataset)


def kill_at(endpoint, count: int, act) -> None:
    script, done = endpoint.script, []

    def answer(text, before, body):
        if len(endpoint.bodies) >= count and not done:
            done.append(True)
            act()
        return script(text, before, body)

    endpoint.script = answer


def test_a_server_that_stays_away_stops_the_build_with_one_message_and_the_next_run_finishes(
    work, tmp_path, monkeypatch
):
    monkeypatch.setattr(mirror, "_FLUSH_S", 0.05)
    monkeypatch.setattr(object_store, "_PATIENCE_S", 0.0)
    (tmp_path / "server").mkdir()
    with s3_server(tmp_path / "server") as server, answering() as endpoint:
        use(monkeypatch, server.environment)
        write_prompts(work / "asked.jsonl")
        asked = asking(endpoint.url, work / "asked.jsonl", judge=None)
        expected = build(asked, "local", shard_size=4, reuse=False)
        whole = len(endpoint.bodies)
        endpoint.bodies.clear()
        kill_at(endpoint, 20, server.kill)
        with pytest.raises(StoreError, match="does not answer") as refused:
            build(asked, f"s3://{BUCKET}/away", shard_size=4, reuse=False)
        assert "it goes on where it stopped" in str(refused.value)
        assert SECRET not in str(refused.value)
        server.start()
        (folder,) = (work / "builds").glob("away-*")
        finished = len(kept(local_dataset(folder)))
        assert finished >= 20 - asked.candidates[0].generator.concurrency
        endpoint.bodies.clear()
        built = build(asked, f"s3://{BUCKET}/away", shard_size=4, reuse=False)
        assert len(endpoint.bodies) == whole - finished
        assert tree(built.dataset) == tree(expected.dataset)
        assert dataset_of(below(server, "away")) == local_dataset(expected.dataset)


def test_a_put_that_is_cut_in_the_middle_never_shows(work, s3, monkeypatch):
    proxy = CuttingProxy(s3.port, b"/shard-00001.parquet", times=1000)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    monkeypatch.setattr(object_store, "_PATIENCE_S", 0.0)
    try:
        with pytest.raises(StoreError, match="can't be written"):
            build(recipe(), f"s3://{BUCKET}/cut", shard_size=4)
        assert proxy.cut > 0
        shown = below(s3, "cut")
        assert not any(name.endswith("/shard-00001.parquet") for name in shown)
        assert not any(name.endswith("/stage.json") for name in shown)
        proxy.left = 1
        build(recipe(), f"s3://{BUCKET}/cut", shard_size=4)
    finally:
        proxy.close()
    assert dataset_of(below(s3, "cut")) == local_dataset(build(recipe(), "local", shard_size=4).dataset)


def test_of_two_builds_at_once_one_is_refused(work, s3, monkeypatch, tmp_path):
    with answering() as endpoint:
        write_prompts(work / "asked.jsonl")
        asked = asking(endpoint.url, work / "asked.jsonl", judge=None)
        (work / "recipe.json").write_text(json.dumps(asked.dump()))
        (tmp_path / "other").mkdir()
        with stopped_build(work, f"s3://{BUCKET}/two", s3.environment, 3, shard_size=4):
            monkeypatch.chdir(tmp_path / "other")
            with pytest.raises(StoreError) as refused:
                build(asked, f"s3://{BUCKET}/two", reuse=False)
        assert "is in use by another build (process " in str(refused.value)
        assert "5 minutes after its last sign of life" in str(refused.value)
        # The folder's own machine need not wait: nobody else can hold its working folder.
        monkeypatch.chdir(work)
        build(asked, f"s3://{BUCKET}/two", reuse=False)


def test_a_builder_that_was_taken_over_stops(work, s3, monkeypatch):
    store = object_store.ObjectStore(f"s3://{BUCKET}/over")
    slow, fast = lease.Lease(store, "slow", print), lease.Lease(store, "fast", print)
    slow.take()
    with pytest.raises(StoreError, match="in use"):
        fast.take()
    monkeypatch.setattr(lease, "_OLD_S", 0.0)
    fast.take()
    with pytest.raises(StoreError, match="was taken over by another build"):
        slow.renew()
    with pytest.raises(StoreError, match="was taken over"):
        slow.check()
    fast.renew()
    slow.release()
    fast.check()


def test_only_one_of_many_that_take_a_lease_at_once_gets_it(s3):
    won, lost = [], []

    def take(number: int) -> None:
        each = lease.Lease(object_store.ObjectStore(f"s3://{BUCKET}/race"), f"{number}", lambda _: None)
        try:
            each.take()
            won.append(number)
        except StoreError:
            lost.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)


def test_a_bucket_that_does_not_exist_is_one_message(work, s3, prefdata):
    (work / "recipe.json").write_text(json.dumps(recipe().dump()))
    for command in ("build", "check"):
        said = prefdata(command, "recipe.json", "--out", "s3://nowhere/folder")
        assert said.code == 2
        assert "'s3://nowhere/folder' can't be read: it does not exist" in said.err
        assert "make the bucket, or fix its name" in " ".join(said.err.split())


def test_credentials_that_are_missing_or_wrong_are_one_message(work, tmp_path, monkeypatch, prefdata):
    (work / "recipe.json").write_text(json.dumps(recipe().dump()))
    (tmp_path / "server").mkdir()
    with s3_server(tmp_path / "server") as server:
        keys = reader_of(server)
        build_out = ("build", "recipe.json", "--out", f"s3://{BUCKET}/rights")
        server.post("reset-auth", b"0")
        use(monkeypatch, client_environment(server.url, "AKIAWRONG", "wrong-secret-0123"))
        said = prefdata(*build_out)
        assert said.code == 2
        assert "can't be read: these credentials have no right to" in said.err
        assert "wrong-secret-0123" not in said.err
        use(monkeypatch, client_environment(server.url, *keys))
        said = prefdata(*build_out)
        assert said.code == 2
        assert "can't be written: these credentials have no right to" in said.err
        assert keys[1] not in said.err
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    said = prefdata(*build_out)
    assert said.code == 2
    assert "there are no credentials for it" in said.err


def reader_of(server) -> tuple[str, str]:
    """Makes a user who may read the bucket and not write it."""
    users = server.client("iam")
    users.create_user(UserName="reader")
    policy = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": ["s3:Get*", "s3:List*"], "Resource": "*"}],
    }
    users.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=json.dumps(policy))
    key = users.create_access_key(UserName="reader")["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


def test_a_folder_on_s3_is_inspected_verified_and_fetched_once(work, s3, prefdata, monkeypatch):
    where = f"s3://{BUCKET}/read"
    built = build(recipe(), where)
    assert verify(where).holds
    for command in (
        ["inspect"],
        ["audit"],
        ["verify"],
        ["diff", str(built.folder)],
        ["what-if", "--rules", "best_vs_worst"],
    ):
        said = prefdata(command[0], where, *command[1:])
        assert said.code == 0, said.err
    fetched = []
    monkeypatch.setattr(object_store.ObjectStore, "fetch", lambda *_: fetched.append(1))
    assert verify(where).holds
    assert fetched == []


def test_what_was_changed_on_the_store_is_found(work, s3):
    where = f"s3://{BUCKET}/changed"
    build(recipe(), where)
    fs = fsspec.filesystem("s3", skip_instance_cache=True)
    ledger = fs.cat_file(f"{BUCKET}/changed/dataset/ledger.json")
    fs.pipe_file(f"{BUCKET}/changed/dataset/ledger.json", ledger.replace(b"10", b"11"))
    assert not verify(where).holds
