"""Whether a text names something of this machine or a dataset of the Hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from prefdata.errors import InputError
from prefdata.hub import find_dataset, repo_and_revision, where


@pytest.fixture
def asked(tmp_path, monkeypatch) -> list[tuple[str, str | None]]:
    """A folder with `builds/one`, and the datasets that the Hub is asked for."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "builds" / "one").mkdir(parents=True)
    (tmp_path / "owner" / "here").mkdir(parents=True)
    found: list[tuple[str, str | None]] = []

    def download(repo, revision=None, *, only=None):
        found.append((repo, revision))
        if repo == "no/such":
            raise InputError("there is no dataset 'no/such'", hint="check the name")
        return tmp_path / "cache", "0" * 40

    monkeypatch.setattr(where, "download_dataset", download)
    return found


@pytest.mark.parametrize("text", ["builds/one", "./builds/one", "builds", "owner/here", Path("builds/one")])
def test_what_is_here_comes_first(asked, text):
    found = find_dataset(text, only=())
    assert (found.path, found.commit, asked) == (Path(text), None, [])


@pytest.mark.parametrize(
    "text",
    [
        *("builds/typo", "owner/typo", "nothing/table.parquet", "table.jsonl.gz", "mine.py", "./a/b", "../a/b"),
        *("~/a/b", "/a/b", Path("some/name")),
    ],
)
def test_a_path_that_is_not_there_asks_no_hub(asked, text):
    with pytest.raises(InputError, match="there is no file or folder"):
        find_dataset(text, only=())
    assert asked == []


def test_a_typo_in_a_folder_names_the_way_to_the_hub(asked):
    with pytest.raises(InputError, match=r"For a dataset of the Hub: hf:builds/typo"):
        find_dataset("builds/typo", only=())


@pytest.mark.parametrize(
    ("text", "repo", "revision"),
    [
        ("some/name", "some/name", None),
        ("some/name@v1.0", "some/name", "v1.0"),
        ("some/model-v1.5", "some/model-v1.5", None),
        ("hf:builds/typo", "builds/typo", None),
        ("hf:owner/here@refs/pr/1", "owner/here", "refs/pr/1"),
    ],
)
def test_other_names_are_datasets_of_the_hub(asked, text, repo, revision):
    assert find_dataset(text, only=()).commit == "0" * 40
    assert asked == [(repo, revision)]
    assert repo_and_revision(text) == (repo, revision)


def test_what_is_nowhere_is_refused_with_both_readings(asked):
    with pytest.raises(InputError) as caught:
        find_dataset("no/such", only=())
    assert str(caught.value).startswith(
        "'no/such' is neither a file or folder here nor a dataset of the Hub: there is no dataset 'no/such'"
    )
    with pytest.raises(InputError, match="'plain' is neither a file or folder here nor a name of a dataset of the Hub"):
        find_dataset("plain", only=())
    with pytest.raises(InputError, match="'hf:plain' is not a name of a dataset of the Hub"):
        find_dataset("hf:plain", only=())
