"""Whatever happens on the way, a push ends with the whole dataset in one commit, or with nothing changed."""

from __future__ import annotations

import threading

import pytest
from minihub import User
from small_dataset import commits, dataset_folder, files, local

from prefdata.errors import PublishError
from prefdata.hub import HubRepo
from prefdata.publish import push

# huggingface_hub 2.4 sends a file in a way that its own HTTP client calls old.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

COMMIT, BLOB, FOR_EVER = r"/commit/main", r"/_blob/[0-9a-f]{64}", 10_000

PASSING = {
    "conflict": [{"status": 412, "path": COMMIT}],
    "locked by another commit": [{"status": 409, "path": COMMIT, "times": 2}],
    "rate limit on the commit": [{"status": 429, "path": COMMIT, "headers": {"Retry-After": "7"}}],
    "rate limit on the upload": [{"status": 429, "path": r"/preupload/", "times": 2}],
    "5xx on the commit": [{"status": 503, "path": COMMIT, "times": 3}],
    "5xx on the check of the card": [{"status": 502, "path": r"/validate-yaml", "times": 2}],
    "outage amid the upload": [{"status": 503, "path": BLOB, "after": 2, "times": 20}],
    "connection cut amid the upload": [{"status": 0, "drop": True, "method": "PUT", "path": BLOB, "after": 1}],
    "connection cut before the commit": [{"status": 0, "drop": True, "path": COMMIT}],
    "applied, connection cut": [{"status": 0, "drop": True, "post": True, "path": COMMIT}],
    "applied, answered 500": [{"status": 500, "post": True, "path": COMMIT}],
    "applied, answered 504, then busy": [
        {"status": 504, "post": True, "path": COMMIT},
        {"status": 503, "method": "GET", "path": r"/revision/main", "times": 2},
    ],
    "busy when it is read back": [{"status": 500, "method": "GET", "path": r"/tree/", "after": 1, "times": 2}],
    "cut when it is read back": [{"status": 0, "drop": True, "method": "GET", "path": r"\.parquet", "times": 1}],
    "busy when it is looked for": [{"status": 503, "path": r"/api/datasets/alice/prefs$", "times": 2}],
    "busy when it is tagged": [{"status": 503, "path": r"/tag/", "times": 2}],
}
LASTING = {
    "rate limit for ever": [{"status": 429, "path": COMMIT, "times": FOR_EVER}],
    "rate limit for an hour": [{"status": 429, "path": COMMIT, "headers": {"Retry-After": "3600"}}],
    "conflict for ever": [{"status": 412, "path": COMMIT, "times": FOR_EVER}],
    "5xx for ever": [{"status": 500, "path": COMMIT, "times": FOR_EVER}],
    "outage amid the upload for ever": [{"status": 503, "path": BLOB, "after": 2, "times": FOR_EVER}],
    "quota on the upload": [{"status": 402, "path": r"objects/batch"}],
    "quota on the commit": [{"status": 403, "path": COMMIT}],
    "file too large": [{"status": 413, "path": BLOB}],
    "file lost on the way": [{"status": 200, "method": "PUT", "path": BLOB, "times": FOR_EVER}],
    "card refused": [{"status": 400, "path": r"/validate-yaml"}],
    "bad request": [{"status": 400, "path": COMMIT}],
    "token withdrawn": [{"status": 401, "path": COMMIT}],
    "no such repository any more": [{"status": 404, "path": COMMIT, "headers": {"X-Error-Code": "RepoNotFound"}}],
}


@pytest.fixture
def before(near, tmp_path):
    """An earlier dataset is there."""
    push(dataset_folder(tmp_path / "earlier", "old"), "alice/prefs")
    return files(near.hub), commits(near.hub)


@pytest.mark.parametrize("faults", PASSING.values(), ids=PASSING)
def test_what_passes_ends_in_exactly_one_commit(near, before, folder, faults):
    for fault in faults:
        near.hub.fail(**fault)
    done = push(folder, "alice/prefs", tag="v1")
    assert commits(near.hub) == [done.commit, *before[1]]
    assert files(near.hub) == local(folder)
    assert near.hub.repos["dataset", "alice/prefs"].tags == {"v1": done.commit}
    assert not any(fault["times"] for fault in near.hub.faults if "create" not in fault["path"]) or "upload" in str(
        faults
    )


@pytest.mark.parametrize("faults", LASTING.values(), ids=LASTING)
def test_what_stays_changes_nothing_and_a_later_push_succeeds(near, before, folder, faults):
    for fault in faults:
        near.hub.fail(**fault)
    with pytest.raises(PublishError) as refused:
        push(folder, "alice/prefs")
    assert refused.value.hint
    assert "secret" not in str(refused.value)
    assert "_blob" not in str(refused.value)
    assert commits(near.hub) == before[1]
    assert files(near.hub) == before[0]
    near.hub.faults.clear()
    push(folder, "alice/prefs")
    assert files(near.hub) == local(folder)
    assert len(commits(near.hub)) == len(before[1]) + 1


def test_the_hub_is_waited_for_as_long_as_it_asks(near, folder):
    near.hub.fail(429, path=COMMIT, headers={"Retry-After": "7"})
    push(folder, "alice/prefs")
    assert 7.0 in near.waited


def test_files_that_were_sent_before_an_outage_are_not_sent_again(near, folder):
    near.hub.fail(503, method="PUT", path=BLOB, after=3, times=FOR_EVER)
    with pytest.raises(PublishError):
        push(folder, "alice/prefs")
    sent = {entry[1] for entry in near.hub.log if entry[0] == "PUT" and entry[2] == 200 and "_blob" in entry[1]}
    assert len(sent) == 3
    near.hub.faults.clear()
    near.hub.log.clear()
    push(folder, "alice/prefs")
    again = {entry[1] for entry in near.hub.log if entry[0] == "PUT" and "_blob" in entry[1]}
    assert again
    assert not again & sent


def committing_first(monkeypatch, act, times=1):
    """Does something just before the commit, when the head is known and the files are sent."""
    made, left = HubRepo.commit, [times]

    def commit(self, *arguments, **named):
        if left[0]:
            left[0] -= 1
            act()
        return made(self, *arguments, **named)

    monkeypatch.setattr(HubRepo, "commit", commit)


def test_a_commit_of_somebody_else_in_between_is_kept(near, before, folder, monkeypatch):
    committing_first(monkeypatch, lambda: near.hub.put("dataset", "alice/prefs", {"LICENSE": b"theirs"}))
    done = push(folder, "alice/prefs")
    assert files(near.hub) == {**local(folder), "LICENSE": b"theirs"}
    assert commits(near.hub)[0] == done.commit
    assert len(commits(near.hub)) == len(before[1]) + 2


def test_data_of_somebody_else_that_came_in_between_is_not_mixed_with_ours(near, before, folder, monkeypatch):
    theirs = {"data/train-00007-of-00009.parquet": b"theirs"}
    sent = HubRepo.upload

    def upload(self, *arguments, **named):
        sent(self, *arguments, **named)
        near.hub.put("dataset", "alice/prefs", theirs)

    monkeypatch.setattr(HubRepo, "upload", upload)
    with pytest.raises(PublishError, match="prefdata did not write: data/train-00007"):
        push(folder, "alice/prefs")
    assert files(near.hub) == {**before[0], **theirs}


def test_a_file_that_changed_in_between_is_ours_in_the_end(near, folder, tmp_path, monkeypatch):
    """The client leaves out of a commit what it once saw to be there already; by then it may be another file."""
    push(folder, "alice/prefs")
    name = "candidates/train-00000-of-00001.parquet"
    old = (folder / name).read_bytes()
    second = dataset_folder(tmp_path / "two", "better")
    push(second, "alice/prefs")
    committing_first(monkeypatch, lambda: near.hub.put("dataset", "alice/prefs", {name: old}))
    third = dataset_folder(tmp_path / "three", "better", lock={"format": 3})
    assert (third / name).read_bytes() == (second / name).read_bytes()
    push(third, "alice/prefs")
    assert files(near.hub) == local(third)


def test_a_lost_answer_is_recognised_under_the_commit_of_somebody_else(near, before, folder, monkeypatch):
    made = HubRepo.commit

    def commit(self, *arguments, **named):
        done = made(self, *arguments, **named)
        near.hub.put("dataset", "alice/prefs", {"LICENSE": b"theirs"})
        raise_lost(done)

    def raise_lost(_):
        from prefdata.hub import UndecidedError

        raise UndecidedError("the connection broke")

    monkeypatch.setattr(HubRepo, "commit", commit)
    done = push(folder, "alice/prefs")
    assert commits(near.hub)[1] == done.commit
    assert len(commits(near.hub)) == len(before[1]) + 2
    assert files(near.hub, done.commit) == local(folder)


def test_a_lost_answer_that_nobody_can_look_for_is_told_and_found_by_the_next_push(near, before, folder):
    near.hub.fail(0, drop=True, post=True, path=COMMIT)
    near.hub.fail(503, method="GET", path=r"/revision/main", after=1, times=FOR_EVER)
    with pytest.raises(PublishError, match="it is not known whether"):
        push(folder, "alice/prefs")
    near.hub.faults.clear()
    done = push(folder, "alice/prefs")
    assert not done.new
    assert commits(near.hub) == [done.commit, *before[1]]
    assert files(near.hub) == local(folder)


def test_a_lost_proposal_is_recognised(near, before, folder):
    near.hub.fail(0, drop=True, post=True, path=COMMIT)
    done = push(folder, "alice/prefs", create_pr=True)
    assert done.pull_request == "refs/pr/1"
    assert near.hub.repos["dataset", "alice/prefs"].pulls == 1
    assert files(near.hub, "refs/pr/1") == local(folder)
    assert files(near.hub) == before[0]


@pytest.mark.parametrize("words", ["same", "other"])
def test_two_pushers_at_once_end_with_one_whole_dataset(near, tmp_path, monkeypatch, words):
    folders = [dataset_folder(tmp_path / "one", "same"), dataset_folder(tmp_path / "two", words)]
    HubRepo("alice/prefs").create()
    ready = threading.Barrier(2, timeout=120)
    met = set()
    made = HubRepo.commit

    def commit(self, *arguments, **named):
        if threading.get_ident() not in met:
            met.add(threading.get_ident())
            ready.wait()
        return made(self, *arguments, **named)

    monkeypatch.setattr(HubRepo, "commit", commit)
    done = []
    threads = [
        threading.Thread(target=lambda folder=folder: done.append(push(folder, "alice/prefs"))) for folder in folders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert len(done) == 2
    assert files(near.hub) in [local(folder) for folder in folders]
    assert sorted(found.new for found in done) == ([False, True] if words == "same" else [True, True])
    assert len(commits(near.hub)) == (2 if words == "same" else 3)
    assert [entry[2] for entry in near.hub.log if "/commit/" in entry[1]].count(412) == 1
    for found in done:
        assert files(near.hub, found.commit) in [local(folder) for folder in folders]


def test_a_file_that_the_hub_has_cut_short_is_noticed(near, folder, monkeypatch):
    made = HubRepo.commit

    def commit(self, *arguments, **named):
        done = made(self, *arguments, **named)
        entry = near.hub.repos["dataset", "alice/prefs"].resolve(done.sha).tree["data/train-00000-of-00001.parquet"]
        blob = near.hub.blob_path(entry.lfs)
        blob.write_bytes(blob.read_bytes()[:-500])
        return done

    monkeypatch.setattr(HubRepo, "commit", commit)
    with pytest.raises(PublishError) as refused:
        push(folder, "alice/prefs")
    assert commits(near.hub)[0] in str(refused.value)


class TestAccess:
    def test_what_the_hub_says_is_told_without_token_address_or_control_characters(self, near, before, folder):
        message = "No room for Bearer abc, secret-of-alice, hf_xyz: see https://cdn.example/x?Signature=s \x1b[31m"
        near.hub.fail(403, path=COMMIT, headers={"X-Error-Message": message})
        with pytest.raises(PublishError) as refused:
            push(folder, "alice/prefs")
        assert "The Hub says: No room for (token) (token), (token): see (address)" in str(refused.value)
        assert "\x1b" not in str(refused.value)

    def test_a_wrong_token(self, near, folder, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "secret-of-nobody")
        with pytest.raises(PublishError, match="refused the token") as refused:
            push(folder, "alice/prefs")
        assert "secret" not in str(refused.value)
        assert near.hub.repos == {}

    def test_a_token_that_may_only_read(self, near, before, folder, monkeypatch):
        near.hub.users["secret-of-reader"] = User("alice", role="read")
        monkeypatch.setenv("HF_TOKEN", "secret-of-reader")
        with pytest.raises(PublishError, match="does not allow it"):
            push(folder, "alice/prefs")
        assert (files(near.hub), commits(near.hub)) == before

    def test_a_private_repository_of_somebody_else(self, near, before, folder, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "secret-of-bob")
        with pytest.raises(PublishError):
            push(folder, "alice/prefs")
        assert (files(near.hub), commits(near.hub)) == before

    def test_a_gated_repository_of_somebody_else(self, near, before, folder, monkeypatch):
        repo = near.hub.repos["dataset", "alice/prefs"]
        repo.private, repo.gated = False, "manual"
        monkeypatch.setenv("HF_TOKEN", "secret-of-bob")
        with pytest.raises(PublishError, match="it is gated"):
            push(folder, "alice/prefs", public=True)
        assert (files(near.hub), commits(near.hub)) == before

    def test_a_gated_repository_of_ours_stays_gated(self, near, before, folder):
        near.hub.repos["dataset", "alice/prefs"].gated = "manual"
        push(folder, "alice/prefs")
        assert near.hub.repos["dataset", "alice/prefs"].gated == "manual"
        assert files(near.hub) == local(folder)

    def test_no_hub_at_all(self, near, folder):
        near.hub.stop()
        with pytest.raises(PublishError, match="can't be reached"):
            push(folder, "alice/prefs")
