"""Whatever answers a request of a push, its message says what is true of the commit, and its exit code too.

Each request of a push meets each kind of fault: the answer is refused, is junk with status 200 (the page of a proxy,
another JSON), comes from a proxy after the Hub has done what was asked, or is lost; once, or from there on.
"""

from __future__ import annotations

import copy
import re
from functools import partial

import pytest
from small_dataset import commits, dataset_folder, files, local, repository
from small_model import model_folder, published

from prefdata.errors import PublishError, UnconfirmedError
from prefdata.hub import HubRepo
from prefdata.publish import push

# huggingface_hub 2.4 sends a file in a way that its own HTTP client calls old.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

PAGE = b"<!doctype html><html><title>Log in</title></html>"
FAULTS = {
    **{f"{status}": {"status": status} for status in (401, 403, 409, 412)},
    "a page": {"status": 200, "body": PAGE},
    "an object": {"status": 200, "body": {"detail": {"code": 1}}},
    "a list": {"status": 200, "body": [1]},
    "done, then 401": {"status": 401, "post": True},
    "done, then a page": {"status": 200, "body": PAGE, "post": True},
    "done, then lost": {"status": 0, "drop": True, "post": True},
    "401 from there on": {"status": 401, "times": 10_000},
    "a page from there on": {"status": 200, "body": PAGE, "times": 10_000},
    "done, then 401 from there on": {"status": 401, "post": True, "times": 10_000},
}
MESSAGE = re.compile(
    r"prefdata: (published: (?P<url>\S+)(\n    \S.*)+|unknown: .*\n    not checked: .*|not published: .*(\n    .*)*)"
    r"(\n  valid: .*)?\n  next:  .+\n"
)


@pytest.fixture
def state(near, tmp_path, prefdata, caplog, request):
    """An earlier dataset is there; gives the folder of another one, and a function that puts the hub back."""
    caplog.set_level("ERROR")
    kind = getattr(request, "param", "dataset")
    made = model_folder if kind == "model" else partial(dataset_folder, test=0, answers=None)
    push(made(tmp_path / "earlier", "old"), "alice/prefs")
    repo = repository(near.hub)
    kept = {name: copy.copy(getattr(repo, name)) for name in ("commits", "refs", "tags", "private", "pulls")}

    def restore():
        for name, value in kept.items():
            setattr(repo, name, copy.copy(value))
        near.hub.repos = {(kind, "alice/prefs"): repo}
        near.hub.faults.clear()
        near.hub.log.clear()

    return made(tmp_path / "later", "new"), restore


def is_true(near, said, folder, before, options):
    """Returns what a message or exit code says that is not true; nothing where all of it is."""
    repo, wrong = repository(near.hub), []
    there = files(near.hub) == (published if repo.type == "model" else local)(folder)
    progress = re.compile(r"published: |sent |read back|.*trying")
    shown = [line for line in said.err.splitlines(keepends=True) if not progress.match(line)]
    message = MESSAGE.search("".join(shown))
    if said.code == 0:
        whole = there and repo.tags == {"v1": commits(near.hub)[0]} and repo.private == ("--public" not in options)
        return [] if whole and said.out else ["published and checked"]
    if message is None:
        return [f"no message of three parts: {said.err}"]
    if said.code == 2:
        wrong += ["not published"] * (commits(near.hub) != before or "not published: " not in said.err)
    elif message["url"]:
        wrong += ["published"] * (not there or message["url"].rpartition("/")[2] != commits(near.hub)[0])
        wrong += ["checked"] * (re.search(r"\n    (not checked|not done|wrong): ", message[0]) is None)
    else:
        wrong += ["unknown"] * ("unknown: " not in said.err)
    return wrong + [f"exit code {said.code}"] * (said.code not in (2, 3)) + ["secret"] * ("secret-of" in said.err)


PUBLIC = {name: FAULTS[name] for name in ("403", "a page from there on")}
CASES = [
    *(pytest.param(fault, ("--tag", "v1"), id=name) for name, fault in FAULTS.items()),
    *(pytest.param(fault, ("--tag", "v1", "--public"), id=f"{name}, public") for name, fault in PUBLIC.items()),
]


@pytest.mark.parametrize(("fault", "options"), CASES)
def test_every_message_of_every_fault_of_every_request_is_true(near, state, prefdata, fault, options):
    check_each_request(near, state, prefdata, fault, options)


@pytest.mark.parametrize("state", ["model"], indirect=True)
@pytest.mark.parametrize("fault", ["403", "done, then a page", "done, then lost", "401 from there on"])
def test_so_is_every_message_about_a_model(near, state, prefdata, fault):
    check_each_request(near, state, prefdata, FAULTS[fault], ("--tag", "v1"))


def check_each_request(near, state, prefdata, fault, options):
    folder, restore = state
    restore()
    before = commits(near.hub)
    assert prefdata("push", folder, "alice/prefs", *options).code == 0
    count, lies, codes = len(near.hub.log), {}, []
    assert count >= 16
    for number in range(count):
        restore()
        near.hub.fail(**fault, after=number)
        said = prefdata("push", folder, "alice/prefs", *options)
        codes.append(said.code)
        wrong = is_true(near, said, folder, before, options)
        if fault.get("times") is None and "unknown: " in said.err:
            wrong.append("unknown, though the Hub could be asked")
        if wrong:
            lies[number, *near.hub.log[number][:2]] = (wrong, said.err)
    assert lies == {}, "\n".join(f"{where}: {what}" for where, what in lies.items())
    assert len(set(codes)) > 1 or fault.get("post")


@pytest.mark.parametrize("fault", ["401 from there on", "done, then 401 from there on"])
def test_a_push_that_ended_badly_is_finished_by_the_same_command(near, state, prefdata, fault):
    folder, restore = state
    restore()
    before = commits(near.hub)
    assert prefdata("push", folder, "alice/prefs", "--tag", "v1").code == 0
    for number in range(0, len(near.hub.log), 2):
        restore()
        near.hub.fail(**FAULTS[fault], after=number)
        prefdata("push", folder, "alice/prefs", "--tag", "v1")
        near.hub.faults.clear()
        said = prefdata("push", folder, "alice/prefs", "--tag", "v1")
        assert said.code == 0, said.err
        assert len(commits(near.hub)) == len(before) + 1
        assert near.hub.repos["dataset", "alice/prefs"].tags == {"v1": commits(near.hub)[0]}


class TestWhoCanReadIt:
    def opened(self, near, monkeypatch, method):
        done = getattr(HubRepo, method)

        def opening(self, *arguments, **named):
            result = done(self, *arguments, **named)
            near.hub.repos["dataset", "alice/prefs"].private = False
            return result

        monkeypatch.setattr(HubRepo, method, opening)

    def test_a_repository_that_is_made_public_before_the_commit_gets_none(self, near, state, monkeypatch):
        folder, _ = state
        before = commits(near.hub)
        self.opened(near, monkeypatch, "upload")
        with pytest.raises(PublishError, match=r"^not published: .* is public"):
            push(folder, "alice/prefs")
        assert commits(near.hub) == before

    def test_one_that_is_made_public_after_the_commit_is_reported(self, near, state, prefdata, monkeypatch):
        folder, _ = state
        self.opened(near, monkeypatch, "commit")
        said = prefdata("push", folder, "alice/prefs")
        assert said.code == 3
        assert f"prefdata: published: {near.hub.url}/datasets/alice/prefs/commit/{commits(near.hub)[0]}" in said.err
        assert "everybody can read it" in said.err
        assert f"next:  make it private: {near.hub.url}/datasets/alice/prefs/settings" in said.err


class TestSecrets:
    def test_a_token_or_key_in_a_document_or_table_is_never_sent(self, near, tmp_path, monkeypatch):
        monkeypatch.setenv("MY_KEY", "sk-leaky-0123456789")
        asks = {"scores": [{"model": {"kind": "chat_endpoint", "api_key_env": "MY_KEY"}}]}
        recipe = {"name": "small", "prompts": {"kind": "sample"}, "pairs": {"kind": "best_vs_worst"}, **asks}
        for number, (words, secret) in enumerate(
            [("echo secret-of-alice", "the token"), ("Bearer sk-leaky-0123456789", "the value of 'MY_KEY'")]
        ):
            leaky = dataset_folder(tmp_path / "leaky" / f"{number}", words, recipe=recipe)
            with pytest.raises(PublishError, match=f"not published: .*parquet' contains {secret}") as refused:
                push(leaky, "alice/prefs")
            assert words not in str(refused.value)
        document = dataset_folder(tmp_path / "leaky" / "document", recipe={**recipe, "name": "sk-leaky-0123456789"})
        with pytest.raises(PublishError, match=r"contains the value of 'MY_KEY'"):
            push(document, "alice/prefs")
        assert near.hub.log == []

    def test_a_word_in_place_of_a_key_is_not_a_secret(self, near, tmp_path, monkeypatch):
        monkeypatch.setenv("MY_KEY", "good")
        recipe = {"name": "small", "prompts": {"kind": "sample"}, "api_key_env": "MY_KEY"}
        assert push(dataset_folder(tmp_path / "dataset", recipe=recipe), "alice/prefs").new

    @pytest.mark.parametrize("token", ["hf_tökén", "hf_\u2026abc"])
    def test_a_token_with_characters_that_none_has(self, near, folder, monkeypatch, token):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(PublishError, match="holds characters that no token has") as refused:
            push(folder, "alice/prefs")
        assert "HF_TOKEN" in str(refused.value.hint)
        assert token not in str(refused.value)


def test_a_commit_that_is_not_what_was_sent_is_published_and_wrong(near, state, prefdata, monkeypatch):
    folder, _ = state
    made = HubRepo.commit

    def commit(self, *arguments, **named):
        done = made(self, *arguments, **named)
        near.hub.repos["dataset", "alice/prefs"].resolve(done.sha).tree.pop("recipe.json")
        return done

    monkeypatch.setattr(HubRepo, "commit", commit)
    with pytest.raises(UnconfirmedError, match=r"published: \S+\n    wrong: this commit does not hold .*recipe.json"):
        push(folder, "alice/prefs", tag="v1")
    assert near.hub.repos["dataset", "alice/prefs"].tags == {}
