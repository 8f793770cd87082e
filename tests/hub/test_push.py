"""A push is one commit that holds the whole dataset, or nothing: with the real client, against a Hub on loopback."""

from __future__ import annotations

import re

import pytest
from small_dataset import commits, dataset_folder, files, local

from prefdata.errors import PublishError
from prefdata.publish import push
from prefdata.publish.manifest import MANIFEST

# huggingface_hub 2.4 sends a file in a way that its own HTTP client calls old.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def posted(hub, what):
    return [entry for entry in hub.log if entry[0] == "POST" and what in entry[1]]


def test_a_push_is_one_private_commit_that_holds_every_file(near, folder):
    done = push(folder, "alice/prefs")
    assert done.new
    assert commits(near.hub) == [done.commit, *commits(near.hub)[1:]]
    assert len(commits(near.hub)) == 2
    assert near.hub.repos["dataset", "alice/prefs"].private
    assert files(near.hub) == local(folder)
    assert done.url == f"{near.hub.url}/datasets/alice/prefs/commit/{done.commit}"
    assert done.rows == {"data/train": 4, "data/test": 2, "candidates/train": 12}


def test_the_same_dataset_again_makes_no_commit_and_sends_no_file(near, folder, tmp_path):
    first = push(folder, "alice/prefs")
    near.hub.log.clear()
    again = push(dataset_folder(tmp_path / "again"), "alice/prefs")
    assert (again.commit, again.new, again.rows) == (first.commit, False, first.rows)
    assert not posted(near.hub, "/commit/")
    assert not [entry for entry in near.hub.log if entry[0] == "PUT"]


def test_another_dataset_replaces_the_files_and_removes_what_it_lacks(near, tmp_path):
    push(dataset_folder(tmp_path / "one"), "alice/prefs")
    second = dataset_folder(tmp_path / "two", "better", test=0)
    done = push(second, "alice/prefs", allow_schema_change=True)
    assert files(near.hub) == local(second)
    assert "data/test-00000-of-00001.parquet" not in files(near.hub)
    assert len(commits(near.hub)) == 3
    assert done.rows["data/train"] == 6


def test_the_pictures_of_the_card_are_in_the_same_commit_and_change_nothing_that_is_loaded(near, client, tmp_path):
    stages = [{"stage": "prompts", "in": 7, "out": 6, "drops": {"blank": 1}}]
    ledger = {"prompts": 7, "pairs": 6, "drops": {"blank": 1}, "ineligible": {}, "stages": stages}
    done = push(dataset_folder(tmp_path / "drawn", ledger=ledger), "alice/prefs")
    there = files(near.hub, done.commit)
    assert b"](flow.svg)" in there["README.md"]
    assert all(there[name].startswith(b"<svg") for name in ("flow.svg", "margins.svg"))
    look = (
        "import datasets\ndatasets.config.USE_PARQUET_EXPORT = False\n"
        "result = {split: rows.num_rows for split, rows in datasets.load_dataset('alice/prefs').items()}"
    )
    assert client.run(look, token="secret-of-alice") == {"train": 4, "test": 2}
    push(dataset_folder(tmp_path / "other", "other"), "alice/prefs")
    assert "flow.svg" not in files(near.hub)


def test_files_of_others_stay(near, folder):
    near.hub.put("dataset", "alice/prefs", {"LICENSE": b"mine"})
    near.hub.repos["dataset", "alice/prefs"].private = True
    push(folder, "alice/prefs")
    near.hub.put("dataset", "alice/prefs", {"images/plot.png": b"png"})
    push(folder, "alice/prefs", tag="again")
    assert files(near.hub) == {**local(folder), "LICENSE": b"mine", "images/plot.png": b"png"}


def test_a_picture_that_is_the_only_data_is_not_taken_from_view(near, folder):
    theirs = {"LICENSE": b"mine", "images/plot.png": b"png"}
    near.hub.put("dataset", "alice/prefs", theirs)
    near.hub.repos["dataset", "alice/prefs"].private = True
    with pytest.raises(PublishError, match=re.escape("images/plot.png")):
        push(folder, "alice/prefs")
    assert files(near.hub) == theirs


def test_a_gitignore_of_the_repository_keeps_nothing_out(near, folder):
    near.hub.put("dataset", "alice/prefs", {".gitignore": b"*.json\ndata/*\n"})
    near.hub.repos["dataset", "alice/prefs"].private = True
    push(folder, "alice/prefs")
    assert files(near.hub) == {**local(folder), ".gitignore": b"*.json\ndata/*\n"}


@pytest.mark.parametrize("name", ["data/train-00000-of-00007.parquet", "recipe.json", "candidates/train-old.parquet"])
def test_a_dataset_that_prefdata_did_not_write_is_never_replaced(near, folder, name):
    near.hub.put("dataset", "alice/prefs", {name: b"theirs"})
    near.hub.repos["dataset", "alice/prefs"].private = True
    with pytest.raises(PublishError, match=re.escape(f"prefdata did not write: {name}")):
        push(folder, "alice/prefs", allow_schema_change=True)
    assert files(near.hub) == {name: b"theirs"}


class TestWhoSeesIt:
    def test_public_only_when_asked_and_only_once_it_is_whole(self, near, folder):
        push(folder, "alice/prefs", public=True)
        assert not near.hub.repos["dataset", "alice/prefs"].private
        opened_at = next(
            position for position, entry in enumerate(near.hub.log) if entry[0] == "PUT" and "settings" in entry[1]
        )
        made_at = next(position for position, entry in enumerate(near.hub.log) if "/commit/" in entry[1])
        assert made_at < opened_at

    def test_a_public_repository_needs_the_word(self, near, folder):
        near.hub.put("dataset", "alice/prefs", {"a.md": b"a"})
        with pytest.raises(PublishError, match="is public"):
            push(folder, "alice/prefs")
        assert files(near.hub) == {"a.md": b"a"}
        push(folder, "alice/prefs", public=True)
        assert len(commits(near.hub)) == 3


class TestTag:
    def test_a_tag_names_the_commit_and_pushing_again_keeps_it(self, near, folder):
        done = push(folder, "alice/prefs", tag="v1.0")
        assert near.hub.repos["dataset", "alice/prefs"].tags == {"v1.0": done.commit}
        assert push(folder, "alice/prefs", tag="v1.0").commit == done.commit

    def test_a_version_never_changes(self, near, folder, tmp_path):
        done = push(folder, "alice/prefs", tag="v1.0")
        with pytest.raises(PublishError, match=f"names the commit {done.commit} already"):
            push(dataset_folder(tmp_path / "two", "better"), "alice/prefs", tag="v1.0")
        assert commits(near.hub)[0] == done.commit
        second = push(dataset_folder(tmp_path / "three", "better"), "alice/prefs", tag="v1.1")
        assert near.hub.repos["dataset", "alice/prefs"].tags == {"v1.0": done.commit, "v1.1": second.commit}

    def test_a_push_that_was_cut_before_its_tag_tags_when_it_runs_again(self, near, folder):
        near.hub.fail(403, method="POST", path="/tag/")
        with pytest.raises(PublishError, match="can't be tagged"):
            push(folder, "alice/prefs", tag="v1")
        done = push(folder, "alice/prefs", tag="v1")
        assert not done.new
        assert near.hub.repos["dataset", "alice/prefs"].tags == {"v1": done.commit}


class TestBranch:
    def test_a_branch_is_made_and_main_stays(self, near, folder):
        done = push(folder, "alice/prefs", branch="staging/one")
        assert commits(near.hub, "staging/one")[0] == done.commit
        assert files(near.hub) == {}
        assert files(near.hub, "staging/one") == local(folder)

    def test_a_proposal_leaves_main_alone_and_is_made_once(self, near, folder):
        done = push(folder, "alice/prefs", create_pr=True)
        assert done.pull_request == "refs/pr/1"
        assert files(near.hub) == {}
        assert files(near.hub, "refs/pr/1") == local(folder)
        again = push(folder, "alice/prefs", create_pr=True)
        assert (again.pull_request, again.commit, again.new) == ("refs/pr/1", done.commit, False)
        assert near.hub.repos["dataset", "alice/prefs"].pulls == 1


class TestSchema:
    def test_a_schema_that_differs_is_shown_and_refused(self, near, folder, tmp_path):
        push(folder, "alice/prefs")
        before = files(near.hub)
        other = dataset_folder(tmp_path / "two", test=0, answers=None)
        with pytest.raises(PublishError) as refused:
            push(other, "alice/prefs")
        assert "data/test: gone" in str(refused.value)
        assert "candidates/train: gone" in str(refused.value)
        assert "--allow-schema-change" in str(refused.value)
        assert files(near.hub) == before
        push(other, "alice/prefs", allow_schema_change=True)
        assert files(near.hub) == local(other)

    def test_columns_and_types_are_compared(self, near, folder, tmp_path):
        import pyarrow.parquet as pq

        push(folder, "alice/prefs")
        table = pq.read_table(folder / "data" / "train-00000-of-00001.parquet").replace_schema_metadata()
        column = table.column_names.index("pair_index")
        changed = table.set_column(column, "pair_index", table["pair_index"].cast("string")).drop_columns(
            ["score_margin"]
        )
        other = dataset_folder(tmp_path / "two")
        from prefdata.publish.folder import with_features
        from prefdata.publish.manifest import write_manifest
        from prefdata.tables.schemas import write_parquet

        (other / "data" / "train-00000-of-00001.parquet").unlink()
        write_parquet(other / "data" / "train-00000-of-00001.parquet", with_features(changed))
        write_manifest(other)
        with pytest.raises(PublishError) as refused:
            push(other, "alice/prefs")
        assert "data/train: pair_index: int64 → string" in str(refused.value)
        assert "data/train: score_margin: double → -" in str(refused.value)


class TestCard:
    def test_prose_of_others_stays_and_only_our_blocks_change(self, near, folder, tmp_path):
        push(folder, "alice/prefs")
        card = files(near.hub)["README.md"].decode()
        edited = card.replace(
            "<!-- prefdata:begin load -->", "A word of mine, with <b>HTML</b>.\n\n<!-- prefdata:begin load -->"
        )
        edited = (
            edited.replace("license: apache-2.0", "license: apache-2.0\nannotations_creators:\n- me") + "\nThe end.\n"
        )
        assert edited.count("of mine") == 1
        near.hub.put("dataset", "alice/prefs", {"README.md": edited.encode()})
        assert push(folder, "alice/prefs").new  # the manifest lists the card as it is now
        assert not push(folder, "alice/prefs").new
        second = dataset_folder(tmp_path / "two", "better", rows=9)
        push(second, "alice/prefs")
        now = files(near.hub)["README.md"].decode()
        assert "A word of mine, with <b>HTML</b>." in now
        assert now.endswith("\nThe end.\n")
        assert "annotations_creators:\n- me" in now
        assert "`train` (7 rows)" in now
        assert "num_examples: 7" in now

    def test_the_manifest_lists_the_card_that_is_there(self, near, folder):
        import hashlib
        import json

        near.hub.put("dataset", "alice/prefs", {"README.md": b"# Mine\n\nBy hand.\n"})
        near.hub.repos["dataset", "alice/prefs"].private = True
        push(folder, "alice/prefs")
        there = files(near.hub)
        assert b"# Mine\n\nBy hand.\n" in there["README.md"]
        listed = json.loads(there[MANIFEST])["files"]
        assert listed == {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            for name, data in there.items()
            if name != MANIFEST
        }

    def test_a_header_that_is_no_yaml_is_told(self, near, folder):
        near.hub.put("dataset", "alice/prefs", {"README.md": b"---\na: [\n---\ntext"})
        near.hub.repos["dataset", "alice/prefs"].private = True
        with pytest.raises(PublishError, match="not a YAML mapping"):
            push(folder, "alice/prefs")

    @pytest.mark.parametrize("content", [b"---\nlicense: mit\n---\n\xff\xfe", b"a" * (8 << 20) + b"b"])
    def test_a_card_whose_prose_could_not_be_kept_is_refused(self, near, folder, content):
        near.hub.put("dataset", "alice/prefs", {"README.md": content})
        near.hub.repos["dataset", "alice/prefs"].private = True
        with pytest.raises(PublishError, match="prose can't be kept"):
            push(folder, "alice/prefs")
        assert files(near.hub) == {"README.md": content}


class TestRefusedBeforeAnythingIsSent:
    @pytest.mark.parametrize(
        "name", ["prefs", "a/b/c", "a//b", "a/..", "../x", "a/b--c", "a/" + "b" * 99, "a/b\n", "é/b"]
    )
    def test_names(self, near, folder, name):
        with pytest.raises(PublishError, match="not a valid repository name"):
            push(folder, name)
        assert near.hub.log == []

    @pytest.mark.parametrize("tag", ["", "-v", "a b", "a..b", "x.lock", "v1\n", "a~1"])
    def test_tags(self, near, folder, tag):
        with pytest.raises(PublishError, match="not a valid tag name"):
            push(folder, "alice/prefs", tag=tag)
        assert near.hub.log == []

    def test_a_folder_without_a_dataset(self, near, tmp_path):
        with pytest.raises(PublishError, match="holds no dataset"):
            push(tmp_path, "alice/prefs")

    @pytest.mark.parametrize("name", ["data/train-00000-of-00001.parquet", "recipe.json", "README.md"])
    def test_a_file_that_is_not_what_the_manifest_lists(self, near, folder, name):
        (folder / name).write_bytes((folder / name).read_bytes() + b" ")
        with pytest.raises(PublishError, match="differs from the manifest"):
            push(folder, "alice/prefs")
        assert near.hub.log == []

    def test_a_missing_file(self, near, folder):
        (folder / "recipe.json").unlink()
        with pytest.raises(PublishError, match="is missing"):
            push(folder, "alice/prefs")

    def test_a_link_that_leads_out(self, near, folder, tmp_path):
        (tmp_path / "private").write_bytes((folder / "recipe.json").read_bytes())
        (folder / "recipe.json").unlink()
        (folder / "recipe.json").symlink_to(tmp_path / "private")
        with pytest.raises(PublishError, match="is a link"):
            push(folder, "alice/prefs")
        assert near.hub.log == []

    @pytest.mark.parametrize("name", ["../private", "/etc/passwd", "data/../../private", "a/b/c", ".ssh", "data/.x"])
    def test_a_manifest_that_names_files_elsewhere(self, near, folder, name):
        import json

        manifest = json.loads((folder / MANIFEST).read_text())
        manifest["files"][name] = {"sha256": "0" * 64, "size": 1}
        (folder / MANIFEST).write_text(json.dumps(manifest))
        with pytest.raises(PublishError, match="the manifest"):
            push(folder, "alice/prefs")
        assert near.hub.log == []

    def test_what_no_manifest_lists_stays_here(self, near, folder):
        (folder / "notes.txt").write_text("private")
        (folder / "data" / ".train.part").write_text("private")
        push(folder, "alice/prefs")
        assert not {"notes.txt", "data/.train.part"} & set(files(near.hub))

    def test_the_token_in_a_file(self, near, tmp_path):
        folder = dataset_folder(tmp_path / "leaky", recipe={"name": "secret-of-alice"})
        with pytest.raises(PublishError, match="contains the token") as refused:
            push(folder, "alice/prefs")
        assert "secret-of-alice" not in str(refused.value)
        assert near.hub.log == []

    def test_nobody_logged_in(self, near, folder, monkeypatch):
        monkeypatch.delenv("HF_TOKEN")
        with pytest.raises(PublishError, match="no token for the Hub"):
            push(folder, "alice/prefs")
        assert near.hub.log == []

    def test_a_card_that_the_hub_would_misread(self, near, tmp_path):
        from prefdata.publish import Publish
        from prefdata.publish.card.text import CardFacts

        card = CardFacts(name="n", description="", publish=Publish(license="my-own", language=("klingon",)), steps={})
        with pytest.raises(PublishError) as refused:
            push(dataset_folder(tmp_path / "odd", card=card), "alice/prefs")
        assert "license: 'my-own'" in str(refused.value)
        assert "language: 'klingon'" in str(refused.value)
        assert near.hub.log == []
