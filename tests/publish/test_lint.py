"""What the Hub would refuse or misread in a card's header is found here, without it."""

from __future__ import annotations

import pytest
from cards import card, header

from prefdata.publish import Publish
from prefdata.publish.card.lint import lint_card, lint_header

GOOD = {
    "license": "apache-2.0",
    "language": ["en", "de", "yue", "code"],
    "pretty_name": "A name",
    "size_categories": ["1K<n<10K"],
    "task_categories": ["text-generation", "reinforcement-learning"],
    "tags": ["preference"],
    "configs": [
        {"config_name": "default", "default": True, "data_files": [{"split": "train", "path": "data/train-*.parquet"}]},
        {"config_name": "candidates", "data_files": [{"split": "train_iteration_1", "path": "c/*.parquet"}]},
    ],
    "dataset_info": [{"config_name": "default"}, {"config_name": "candidates"}],
}


def test_a_good_header_has_no_problem():
    assert lint_header(GOOD) == []
    assert lint_header({}) == []
    assert lint_header({**GOOD, "language": "en"}) == []
    assert lint_header({**GOOD, "license": ["mit", "apache-2.0"]}) == []


def test_our_own_cards_have_none():
    assert lint_card(card(publish=Publish(language=("en",), license="cc-by-4.0"))) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"license": "not-a-license"}, "license: 'not-a-license'"),
        ({"license": "Apache-2.0"}, "license: 'Apache-2.0'"),
        ({"license": ["mit", 7]}, "license: 7"),
        ({"license": [["mit"]]}, "license: ['mit']"),
        ({"license": {"mit": 1}}, "license: {'mit': 1}"),
        ({"license": "other"}, "license_name: required"),
        ({"license": "other", "license_name": "x"}, "license_link: required"),
        ({"license": "other", "license_name": " ", "license_link": "y"}, "license_name: required"),
        ({"language": ["klingon"]}, "language: 'klingon'"),
        ({"language": ["EN"]}, "language: 'EN'"),
        ({"language": ["xx"]}, "language: 'xx'"),
        ({"language": [7]}, "language: 7"),
        ({"language": {"en": 1}}, "language: {'en': 1}"),
        ({"size_categories": "huge"}, "size_categories: 'huge' is not a list"),
        ({"size_categories": ["n>10M"]}, "size_categories: 'n>10M'"),
        ({"task_categories": ["nope"]}, "task_categories: 'nope'"),
        ({"tags": "preference"}, "tags: 'preference' is not a list"),
        ({"tags": [""]}, "tags: ''"),
        ({"tags": [None]}, "tags: None"),
        ({"pretty_name": 3}, "pretty_name: 3"),
        ({"pretty_name": " "}, "pretty_name: ' '"),
        ({"configs": {"a": 1}}, "configs: not a list"),
        ({"configs": [GOOD["configs"][0], GOOD["configs"][0]]}, "'default' occurs twice"),
        ({"configs": [{"config_name": n, "default": True} for n in "ab"]}, "more than one is the default"),
        ({"configs": [{"config_name": "a/b"}]}, "configs: 'a/b'"),
        ({"configs": [{"data_files": []}]}, "configs: None"),
        ({"configs": [{"config_name": "a", "data_files": [{"split": "a-b", "path": "x"}]}]}, "configs: 'a-b'"),
        ({"dataset_info": [{"config_name": "gone"}]}, "no configuration 'gone'"),
    ],
)
def test_a_problem_is_one_line_that_names_key_and_value(change, problem):
    problems = lint_header({**GOOD, **change})
    assert any(problem in line for line in problems), problems
    assert all("\n" not in line for line in problems)


@pytest.mark.parametrize("text", ["", "# no header", "---\na: [\n---\n", "---\n- a\n---\n", "---\nlicense: mit\n"])
def test_a_card_without_a_header_is_one_problem(text):
    assert len(lint_card(text)) == 1


def test_the_linter_finds_what_an_author_wrote_wrongly():
    assert lint_card(card(publish=Publish(license="mine"))) == ["license: 'mine' is not a licence id of the Hub"]
    assert header(card(publish=Publish(license="mine")))["license"] == "mine"
