"""Hypothesis strategies: small tables of scored answers, full of what makes pair rules go wrong, and all rules."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import polars as pl
from hypothesis import strategies as st

from prefdata.pairing import (
    DNO,
    GPO,
    SPPO,
    BelowChosen,
    BelowChosenBySource,
    BestVsWorst,
    ByComparisons,
    CustomRule,
    FinishReason,
    First,
    FromSource,
    Highest,
    LengthRatio,
    Longest,
    Lowest,
    MarginLabel,
    NearestLength,
    NotFromSource,
    NotIdentical,
    PairRule,
    Quantile,
    Random,
    Repetition,
    ScoreAtLeast,
    ScoreAtMost,
    Selection,
    Shortest,
    SnorkelPairRM,
    TopKVsBottomK,
    UltraFeedbackBinarized,
    WPOHybridV1,
    WPOHybridV2,
)
from prefdata.pairing.algebra import Key

Row = dict[str, Any]

SCHEMA = {
    "prompt_id": pl.String,
    "source": pl.String,
    "index": pl.Int64,
    "response": pl.String,
    "score": pl.Float64,
    "model": pl.String,
    "finish_reason": pl.String,
    "unscored": pl.String,
}
OPTIONAL = ("model", "finish_reason", "unscored")
FINISH_REASONS = ("stop", "stop", "stop", "end_turn", "unknown", None, "length", "MAX_TOKENS", "SAFETY", "odd")

BLANKS = ("", " ", "\n\t", "\u3000", "\x1c", "\x1f", "\x85", "\xa0", "\u2028", " \u3000\x1c ")
TEXTS = (
    *("a", "b", "ab", "ba", "abc", "a b", "a  b ", " a", "a b c d"),
    *("\u200b", "\ufeff", "\u180e", "\u2060", " \u200b", "\x00"),  # look blank, but are no white space
    *("\u00e9", "e\u0301", "o\u0308\u0323", "\u1112\u1161\u11ab", "\ud55c"),  # composed and combining
    *("漢字", "かな", "שלום", "नमस्ते", "a\u3000b", "a\x1cb\x85c\xa0d"),
    *("👩\u200d👩\u200d👧", "👍🏽", "𝔘𝔫", "\uffff"),
)
REPEATING = ("a b a b", "aaaa", "a a\u3000a b", "漢漢漢字", "a b a b a")
SOURCES = ("policy", "teacher", "Zephyr", "a", "", "é", "😀", "\uffff", None)
PROMPT_IDS = ("p1", "p10", "p2", "é", "😀", "\uffff", "", "Z")

texts = st.one_of(
    st.sampled_from(TEXTS),
    st.sampled_from(TEXTS),
    st.sampled_from((*BLANKS, None, *REPEATING)),
    st.text(st.characters(codec="utf-8"), max_size=4),
)
scores = st.one_of(
    st.sampled_from((1.0, 2.0, 5.0)),
    st.sampled_from((0.0, -0.0, 3.0, 4.0, 6.0, 4.5, -1.0, 0.1, 0.3, 0.1 + 0.2, None, None)),
    st.floats(-1e9, 1e9, allow_nan=False),
)


@st.composite
def rows(draw: st.DrawFn, score: st.SearchStrategy[float | None] = scores) -> list[Row]:
    """Candidates of up to four prompts; (source, index) may repeat, and so may whole rows."""
    table: list[Row] = []
    for prompt_id in draw(st.lists(st.sampled_from(PROMPT_IDS), max_size=4, unique=True)):
        sources = draw(st.lists(st.sampled_from(SOURCES), min_size=1, max_size=3))
        for _ in range(draw(st.sampled_from((1, 2, 3, 4, 5, 6)))):
            source = draw(st.sampled_from(sources))
            index = draw(st.sampled_from((0, 1, 2, 10, None)))
            table.append(
                {
                    "prompt_id": prompt_id,
                    "source": source,
                    "index": index,
                    "response": draw(texts),
                    "score": draw(score),
                    "model": None if source is None else f"model of {source}",
                    "finish_reason": draw(st.sampled_from(FINISH_REASONS)),
                    "unscored": draw(st.sampled_from((None, "unparsed", "missing"))),
                }
            )
    if draw(st.booleans()) and table:
        table.append(dict(draw(st.sampled_from(table))))
    return consistent(table)


def consistent(table: list[Row]) -> list[Row]:
    """The same table, where rows of equal place in the total order are equal altogether."""
    firsts: dict[tuple[Any, ...], Row] = {}
    order = ("prompt_id", "source", "index", "response", "score")
    return [dict(firsts.setdefault(tuple(row[name] for name in order), row)) for row in table]


def frame(table: list[Row], without: tuple[str, ...] = ()) -> pl.DataFrame:
    return pl.DataFrame(table, schema=SCHEMA, orient="row").drop(without)


def many_prompts(seed: str, n_prompts: int) -> list[Row]:
    """Prompts with 1 to 8 answers, few scores, few texts and shuffled rows: thousands of cases in one call."""
    dice = random.Random(seed)
    table: list[Row] = []
    for number in range(n_prompts):
        own_texts = dice.sample((*TEXTS, *BLANKS, None), dice.choice((1, 4, 6)))
        own_scores = dice.sample((1.0, 2.0, 3.0, 5.0, 6.0, 4.5, None), dice.choice((2, 3, 4)))
        for _ in range(dice.randint(1, 8)):
            source = dice.choice(SOURCES)
            table.append(
                {
                    "prompt_id": f"prompt {number}",
                    "source": source,
                    "index": dice.choice((0, 1, 2, 10, None)),
                    "response": dice.choice(own_texts),
                    "score": dice.choice(own_scores),
                    "model": None if source is None else f"model of {source}",
                    "finish_reason": dice.choice(FINISH_REASONS),
                    "unscored": dice.choice((None, "unparsed")),
                }
            )
    dice.shuffle(table)
    return consistent(table)


# ------------------------------------------------------------------------------------------------------------ rules

shared: dict[str, st.SearchStrategy[Any]] = {
    "length": st.sampled_from(("characters", "words", "bytes")),
    "admit": st.sampled_from(((), ("blank",), ("cut_off",), ("blank", "failed"), ("cut_off", "unknown_finish_reason"))),
    "identical": st.sampled_from(("white_space", "white_space", "exact")),
    "label": st.sampled_from((None, None, None, MarginLabel(), MarginLabel(temperature=0.25))),
}
seeds = st.sampled_from((0, 1, 2, -3, 2**40))
thresholds = st.sampled_from((5.0, 5.0, 2.0, -1.0, 0.0, 4.5))
margins = st.sampled_from((1.0, 0.0, 0.5, 2.0, 0.1))

plain_keys = st.one_of(st.builds(Highest), st.builds(Lowest), st.builds(Shortest), st.builds(Longest), st.builds(First))
names = st.lists(st.sampled_from([name for name in SOURCES if name is not None]), min_size=1, max_size=3).map(tuple)
bounds = st.sampled_from(((0.5, None), (None, 0.5), (0.25, 0.75), (1.0, 2.0), (None, 1.0), (1.0, None), (0.0, 0.0)))


def shares(bound: tuple[float | None, float | None]) -> Quantile:
    return Quantile(at_least=bound[0], at_most=min(bound[1], 1.0) if bound[1] is not None else None)


plain_filters = st.one_of(
    st.builds(ScoreAtLeast, value=thresholds),
    st.builds(ScoreAtMost, value=thresholds),
    st.builds(FromSource, sources=names),
    st.builds(NotFromSource, sources=names),
    st.builds(
        FinishReason, reasons=st.sampled_from((("stop",), ("unknown",), ("length", "stop"), ("stop", "unknown")))
    ),
    bounds.map(shares),
)
any_filter = st.one_of(
    plain_filters,
    st.builds(BelowChosen, margin=margins),
    st.builds(BelowChosenBySource, sources=names, margin=margins, margin_of_others=margins),
    st.builds(NotIdentical, how=st.sampled_from(("exact", "white_space"))),
    bounds.map(lambda bound: LengthRatio(at_least=bound[0], at_most=bound[1])),
)
any_key = st.one_of(plain_keys, st.builds(Random, seed=seeds))


@st.composite
def keys(draw: st.DrawFn, first: st.SearchStrategy[Key], later: st.SearchStrategy[Key]) -> tuple[Key, ...]:
    return (draw(first), *draw(st.lists(later, max_size=2)))


chosen_selections = st.builds(
    Selection,
    among=st.lists(plain_filters, max_size=2).map(tuple),
    by=keys(any_key, plain_keys),
)
rejected_selections = st.builds(
    Selection,
    among=st.lists(any_filter, max_size=2).map(tuple),
    by=keys(st.one_of(any_key, st.builds(NearestLength)), st.one_of(plain_keys, st.builds(NearestLength))),
)

RULES: dict[str, st.SearchStrategy[PairRule]] = {
    "wpo_hybrid_v2": st.builds(WPOHybridV2, **shared),
    "wpo_hybrid_v1": st.builds(WPOHybridV1, **shared, threshold=thresholds, margin=margins, seed=seeds),
    "best_vs_worst": st.builds(BestVsWorst, **shared),
    "snorkel_pairrm": st.builds(SnorkelPairRM, **shared),
    "ultrafeedback_binarized": st.builds(UltraFeedbackBinarized, **shared, seed=seeds),
    "sppo": st.builds(SPPO, **shared, self_term=st.booleans()),
    "gpo": st.builds(GPO, **shared, doubled=st.booleans()),
    "top_k_vs_bottom_k": st.builds(TopKVsBottomK, **shared, k=st.sampled_from((1, 2, 3)), matched=st.booleans()),
    "dno": st.builds(
        DNO,
        **shared,
        teacher=st.one_of(st.just(()), names),
        threshold=thresholds,
        margin_teacher=margins,
        margin_student=margins,
        repetition=st.one_of(
            st.none(),
            st.builds(
                Repetition,
                n=st.sampled_from((1, 2)),
                share=st.sampled_from((0.25, 0.5, 0.01)),
                unit=st.sampled_from(("words", "characters")),
                score=st.sampled_from((-2.0, -7.5)),
            ),
        ),
    ),
    "custom": st.builds(
        CustomRule,
        **shared,
        chosen=chosen_selections,
        rejected=rejected_selections,
        n_chosen=st.sampled_from((1, 1, 2, "all")),
        n_rejected=st.sampled_from((1, 1, 3, "all")),
    ),
}
any_rule = st.one_of(*RULES.values())

DEFAULTS: dict[str, Callable[[], PairRule]] = {
    "wpo_hybrid_v2": WPOHybridV2,
    "wpo_hybrid_v1": WPOHybridV1,
    "best_vs_worst": BestVsWorst,
    "snorkel_pairrm": SnorkelPairRM,
    "ultrafeedback_binarized": UltraFeedbackBinarized,
    "sppo": SPPO,
    "gpo": GPO,
    "top_k_vs_bottom_k": TopKVsBottomK,
    "by_comparisons": lambda: ByComparisons(ranking="win_rate"),
    "dno": lambda: DNO(teacher=("teacher",)),
    "custom": lambda: CustomRule(
        chosen=Selection(among=(ScoreAtLeast(value=3),), by=(Longest(), Highest())),
        rejected=Selection(among=(BelowChosen(margin=2),), by=(NearestLength(), Shortest())),
    ),
}
