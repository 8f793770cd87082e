"""What every pair rule must give, in plain Python: lists, dicts, `min` and `max`, one function for each rule.

Written from the published descriptions and the contract of `PairRule`, not from its code. Slow and obvious on
purpose. A candidate is a dict with `prompt_id`, `source`, `index`, `response`, `score` and, where the table has them,
`model`, `finish_reason` and `unscored`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import xxhash

from prefdata.spec import derive_seed

Row = dict[str, Any]
Options = dict[str, Any]
KeyFunction = Callable[[Row, list[Row]], float]


class Expected(NamedTuple):
    pairs: list[Row]
    drops: list[Row]
    ineligible: list[Row]


class Picked(NamedTuple):
    row: Row
    n_tied: int
    decided: str


class NoPairError(Exception):
    """A prompt gives no pair; the message is the reason."""


# ---------------------------------------------------------------------------------------------- what all rules share


def is_blank(text: str) -> bool:
    return all(character.isspace() for character in text)


def length_of(text: str, unit: str) -> int:
    if unit == "words":
        starts = [not character.isspace() and (at == 0 or text[at - 1].isspace()) for at, character in enumerate(text)]
        return sum(starts)
    if unit == "bytes":
        return len(text.encode("utf-8"))
    return len(text)


REASONS = ("missing_response", "blank", "unscored", "cut_off", "failed", "unknown_finish_reason")
ENDINGS = {"length": "cut_off", "MAX_TOKENS": "cut_off", "SAFETY": "failed", "odd": "unknown_finish_reason"}


def why_ineligible(row: Row, admit: Sequence[str]) -> str | None:
    if row["response"] is None:
        return "missing_response"
    if is_blank(row["response"]) and "blank" not in admit:
        return "blank"
    if row["score"] is None:
        return "unscored"
    ending = ENDINGS.get(row.get("finish_reason") or "")
    return None if ending in admit else ending


def place(row: Row) -> tuple[Any, ...]:
    """The total order: source, index, digest of the text, ascending, nulls first; then the score, for repeated rows."""
    source, index, text = row["source"], row["index"], row["response"]
    digest = -1 if text is None else xxhash.xxh3_64_intdigest(text.encode())
    return (source is not None, source or "", index is not None, index or 0, digest, row["score"] or 0.0)


def pick(pool: list[Row], *keys: tuple[str, KeyFunction]) -> Picked:
    """The first key decides, the next one among what is tied so far, then the total order."""
    tied = sorted(pool, key=place)
    n_tied = 0
    decided = "order"
    for number, (kind, key) in enumerate(keys):
        values = [key(row, tied) for row in tied]
        tied = [row for row, value in zip(tied, values, strict=True) if value == min(values)]
        if number == 0:
            n_tied = len(tied)
        if len(tied) == 1:
            decided = kind
            break
    return Picked(tied[0], n_tied, decided)


def ranked(pool: list[Row], *keys: tuple[str, KeyFunction]) -> list[Picked]:
    """The whole pool, best first: by the first key, those it ties by the next one, at last by the total order."""

    def order(tied: list[Row], level: int, n_tied: int) -> list[Picked]:
        if len(tied) == 1 or level == len(keys):
            decided = keys[max(level, 1) - 1][0] if len(tied) == 1 else "order"
            return [Picked(row, n_tied, decided) for row in tied]
        _, key = keys[level]
        values = [key(row, tied) for row in tied]
        found = []
        for value in sorted(set(values)):
            group = [row for row, own in zip(tied, values, strict=True) if own == value]
            found += order(group, level + 1, len(group) if level == 0 else n_tied)
        return found

    return order(sorted(pool, key=place), 0, 1)


def worse_than(chosen: Row, eligible: list[Row]) -> list[Row]:
    """Who may be rejected: strictly lower, with a text that differs in more than white space."""
    lower = [row for row in eligible if row["score"] < chosen["score"]]
    if not lower:
        raise NoPairError("no_contrast")
    other_text = [row for row in lower if row["text"] != chosen["text"]]
    if not other_text:
        raise NoPairError("identical_texts")
    return other_text


def by_highest_score(row: Row, _tied: list[Row]) -> float:
    return -float(row["score"])


def by_lowest_score(row: Row, _tied: list[Row]) -> float:
    return float(row["score"])


def by_draw(seed: int) -> KeyFunction:
    def key(row: Row, tied: list[Row]) -> float:
        """0 for the drawn one; where several are taken, the others follow in total order, round the end."""
        drawn = derive_seed("pair", seed, row["prompt_id"]) % len(tied)
        [own] = [number for number, other in enumerate(tied) if other is row]
        return (own - drawn) % len(tied)

    return key


# --------------------------------------------------------------------------------- one function for each named rule


def wpo_hybrid_v2(eligible: list[Row], options: Options) -> tuple[Picked, Picked]:
    unit = options["length"]
    chosen = pick(
        eligible, ("highest", by_highest_score), ("shortest", lambda row, _: length_of(row["response"], unit))
    )
    length = length_of(chosen.row["response"], unit)
    rejected = pick(
        worse_than(chosen.row, eligible),
        ("lowest", by_lowest_score),
        ("nearest_length", lambda row, _: abs(length_of(row["response"], unit) - length)),
    )
    return chosen, rejected


def wpo_hybrid_v1(eligible: list[Row], options: Options) -> tuple[Picked, Picked]:
    good = [row for row in eligible if row["score"] >= options["threshold"]]
    if not good:
        raise NoPairError("no_chosen")
    chosen = pick(good, ("highest", by_highest_score))
    clearly_worse = [
        row for row in worse_than(chosen.row, eligible) if row["score"] <= chosen.row["score"] - options["margin"]
    ]
    if not clearly_worse:
        raise NoPairError("no_rejected")
    return chosen, pick(clearly_worse, ("random", by_draw(options["seed"])))


def best_vs_worst(eligible: list[Row], _options: Options) -> tuple[Picked, Picked]:
    chosen = pick(eligible, ("highest", by_highest_score))
    return chosen, pick(worse_than(chosen.row, eligible), ("lowest", by_lowest_score))


def ultrafeedback_binarized(eligible: list[Row], options: Options) -> tuple[Picked, Picked]:
    chosen = pick(eligible, ("highest", by_highest_score))
    return chosen, pick(worse_than(chosen.row, eligible), ("random", by_draw(options["seed"])))


def admits(option: Options, row: Row, chosen: Row | None, eligible: list[Row], unit: str) -> bool:
    """Whether one filter lets a candidate in."""
    kind, score = option["kind"], row["score"]
    if kind == "score_at_least":
        return bool(score >= option["value"])
    if kind == "score_at_most":
        return bool(score <= option["value"])
    if kind in ("from_source", "not_from_source"):
        return (row["source"] in option["sources"]) == (kind == "from_source")
    if kind == "finish_reason":
        word = row.get("finish_reason") or "unknown"
        return bool({word, {"MAX_TOKENS": "length", "end_turn": "stop"}.get(word, word)} & {*option["reasons"]})
    if kind == "quantile":
        share = sum(other["score"] <= score for other in eligible) / len(eligible)
        low, high = option["at_least"], option["at_most"]
        return (low is None or share >= low) and (high is None or share <= high)
    assert chosen is not None
    if kind == "below_chosen":
        return bool(score <= chosen["score"] - option["margin"])
    if kind == "below_chosen_by_source":
        margin = option["margin" if chosen["source"] in option["sources"] else "margin_of_others"]
        return bool(score <= chosen["score"] - margin)
    if kind == "length_ratio":
        length, other = length_of(row["response"], unit), length_of(chosen["response"], unit)
        low, high = option["at_least"], option["at_most"]
        return (low is None or length >= low * other) and (high is None or length <= high * other)
    assert kind == "not_identical", kind
    if option["how"] == "exact":
        return bool(row["response"] != chosen["response"])
    return row["response"].split() != chosen["response"].split()


def custom(eligible: list[Row], options: Options) -> list[tuple[Picked, Picked]]:
    unit = options["length"]

    def keys(selection: Options, chosen: Row | None) -> list[tuple[str, KeyFunction]]:
        chosen_length = length_of(chosen["response"], unit) if chosen else 0

        def key_of(option: Options) -> KeyFunction:
            if option["kind"] == "random":
                return by_draw(option["seed"])
            functions: dict[str, KeyFunction] = {
                "highest": by_highest_score,
                "lowest": by_lowest_score,
                "shortest": lambda row, _: length_of(row["response"], unit),
                "longest": lambda row, _: -length_of(row["response"], unit),
                "nearest_length": lambda row, _: abs(length_of(row["response"], unit) - chosen_length),
                "first": lambda row, tied: next(at for at, other in enumerate(tied) if other is row),
            }
            return functions[option["kind"]]

        return [(option["kind"], key_of(option)) for option in selection["by"]]

    def admitted(pool: list[Row], selection: Options, chosen: Row | None) -> list[Row]:
        for option in selection["among"]:
            pool = [row for row in pool if admits(option, row, chosen, eligible, unit)]
        return pool

    pool = admitted(eligible, options["chosen"], None)
    if not pool:
        raise NoPairError("no_chosen")
    takes = [options.get(f"n_{side}", 1) for side in ("chosen", "rejected")]
    if takes == [1, 1]:
        chosen = pick(pool, *keys(options["chosen"], None))
        pool = admitted(worse_than(chosen.row, eligible), options["rejected"], chosen.row)
        if not pool:
            raise NoPairError("no_rejected")
        return [(chosen, pick(pool, *keys(options["rejected"], chosen.row)))]
    most, most_each = (None if take == "all" else take for take in takes)

    def against(chosen: Picked) -> list[Picked]:
        worse = admitted(worse_than(chosen.row, eligible), options["rejected"], chosen.row)
        return ranked(worse, *keys(options["rejected"], chosen.row))[:most_each]

    return each_with_each(ranked(pool, *keys(options["chosen"], None))[:most], against)


def each_with_each(
    many: list[Picked], against: Callable[[Picked], list[Picked]], matched: bool = False
) -> list[tuple[Picked, Picked]]:
    """Every chosen answer with all that `against` gives it, or only the i-th with its i-th."""
    pairs: list[tuple[Picked, Picked]] = []
    reasons = set()
    for number, chosen in enumerate(many):
        try:
            rejected = against(chosen)
        except NoPairError as nobody:
            reasons.add(str(nobody))
            continue
        reasons.add("no_rejected")
        pairs += [(chosen, other) for at, other in enumerate(rejected) if not matched or at == number]
    if not pairs:
        raise NoPairError(next(name for name in ("no_rejected", "identical_texts", "no_contrast") if name in reasons))
    return pairs


def dno(eligible: list[Row], options: Options) -> list[tuple[Picked, Picked]]:
    good = [row for row in eligible if row["score"] >= options["threshold"]]
    if not good:
        raise NoPairError("no_chosen")

    def against(chosen: Picked) -> list[Picked]:
        by_teacher = chosen.row["source"] in options["teacher"]
        margin = options["margin_teacher" if by_teacher else "margin_student"]
        worse = [row for row in worse_than(chosen.row, eligible) if row["score"] <= chosen.row["score"] - margin]
        return ranked(worse, ("lowest", by_lowest_score))

    return each_with_each(ranked(good, ("highest", by_highest_score)), against)


def rescored(row: Row, repetition: Options) -> float | None:
    """The score of an answer, or that of automatic negatives when many of its n-grams are not their first."""
    text, n, seen, repeats = row["response"], repetition["n"], Counter[Any](), 0
    if text is None or row["score"] is None:
        return row["score"]  # type: ignore[no-any-return]  # rows are what JSON gives
    units = text.split() if repetition["unit"] == "words" else list(text)
    for start in range(len(units) - n + 1):
        gram = str(units[start : start + n])
        repeats += seen[gram] > 0
        seen[gram] += 1
    heavy = seen.total() > 0 and repeats / seen.total() >= repetition["share"]
    return float(repetition["score"]) if heavy else row["score"]


def top_k_vs_bottom_k(eligible: list[Row], options: Options) -> list[tuple[Picked, Picked]]:
    top = ranked(eligible, ("highest", by_highest_score))[: options["k"]]

    def against(chosen: Picked) -> list[Picked]:
        return ranked(worse_than(chosen.row, eligible), ("lowest", by_lowest_score))[: options["k"]]

    return each_with_each(top, against, options["matched"])


def sigmoid(number: float) -> float:
    return 1 / (1 + math.exp(-number)) if number > -700 else 0.0


def extra_numbers(options: Options, pair: tuple[Picked, Picked], eligible: list[Row]) -> Row:
    """The columns that a rule adds, from the definitions in the papers; the label comes last."""
    chosen, rejected = (picked.row for picked in pair)
    extra: Row = {}
    if options["kind"] == "sppo":

        def win_rate(row: Row) -> float:
            met = [other for other in eligible if options["self_term"] or other is not row]
            return sum(sigmoid(row["score"] - other["score"]) for other in met) / len(met)

        extra["chosen_probs"] = sigmoid(chosen["score"] - rejected["score"])
        extra |= {"chosen_probs_win": win_rate(chosen), "chosen_probs_lose": win_rate(rejected)}
    if options["kind"] == "gpo":
        times = 2 if options["doubled"] else 1
        extra["chosen_probs"] = times * (chosen["score"] - rejected["score"])
        extra |= {"chosen_probs_win": times * chosen["score"], "chosen_probs_lose": times * rejected["score"]}
    if "label" in options:
        extra["label_chosen"] = sigmoid((chosen["score"] - rejected["score"]) / options["label"]["temperature"])
    return extra


RULES: dict[str, Callable[[list[Row], Options], Any]] = {
    "wpo_hybrid_v2": wpo_hybrid_v2,
    "wpo_hybrid_v1": wpo_hybrid_v1,
    "best_vs_worst": best_vs_worst,
    "snorkel_pairrm": best_vs_worst,
    "ultrafeedback_binarized": ultrafeedback_binarized,
    "sppo": best_vs_worst,
    "gpo": best_vs_worst,
    "dno": dno,
    "top_k_vs_bottom_k": top_k_vs_bottom_k,
    "custom": custom,
}


# ------------------------------------------------------------------------------------------------ the three tables


def expected(options: Options, rows: list[Row], prompt_ids: Iterable[str] | None = None) -> Expected:
    """The tables that the rule whose JSON form is `options` must give for `rows`."""
    pairs, drops, ineligible = [], [], []
    exact = options.get("identical") == "exact"
    rows = [row | {"text": row["response"] if exact else "".join((row["response"] or "").split())} for row in rows]
    if options.get("repetition"):
        rows = [row | {"score": rescored(row, options["repetition"])} for row in rows]
    for prompt_id in sorted({row["prompt_id"] for row in rows} if prompt_ids is None else set(prompt_ids)):
        candidates = sorted((row for row in rows if row["prompt_id"] == prompt_id), key=place)
        eligible = []
        refused: Counter[str] = Counter()
        for row in candidates:
            reason = why_ineligible(row, options["admit"])
            if reason is None:
                eligible.append(row)
                continue
            refused[reason] += 1
            told = {"unscored": "unscored", "failed": "finish_reason", "unknown_finish_reason": "finish_reason"}
            detail = row.get(told.get(reason, "")) or ""
            ineligible.append(
                {"prompt_id": prompt_id, "stage": "pairs", "reason": reason, "detail": detail}
                | {"source": row["source"], "index": row["index"]}
            )
        try:
            if len(eligible) < 2:
                raise NoPairError("too_few_candidates")
            if len({row["score"] for row in eligible}) == 1:
                raise NoPairError("no_contrast")
            found = RULES[options["kind"]](eligible, options)
            made = [found] if isinstance(found, tuple) else found
        except NoPairError as drop:
            counts = [f"{len(eligible)} of {len(candidates)} candidates eligible"]
            counts += [f"{refused[reason]} {reason}" for reason in REASONS if refused[reason]]
            counts += missing(str(drop), [row["score"] for row in eligible])
            drops.append({"prompt_id": prompt_id, "stage": "pairs", "reason": str(drop), "detail": ", ".join(counts)})
            continue
        counts = {"n_candidates": len(candidates), "n_eligible": len(eligible)}
        pairs += [
            {"prompt_id": prompt_id, "pair_index": number}
            | counts
            | traced("chosen", chosen, options["length"])
            | traced("rejected", rejected, options["length"])
            | {"score_margin": chosen.row["score"] - rejected.row["score"]}
            | extra_numbers(options, (chosen, rejected), eligible)
            for number, (chosen, rejected) in enumerate(made)
        ]
    return Expected(pairs, drops, ineligible)


def missing(reason: str, scores: list[float]) -> list[str]:
    """What a drop says of the scores."""
    if reason == "no_contrast" and len(set(scores)) == 1:
        return [f"all scores {shown(scores[0])}"]
    if reason not in ("no_chosen", "no_rejected"):
        return []
    margin = [f"largest difference {shown(max(scores) - min(scores))}"] if reason == "no_rejected" else []
    return [f"scores from {shown(min(scores))} to {shown(max(scores))}", *margin]


def shown(score: float) -> str:
    """A number as Polars writes it: without zeros in the exponent, and 0.0 for -0.0."""
    return re.sub(r"e([+-])0*", lambda match: "e" + match[1].replace("+", ""), str(score + 0.0))


def traced(side: str, picked: Picked, unit: str) -> Row:
    row = picked.row
    return {
        f"n_tied_{side}": picked.n_tied,
        f"decided_{side}": picked.decided,
        f"source_{side}": row["source"],
        f"index_{side}": row["index"],
        f"model_{side}": row.get("model"),
        f"score_{side}": row["score"],
        f"length_{side}": length_of(row["response"], unit),
        f"response_{side}": row["response"],
    }
