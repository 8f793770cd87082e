"""Facts: one narrow row a candidate, which is all that a pair rule decides on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefdata.errors import InputError, closest
from prefdata.lazy import pl
from prefdata.records import MOST_SCORE
from prefdata.tables.cells import BLANK
from prefdata.tables.digest import MEASURES, bare_digest_series, digest_series, visible_marks
from prefdata.tables.finish_reasons import Ending, ending_of
from prefdata.tables.reasoning import reasoned_answers_of

if TYPE_CHECKING:
    from prefdata.pairing._rule import Rule

__all__ = ["ENDINGS", "FACTS", "SUMS", "alike", "bare_of_marks", "facts_of", "unsigned_zero"]

FACTS = (
    *("prompt_id", "source", "index", "digest", "answer", "reasoned", "bare", "score", "unscored", "model"),
    *("finish_reason", "length", "characters", "n_bytes", "unfit"),
)
"""The columns of facts. `digest` hashes the text (64 bits), `n_bytes` is its size, and `reasoned` says whether it has
reasoning. Of the answer in it, which is the text without its reasoning, are `answer` (a hash), `bare` (equal for
candidates of a prompt that differ in white space only), `length` (in the rule's unit) and `characters` (code points).
`unfit` says why the candidate can't be picked whatever its score. Facts may also have `response` (the text) and `at` (a
number that says where the row is)."""
SUMS = 4
"""Sums of a mark that few answers of a prompt share by chance."""
_GIVEN = ("prompt_id", "source", "index", "response", "score")
_OPTIONAL = ("unscored", "model", "finish_reason")


def facts_of(rule: Rule, candidates: pl.DataFrame, *, whole: bool = True) -> pl.DataFrame:
    """Measures the texts of candidates, once.

    Args:
        rule: says in which unit answers are measured, and which flawed ones it admits.
        candidates: see `PairRule.pair`; further columns are kept. `MEASURES` are taken as they are, where the reader
            of a table has computed them.
        whole: whether all candidates of a prompt are given. If not, `bare` is a mark (`visible_marks`, with `SUMS`)
            until all of them are there: see `bare_of_marks`.

    Returns:
        The candidates with the columns `FACTS`, in the order given.

    Raises:
        InputError: a column is missing, a `prompt_id` is null, or a score is not a number, or is NaN or infinite.
    """
    _check(candidates)
    texts = candidates["response"]
    answers, reasoned = reasoned_answers_of(texts)
    given, apart = {*MEASURES} <= {*candidates.columns}, answers is not texts
    digest = candidates["digest"] if given else digest_series(texts)
    frame = candidates.with_columns(
        *(pl.lit(None, pl.String).alias(name) for name in _OPTIONAL if name not in candidates.columns),
        score=unsigned_zero(pl.col("score").cast(pl.Float64)),
        response=answers,
        digest=digest,
        answer=digest_series(answers) if apart else digest,
        visible=visible_marks(answers, 1 if whole else SUMS) if apart or not given else candidates["visible"],
        reasoned=reasoned,
    )
    frame = rule.rescored(frame.with_columns(bare=_bare(frame) if whole else frame["visible"].cast(pl.UInt64)))
    answer = pl.col("response")
    size, characters = (kind.cast(pl.Int64) for kind in (answer.str.len_bytes(), answer.str.len_chars()))
    words = answer.str.count_matches(r"[^\s\x1c-\x1f]+").cast(pl.Int64)
    return frame.with_columns(
        characters=characters,
        length={"characters": characters, "bytes": size, "words": words}[rule.length],
        n_bytes=texts.str.len_bytes().cast(pl.Int64),
        unfit=_unfit(rule, frame),
        response=texts,
    )


def _bare(frame: pl.DataFrame) -> pl.Series:
    """Hashes answers without white space where others of the prompt may be equal to them; gives `answer` elsewhere."""
    same = frame.select((pl.col("prompt_id").hash() ^ pl.col("visible").hash()).is_duplicated()).to_series()
    if not same.any():
        return frame["answer"]
    return _put(frame["answer"], same, bare_digest_series(frame["response"].filter(same)))


def bare_of_marks(facts: pl.DataFrame, same_text: pl.DataFrame) -> pl.DataFrame:
    """Gives facts whose `bare` is a mark what `bare` is to be.

    Args:
        facts: of all candidates of their prompts, with `at`.
        same_text: `at` and `bare` of those that `alike` finds among them, hashed without white space.
    """
    return (
        facts.drop("bare")
        .join(same_text, on="at", how="left", maintain_order="left")
        .with_columns(pl.coalesce("bare", "answer"))
        .select(facts.columns)
    )


def alike(facts: pl.DataFrame) -> pl.DataFrame:
    """Finds the candidates that may differ from another one of their prompt in white space only.

    Args:
        facts: of all candidates of their prompts, with `key`, the same for those of a prompt; `bare` is a mark.
    """
    kinds = facts.select("key", "bare", "answer").drop_nulls().unique()
    several = kinds.filter(pl.struct("key", "bare").is_duplicated())
    return facts.join(several, on=("key", "bare"), how="semi")


def _put(values: pl.Series, mask: pl.Series, others: pl.Series) -> pl.Series:
    """Gives the values, with others in place of those that the mask names."""
    # Polars scatters in place, so never into the caller's column.
    places = pl.repeat(None, len(values), dtype=values.dtype, eager=True)
    return values.zip_with(~mask, places.scatter(mask.arg_true(), others))


def unsigned_zero(score: pl.Expr) -> pl.Expr:
    """Gives 0.0 for -0.0: the two are equal, so which of two tied rows wins would show in the bytes."""
    return pl.when(score == 0).then(0.0).otherwise(score)


ENDINGS: dict[Ending, str] = {"cut_off": "cut_off", "failed": "failed", "unknown": "unknown_finish_reason"}
"""How an answer ended → why it is not eligible, and what `admit` calls it."""


def _unfit(rule: Rule, frame: pl.DataFrame) -> pl.Expr:
    marked, empty = pl.col("answer") != pl.col("digest"), pl.lit(_blank(frame["response"], frame["visible"]))
    flaws = {"only_reasoning": marked & empty, "blank": ~marked & empty}
    ended = {word: ending_of(word) for word in frame["finish_reason"].cast(pl.String).unique().drop_nulls()}
    for ending, flaw in ENDINGS.items():
        if words := [word for word, found in ended.items() if found == ending]:
            flaws[flaw] = pl.col("finish_reason").is_in(words)
    unfit: pl.Expr = pl.lit(None, pl.String)
    # The first that holds is the reason.
    for flaw, holds in reversed(flaws.items()):
        if flaw not in rule.admit:
            unfit = pl.when(holds).then(pl.lit(flaw)).otherwise(unfit)
    return pl.when(pl.col("response").is_null()).then(pl.lit("missing_response")).otherwise(unfit)


def _blank(answers: pl.Series, visible: pl.Series) -> pl.Series:
    """Finds answers that are nothing but white space."""
    # Only those without a visible byte can be blank.
    blank = visible.fill_null(0) == 0
    return _put(blank, blank, answers.filter(blank).str.contains(BLANK)) if blank.any() else blank


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
