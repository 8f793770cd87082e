"""`Auditor`: adds up the numbers of an audit, some prompts at a time, in any order.

Everything is counted in whole numbers (a correlation in billionths), so the result does not depend on how prompts are
cut into calls, or on the order of prompts and answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from prefdata.lazy import np, pl
from prefdata.records import SIDES
from prefdata.spec import JSON
from prefdata.tables.digest import NAMED_FROM, bare_digest_series, visible_marks
from prefdata.tables.reasoning import answers_of, reasoned_answers_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Auditor"]

_Ints: TypeAlias = "NDArray[np.int64]"
_Any: TypeAlias = "NDArray[Any]"
_Mask: TypeAlias = "NDArray[np.bool_] | None"
"""Which entries are present; None where all are."""

_BILLION = 1_000_000_000
_DIGITS = 4
_FEW_ANSWERS = 12
"""Up to this many answers of a prompt are compared each with each; sums of their products fit into 16 bits."""
_CORRELATED = {"length": "score_length", "index": "score_index", "place": "score_place"}


class Auditor:
    """Counts what `audit.json` reports; see `docs/audit.md` for the definitions.

    An answer counts when it has a text and a score, whatever else a rule requires.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._sources: dict[str, Counter[str]] = {side: Counter() for side in ("candidates", "chosen", "rejected")}

    def add(self, candidates: pl.DataFrame, pairs: pl.DataFrame) -> None:
        """Adds prompts with all their candidates and pairs; no prompt may come in two calls.

        Args:
            candidates: prompt_id, source, index, score (null when unscored), and either `response`, or `digest`,
                `answer`, `reasoned` and `characters` as facts have them (`prefdata.pairing.facts`), or both `length`
                (Unicode code points, null without a text) and `repeats` (the text is another answer's of the prompt,
                true for all but one of the same text). Optionally `place`: where a judge saw the answer. In any order.
            pairs: `source_`, `length_` and `n_tied_` of both sides, one row a pair; and of both, to compare the texts,
                either `response_`, or `at_`, by which `candidates` have their facts; then also `white_space_only`,
                unless the rule makes no such pairs.
        """
        answers = candidates if "repeats" in candidates.columns else _measured(candidates)
        scored = answers.filter(pl.col("score").is_not_null() & pl.col("length").is_not_null())
        self._counts["candidates"] += candidates.height
        self._counts["unscored"] += int(candidates["score"].null_count())
        self._counts["answers"] += scored.height
        self._counts["repeats"] += int(scored["repeats"].sum())
        sources = _Sources.of(scored["source"])
        if scored.height:
            if not scored["prompt_id"].is_sorted():
                scored = scored.sort("prompt_id")
                sources = _Sources.of(scored["source"])
            places = pl.when(pl.col("index").cast(pl.Int64) < NAMED_FROM).then("index")
            scored = scored.with_columns(index=places) if "index" in scored.columns else scored
            others = {name: scored[name] for name in _CORRELATED if name in scored.columns}
            self._measure(
                scored["prompt_id"].rle_id().to_numpy().astype(np.int64),
                scored["score"].to_numpy(),
                sources.codes,
                {
                    name: (column.fill_null(0).to_numpy(), column.is_not_null().to_numpy())
                    for name, column in others.items()
                },
            )
        self._count_sources("candidates", sources.codes, sources.names)
        self._count_pairs(
            (pairs["length_chosen"] - pairs["length_rejected"]).to_numpy(),
            {side: pairs[f"n_tied_{side}"].to_numpy() for side in SIDES},
        )
        if "at_chosen" in pairs.columns:
            self._compare_facts(candidates, pairs)
        elif "response_chosen" in pairs.columns:
            self._compare_texts([pairs[f"response_{side}"] for side in SIDES])
        for side in SIDES:
            sources = _Sources.of(pairs[f"source_{side}"])
            self._count_sources(side, sources.codes, sources.names)

    def result(self) -> dict[str, JSON]:
        """Returns `measures` (name → number, None where there is nothing to measure), `counts` and `sources`."""
        counts = self._counts
        sources = sorted(set().union(*self._sources.values()))
        totals = {side: counted.total() for side, counted in self._sources.items()}
        shares = {
            name: {side: _share(counted[name], totals[side]) for side, counted in self._sources.items()}
            for name in sources
        }
        measures = {
            "chosen_longer": _share(counts["chosen_longer"], counts["pairs"]),
            "length_difference": _share(counts["length_difference"], counts["pairs"]),
            **{f"{name}_correlation": self._mean_of(name) for name in _CORRELATED.values()},
            **{f"source_bias_{side}": self._source_bias(side) for side in SIDES},
            **{name: _share(counts[name], counts["pairs"]) for name in ("tied_chosen", "tied_rejected")},
            **{name: _share(counts[name], counts["contests"]) for name in ("tied_top", "tied_bottom", "all_tied")},
            "repeated_texts": _share(counts["repeats"], counts["answers"]),
            "unscored": _share(counts["unscored"], counts["candidates"]),
        }
        if counts["white_space_only"]:
            # Only rules that ask for them make such pairs; without one there is nothing to report.
            measures["white_space_only"] = _share(counts["white_space_only"], counts["pairs"])
        if counts["reasoned"]:
            # Where no answer has reasoning, an audit says nothing of it.
            measures["reasoning_on_one_side"] = _share(counts["reasoning_on_one_side"], counts["pairs"])
        reported = ("pairs", "candidates", "answers", "contests", *(f"{name}_groups" for name in _CORRELATED.values()))
        return {"measures": measures, "counts": {name: counts[name] for name in reported}, "sources": shares}

    def _measure(
        self, prompts: _Ints, scores: NDArray[np.float64], sources: _Ints, others: Mapping[str, tuple[_Any, _Mask]]
    ) -> None:
        """Adds prompts whose answers all have a text and a score; `prompts` is in non-decreasing order."""
        prompt_rows = _rows_by_size(prompts)
        prompt_ranks = [_centred_ranks(scores[some]) for some in prompt_rows]
        self._count_contests(prompt_ranks)
        for column, (values, present) in others.items():
            rows, ranks = prompt_rows, prompt_ranks
            if column == "index" or not (present is None or present.all()):
                # Each source numbers its answers from 0.
                groups = prompts * (int(sources.max()) + 2) + sources + 1 if column == "index" else prompts
                rows = _rows_by_size(groups, present)
                ranks = [_centred_ranks(scores[some]) for some in rows]
            self._correlate(_CORRELATED[column], rows, ranks, values)

    def _count_sources(self, side: str, codes: _Ints, names: Sequence[str]) -> None:
        counts = np.bincount(codes + 1, minlength=len(names) + 1).tolist()
        self._sources[side].update(
            {name: count for name, count in zip(names, counts[1:], strict=True) if count and name != "?"}
        )
        unnamed = counts[0] + sum(count for name, count in zip(names, counts[1:], strict=True) if name == "?")
        if unnamed:
            self._sources[side]["?"] += unnamed

    def _count_contests(self, ranks: Sequence[_Any]) -> None:
        """Counts prompts of several answers, and how many of their answers share the top or the bottom."""
        for rank in ranks:
            # Of n answers, k at the top have n - k below each and none above.
            others, highest, lowest = len(rank) - 1, rank.max(axis=0), rank.min(axis=0)
            self._counts["contests"] += rank.shape[1]
            self._counts["tied_top"] += int(np.count_nonzero(highest < others))
            self._counts["tied_bottom"] += int(np.count_nonzero(lowest > -others))
            self._counts["all_tied"] += int(np.count_nonzero(highest == 0))

    def _count_pairs(self, differences: _Ints, tied: Mapping[str, _Ints]) -> None:
        self._counts["pairs"] += len(differences)
        self._counts["chosen_longer"] += int((differences > 0).sum())
        self._counts["length_difference"] += int(differences.sum())
        for side in SIDES:
            self._counts[f"tied_{side}"] += int((tied[side] > 1).sum())

    def _compare_texts(self, texts: Sequence[pl.Series]) -> None:
        answers, reasoned = zip(*map(reasoned_answers_of, texts), strict=True)
        self._counts["white_space_only"] += _white_space_only(*answers)
        self._count_reasoning(*reasoned)

    def _compare_facts(self, candidates: pl.DataFrame, pairs: pl.DataFrame) -> None:
        if "white_space_only" in pairs.columns:
            self._counts["white_space_only"] += int(pairs["white_space_only"].sum())
        reasoned = candidates.filter("reasoned")["at"]
        self._count_reasoning(*(pairs[f"at_{side}"].is_in(reasoned.implode()) for side in SIDES))

    def _count_reasoning(self, chosen: pl.Series, rejected: pl.Series) -> None:
        """Counts pairs of which an answer has reasoning, and those of which one alone has."""
        self._counts["reasoned"] += int((chosen | rejected).sum())
        self._counts["reasoning_on_one_side"] += int((chosen ^ rejected).sum())

    def _correlate(self, name: str, groups: Sequence[_Ints], ranks: Sequence[_Any], others: _Any) -> None:
        """Adds Spearman's rank correlation (Pearson's of mean ranks) of each group where both vary.

        Args:
            name: name of the correlation.
            groups: see `_rows_by_size`.
            ranks: ranks of the scores of these rows.
            others: values that the scores are correlated with, by row.
        """
        for rows, rank_a in zip(groups, ranks, strict=True):
            rank_b = _centred_ranks(others[rows])
            cov, var_a, var_b = (
                np.add.reduce(product, axis=0, dtype=product.dtype)
                for product in (rank_a * rank_b, rank_a * rank_a, rank_b * rank_b)
            )
            vary = (var_a > 0) & (var_b > 0)
            norm = np.sqrt(var_a[vary].astype(float)) * np.sqrt(var_b[vary].astype(float))
            billionths = np.rint(cov[vary] / norm * _BILLION).astype(np.int64)
            self._counts[f"{name}_sum"] += int(billionths.sum())
            self._counts[f"{name}_groups"] += len(billionths)

    def _mean_of(self, name: str) -> float | None:
        return _share(self._counts[f"{name}_sum"], self._counts[f"{name}_groups"] * _BILLION)

    def _source_bias(self, side: str) -> float | None:
        """Computes the greatest distance between a source's share of a side and its share of all answers."""
        mine, every = self._sources[side], self._sources["candidates"]
        of_side, of_all = mine.total(), every.total()
        if not of_side or not of_all:
            return None
        # Over one denominator, so that only the last step rounds.
        distance = max(abs(mine[name] * of_all - every[name] * of_side) for name in {*mine, *every})
        return _share(distance, of_side * of_all)


class _Sources(NamedTuple):
    codes: _Ints
    names: list[str]

    @classmethod
    def of(cls, sources: pl.Series) -> _Sources:
        texts = sources.cast(pl.String).rename("source")
        names = texts.drop_nulls().unique(maintain_order=True)
        codes_of_names = pl.DataFrame({"source": names, "code": pl.int_range(len(names), eager=True)})
        codes = texts.to_frame().join(codes_of_names, on="source", how="left", maintain_order="left")["code"]
        return cls(codes.fill_null(-1).cast(pl.Int64).to_numpy(), names.to_list())


def _white_space_only(chosen: pl.Series, rejected: pl.Series) -> int:
    """Counts the answers that differ from those beside them in white space only, or in nothing."""
    sides = pl.DataFrame({"chosen": chosen, "rejected": rejected})
    alike = sides.filter(visible_marks(chosen) == visible_marks(rejected))
    return int((bare_digest_series(alike["chosen"]) == bare_digest_series(alike["rejected"])).sum())


def _measured(candidates: pl.DataFrame) -> pl.DataFrame:
    if "digest" in candidates.columns:
        usable, text, length = pl.col("digest").is_not_null(), "answer", pl.col("characters")
    else:
        candidates = candidates.with_columns(response=answers_of(candidates["response"]))
        usable, text = pl.col("response").is_not_null(), "response"
        length = pl.col("response").str.len_chars().cast(pl.Int64)
    return candidates.filter(usable & pl.col("score").is_not_null()).with_columns(
        length=length, repeats=~pl.struct("prompt_id", text).is_first_distinct()
    )


def _rows_by_size(groups: _Ints, present: _Mask = None) -> list[_Ints]:
    """Collects the rows of all groups of at least two rows, one array for each group size.

    An array has shape (size, number of groups of this size), so that all groups of one size are measured at once.

    Args:
        groups: group number of each row.
        present: mask of the rows that count; None where all do.
    """
    order = None if present is None or present.all() else np.flatnonzero(present)
    ordered = groups if order is None else groups[order]
    if (ordered[1:] < ordered[:-1]).any():
        order_of_rows = np.argsort(ordered, kind="stable")
        order, ordered = order_of_rows if order is None else order[order_of_rows], ordered[order_of_rows]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])
    sizes = np.diff(np.append(starts, len(ordered)))
    several = [size for size in np.flatnonzero(np.bincount(sizes)).tolist() if size > 1]
    rows = [np.add.outer(np.arange(size), starts[sizes == size]) for size in several]
    return rows if order is None else [order[some] for some in rows]


def _centred_ranks(values: _Any) -> _Any:
    """Computes twice the mean rank within each column, minus its mean: whole numbers that add up to 0.

    Equal values at positions s to e - 1 of n in order have the mean rank (s + 1 + e) / 2; the mean of all ranks is
    (n + 1) / 2. So each number is the count of lower values in its column minus the count of higher ones.
    """
    count = len(values)
    if count <= _FEW_ANSWERS:
        return _centred_ranks_of_few(values)
    order = np.argsort(values, axis=0)
    ordered = np.take_along_axis(values, order, axis=0)
    positions = np.arange(1, count)[:, None]
    new = ordered[1:] != ordered[:-1]
    ranks = np.full(values.shape, -count)
    ranks[1:] += np.maximum.accumulate(np.where(new, positions, 0), axis=0)
    ranks[-1] += count
    ranks[:-1] += np.minimum.accumulate(np.where(new, positions, count)[::-1], axis=0)[::-1]
    result = np.empty_like(ranks)
    np.put_along_axis(result, order, ranks, axis=0)
    return result


def _centred_ranks_of_few(values: _Any) -> NDArray[np.int16]:
    """Computes `_centred_ranks` by comparing each value with all others of its column."""
    result = np.zeros(values.shape, np.int16)
    for position, (value, rank) in enumerate(zip(values, result, strict=True)):
        for other, other_rank in zip(values[:position], result[:position], strict=True):
            sign = (value > other).view(np.int8) - (value < other).view(np.int8)
            rank += sign
            other_rank -= sign
    return result


def _share(part: int, whole: int) -> float | None:
    # Adding 0.0 turns -0.0 into 0.0.
    return round(part / whole, _DIGITS) + 0.0 if whole else None
