"""Facts: one narrow row a candidate, which is all that a pair rule decides on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefdata.errors import InputError, closest
from prefdata.lazy import pl
from prefdata.records import MOST_SCORE
from prefdata.tables.cells import BLANK
from prefdata.tables.digest import bare_digest_series, digest_series, visible_bytes
from prefdata.tables.finish_reasons import Ending, ending_of
from prefdata.tables.reasoning import reasoned_answers_of

if TYPE_CHECKING:
    from prefdata.pairing._rule import Rule

__all__ = ["ENDINGS", "FACTS", "facts_of", "unsigned_zero"]

FACTS = (
    *("prompt_id", "source", "index", "digest", "answer", "reasoned", "bare", "score", "unscored", "model"),
    *("finish_reason", "length", "characters", "n_bytes", "unfit"),
)
"""The columns of facts. `digest` hashes the text (64 bits), `n_bytes` is its size, and `reasoned` says whether it has
reasoning. Of the answer in it, which is the text without its reasoning, are `answer` (a hash), `bare` (equal for
candidates of a prompt that differ in white space only), `length` (in the rule's unit) and `characters` (code points).
`unfit` says why the candidate can't be picked whatever its score. Facts may also have `response` (the text) and `at` (a
number that says where the row is)."""
_GIVEN = ("prompt_id", "source", "index", "response", "score")
_OPTIONAL = ("unscored", "model", "finish_reason")


def facts_of(rule: Rule, candidates: pl.DataFrame, *, whole: bool = True) -> pl.DataFrame:
    """Measures the texts of candidates, once.

    Args:
        rule: says in which unit answers are measured, and which flawed ones it admits.
        candidates: see `PairRule.pair`; further columns are kept. `digest` is taken as it is, where the reader of a
            table has computed it.
        whole: whether all candidates of a prompt are given.

    Returns:
        The candidates with the columns `FACTS`, in the order given.

    Raises:
        InputError: a column is missing, a `prompt_id` is null, or a score is not a number, or is NaN or infinite.
    """
    _check(candidates)
    absent = [pl.lit(None, pl.String).alias(name) for name in _OPTIONAL if name not in candidates.columns]
    frame = candidates.with_columns(*absent, score=unsigned_zero(pl.col("score").cast(pl.Float64)))
    texts = frame["response"]
    if "digest" not in frame.columns:
        frame = frame.with_columns(digest=digest_series(texts))
    answers, reasoned = reasoned_answers_of(texts)
    answer_digests = frame["digest"] if answers is texts else digest_series(answers)
    frame = frame.with_columns(answer=answer_digests, reasoned=reasoned)
    frame = frame.with_columns(bare=_bare(frame, answers) if whole else bare_digest_series(answers))
    frame = rule.rescored(frame.with_columns(response=answers))
    answer = pl.col("response")
    size, characters = (kind.cast(pl.Int64) for kind in (answer.str.len_bytes(), answer.str.len_chars()))
    words = answer.str.count_matches(r"[^\s\x1c-\x1f]+").cast(pl.Int64)
    return frame.with_columns(
        characters=characters,
        length={"characters": characters, "bytes": size, "words": words}[rule.length],
        n_bytes=texts.str.len_bytes().cast(pl.Int64),
        unfit=_unfit(rule, frame["finish_reason"].cast(pl.String)),
    ).with_columns(response=texts)


def _bare(frame: pl.DataFrame, answers: pl.Series) -> pl.Series:
    """Hashes answers without white space where others of the prompt may be equal to them; gives `answer` elsewhere."""
    kinds = frame.select("prompt_id", "answer", visible=visible_bytes(answers))
    alike = kinds.select(pl.col("answer").n_unique().over("prompt_id", "visible") > 1)["answer"]
    if not alike.any():
        return frame["answer"]
    others = pl.repeat(None, len(answers), dtype=pl.UInt64, eager=True)
    return frame["answer"].zip_with(~alike, others.scatter(alike.arg_true(), bare_digest_series(answers.filter(alike))))


def unsigned_zero(score: pl.Expr) -> pl.Expr:
    """Gives 0.0 for -0.0: the two are equal, so which of two tied rows wins would show in the bytes."""
    return pl.when(score == 0).then(0.0).otherwise(score)


ENDINGS: dict[Ending, str] = {"cut_off": "cut_off", "failed": "failed", "unknown": "unknown_finish_reason"}
"""How an answer ended → why it is not eligible, and what `admit` calls it."""


def _unfit(rule: Rule, finish_reasons: pl.Series) -> pl.Expr:
    text = pl.col("response")
    marked, empty = pl.col("answer") != pl.col("digest"), text.str.contains(BLANK)
    flaws = {"only_reasoning": marked & empty, "blank": ~marked & empty}
    ended = {word: ending_of(word) for word in finish_reasons.unique().drop_nulls()}
    for ending, flaw in ENDINGS.items():
        if words := [word for word, found in ended.items() if found == ending]:
            flaws[flaw] = pl.col("finish_reason").is_in(words)
    unfit: pl.Expr = pl.lit(None, pl.String)
    # The first that holds is the reason.
    for flaw, holds in reversed(flaws.items()):
        if flaw not in rule.admit:
            unfit = pl.when(holds).then(pl.lit(flaw)).otherwise(unfit)
    return pl.when(text.is_null()).then(pl.lit("missing_response")).otherwise(unfit)


def _check(candidates: pl.DataFrame) -> None:
    """Refuses a frame whose rows would be lost or misread further on."""
    if missing := [name for name in _GIVEN if name not in candidates.columns]:
        raise InputError(f"the candidates have no column {missing[0]!r}", valid=closest(missing[0], candidates.columns))
    scores = candidates["score"]
    if not (scores.dtype.is_numeric() or scores.dtype == pl.Null):
        raise InputError(
            f"the column 'score' is of type {scores.dtype}",
            valid="numbers, and null for unscored",
            hint="`prefdata.tables.cells.parse_score` reads texts",
        )
    if candidates["prompt_id"].null_count():
        raise InputError(f"{candidates['prompt_id'].null_count()} candidates have no prompt_id")
    unusable = ~scores.cast(pl.Float64).is_between(-MOST_SCORE, MOST_SCORE).fill_null(value=True)
    if unusable.any():
        rows = candidates.filter(unusable)
        raise InputError(
            f"{rows.height} candidates have a score that is no such number as a score can be, the first of prompt "
            f"{rows['prompt_id'][0]!r}",
            valid=f"numbers from {-MOST_SCORE:g} to {MOST_SCORE:g}, and null for unscored",
            hint="turn such scores into null with a reason in `unscored`",
        )
