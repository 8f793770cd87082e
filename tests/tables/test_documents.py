"""JSON documents: repeated keys are refused, and every difference of two values has its path."""

from __future__ import annotations

import json

import pytest

from prefdata.tables.documents import ABSENT, json_differences, parse_json


def test_a_repeated_key_is_refused_at_any_depth():
    with pytest.raises(ValueError, match="the key 'a' occurs twice in one object"):
        parse_json('[{"b": {"a": 1, "a": 1}}]')


def test_a_text_that_is_not_json_names_its_position():
    with pytest.raises(json.JSONDecodeError) as error:
        parse_json('{"a": 1')
    assert error.value.pos == 7


def test_each_difference_has_its_path_and_both_values():
    before = {"b": [1, {"c": True}], "a": "x", "d": None}
    after = {"b": [1, {"c": 1}, 2], "a": "x", "e": 1.0}
    assert list(json_differences(before, after)) == [
        ("b[1].c", True, 1),
        ("b[2]", ABSENT, 2),
        ("d", None, ABSENT),
        ("e", ABSENT, 1.0),
    ]


def test_numbers_of_different_types_differ_and_paths_start_with_the_given_one():
    assert list(json_differences({"a": 1}, {"a": 1.0}, "parts")) == [("parts.a", 1, 1.0)]


def test_keys_of_yaml_need_not_be_texts():
    assert list(json_differences({1: "a", "b": 1}, {1: "b", "b": 1})) == [("1", "a", "b")]
