"""`BaselineScorer`: what it must and must not prefer, and the form of what it says."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.records import Answers, Candidate, Message, Prompt, Scored
from prefdata.scoring import BaselineScorer
from prefdata.scoring._surface import Question, features
from prefdata.scoring.baseline import BLANK, WEIGHTS
from prefdata.spec import Context

QUESTION = "Why do leaves change colour in autumn? Explain the chemistry to a curious teenager."
GOOD = (
    "Leaves look green in summer because they are full of chlorophyll, the pigment that catches sunlight. When autumn "
    "days grow shorter and colder, a tree stops making chlorophyll and takes what is left apart. The yellow and orange "
    "carotenoids that were hidden all along now show. Some trees also make red anthocyanins from sugar that is trapped "
    "in the leaf. So the colour does not arrive from nowhere: the chemistry of the leaf simply stops hiding it."
)
GERMAN = (
    "Die Blätter werden im Herbst bunt, weil der Baum das Chlorophyll abbaut. Es ist nicht so einfach, aber die gelben "
    "und die roten Farbstoffe sind auch vorher da, und mit dem kurzen Tag werden sie sichtbar."
)


def scored(*texts: str, question: str = QUESTION, part: BaselineScorer | None = None, **of_first: str) -> Scored:
    candidates = [Candidate("p", "policy", place, text) for place, text in enumerate(texts)]
    candidates[0] = replace(candidates[0], **of_first)
    answers = Answers(Prompt("p", (Message(role="user", content=question),)), tuple(candidates))
    (found,) = (part or BaselineScorer()).score([answers], Context(seed=1))
    return found


def values(*texts: str, **options: str) -> list[float]:
    found = [score.score for score in scored(*texts, **options).scores]
    assert None not in found
    return [value for value in found if value is not None]


@pytest.mark.parametrize(
    ("name", "worse"),
    [
        ("blank", "  \n\t "),
        ("too short", "Because of chlorophyll."),
        ("a loop of sentences", "Leaves change colour in autumn because of the chemistry. " * 12),
        ("a loop without spaces", "叶" * 600),
        ("cut in the middle", GOOD[: GOOD.index("trapped")]),
        ("an open code block", GOOD + "\n\n```\nleaf()"),
        ("a copy of the question", " ".join([QUESTION] * 4)),
        ("a refusal", "I'm sorry, but as an AI language model I cannot help with that. " + GOOD[:150] + "."),
        ("another speaker", GOOD + "\n\nUser: thanks!\nAssistant: You are welcome."),
        ("written control tokens", GOOD + "<|im_end|>"),
        ("another language", GERMAN),
        ("another script", "Осенью дерево перестаёт вырабатывать хлорофилл, и становятся видны жёлтые пигменты. " * 2),
    ],
)  # fmt: skip
def test_a_good_answer_beats_one_that_is(name: str, worse: str) -> None:
    good, bad = values(GOOD, worse)
    assert good > bad + 0.2, name


def test_on_topic_beats_off_topic_of_the_same_form() -> None:
    other = GOOD.translate(str.maketrans("aeioulcdnt", "eioualrstn"))
    good, bad = values(GOOD, other)
    assert good > bad


def test_a_source_that_says_cut_off_counts_more_than_a_missing_full_stop() -> None:
    (told,) = values(GOOD, finish_reason="length")
    (whole,), (open_end,) = values(GOOD), values(GOOD.removesuffix("."))
    assert whole - told == pytest.approx(-WEIGHTS["cut_off"], abs=1e-6)
    assert whole - open_end == pytest.approx(-WEIGHTS["cut_off"] / 2, abs=1e-6)


def test_length_saturates_and_rambling_costs() -> None:
    draw = random.Random(1)
    vocabulary = ["".join(draw.choices("abcdefghijklmnop", k=6)) for _ in range(4000)]
    texts = [" ".join(draw.choices(vocabulary, k=size)) + "." for size in (20, 100, 600, 900, 3200)]
    found = values(*texts)
    assert found[0] < found[1] < found[2]
    assert found[2] - found[1] < found[1] - found[0]
    assert found[4] < found[3] <= found[2] + 0.1


def test_an_answer_in_the_language_of_a_question_is_not_punished() -> None:
    german = (
        "Warum werden die Blätter im Herbst bunt? Erkläre es mir bitte so, dass ich es verstehe und nicht vergesse."
    )
    question = Question.of([german])
    assert features(question, GERMAN)["other_language"] == 0
    assert features(question, GOOD)["other_language"] == 1
    japanese = Question.of(["秋に葉の色が変わるのはなぜですか"])
    assert features(japanese, "クロロフィルが分解されるからです。")["other_language"] == 0
    assert features(japanese, GOOD)["other_language"] == 1


def test_the_same_text_has_the_same_score_and_no_score_is_zero_for_nothing() -> None:
    first, second, third = values(GOOD, "", GOOD)
    assert first == third
    assert second == BLANK


@pytest.mark.parametrize(
    ("name", "none", "some", "all_of_it"),
    [
        ("looping", GOOD, GOOD + GOOD[:250], "never again" * 200),
        ("repetition", GOOD, GOOD + GOOD[:150], "one two three " * 30),
        ("copied", GOOD, GOOD + QUESTION, QUESTION),
        ("rambling", GOOD, "word " * 2000, "word " * 3200),
        ("structure", GOOD, "1. one\n2. two\n- three", "# head\n" + "* point\n" * 5),
        ("on_topic", "Yes.", "Chemistry. Yes.", "Leaves change colour, as chemistry explains in autumn."),
        ("refusal", GOOD, GOOD + " I cannot help you with more.", "I'm unable to provide that."),
        ("cut_off", GOOD, GOOD + " And then", None),
        ("open_fence", "```\na\n```", None, "```\na"),
        ("plays_on", GOOD, None, "Human: and then?"),
    ],
)
def test_a_feature_goes_from_0_to_1(name: str, none: str, some: str | None, all_of_it: str | None) -> None:
    question = Question.of([QUESTION])
    assert features(question, none)[name] == 0
    if some is not None:
        assert 0 < features(question, some)[name] < 1
    if all_of_it is not None:
        assert features(question, all_of_it)[name] == 1


def test_features_and_weights_have_the_same_names() -> None:
    assert features(Question.of([QUESTION]), GOOD).keys() == WEIGHTS.keys()


def test_comparisons_are_the_differences_of_scores() -> None:
    part = BaselineScorer(comparisons=True)
    found = scored(GOOD, "", "Because.", part=part)
    assert part.compares == "log_odds"
    assert BaselineScorer().compares == ""
    score = {one.index: one.score for one in found.scores}
    assert [(one.index_a, one.index_b) for one in found.comparisons] == [(0, 1), (0, 2), (1, 2)]
    for one in found.comparisons:
        difference = score[one.index_a] - score[one.index_b]
        assert one.log_odds == pytest.approx(difference, abs=1e-6)
        assert one.probability == pytest.approx(1 / (1 + math.exp(-difference)), abs=1e-6)
        assert (one.source_a, one.source_b, one.undecided) == ("policy", "policy", None)
    assert scored(GOOD, "").comparisons == ()
    assert scored(GOOD, part=part).comparisons == ()


def test_prompts_without_answers_and_prompts_of_many_turns_come_through() -> None:
    turns = (
        Message(role="system", content="Be brief."),
        Message(role="user", content="Hello"),
        Message(role="assistant", content="Hello!"),
        Message(role="user", content=QUESTION),
    )
    given = [
        Answers(Prompt("none", turns), ()),
        Answers(Prompt("one", turns), (Candidate("one", "policy", 0, GOOD),)),
    ]
    found = list(BaselineScorer().score(given, Context(seed=1)))
    assert [one.prompt_id for one in found] == ["none", "one"]
    assert [len(one.scores) for one in found] == [0, 1]


@given(question=st.text(), answer=st.text())
def test_any_text_has_a_bounded_score(question: str, answer: str) -> None:
    (found,) = values(answer, question=question)
    assert BLANK <= found < sum(weight for weight in WEIGHTS.values() if weight > 0) + 1e-6
    assert (found == BLANK) == (not answer.strip())
    for value in features(Question.of([question]), answer).values():
        assert 0 <= value <= 1


def test_the_worst_of_texts_is_still_better_than_a_blank_one() -> None:
    assert sum(weight for weight in WEIGHTS.values() if weight < 0) > BLANK + 0.5
