"""What every pair rule must give, in plain Python: lists, dicts, `min` and `max`, one function for each rule.

Written from the published descriptions and the contract of `PairRule`, not from its code. Slow and obvious on
purpose. A candidate is a dict with `prompt_id`, `source`, `index`, `response`, `score` and, where the table has them,
`model`, `finish_reason` and `unscored`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

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


REASONS = ("missing_response", "blank", "unscored", "cut_off")


def why_ineligible(row: Row, admit: Sequence[str]) -> str | None:
    if row["response"] is None:
        return "missing_response"
    if is_blank(row["response"]) and "blank" not in admit:
        return "blank"
    if row["score"] is None:
        return "unscored"
    if row.get("finish_reason") == "length" and "cut_off" not in admit:
        return "cut_off"
    return None


def place(row: Row) -> tuple[Any, ...]:
    """The total order: source, index, response, ascending, nulls first; then the score, for repeated rows."""
    source, index = row["source"], row["index"]
    return (source is not None, source or "", index is not None, index or 0, row["response"] or "", row["score"] or 0.0)


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


def worse_than(chosen: Row, eligible: list[Row]) -> list[Row]:
    """Who may be rejected: strictly lower, with another text."""
    lower = [row for row in eligible if row["score"] < chosen["score"]]
    if not lower:
        raise NoPairError("no_contrast")
    other_text = [row for row in lower if row["response"] != chosen["response"]]
    if not other_text:
        raise NoPairError("identical_texts")
    return other_text


def by_highest_score(row: Row, _tied: list[Row]) -> float:
    return -float(row["score"])


def by_lowest_score(row: Row, _tied: list[Row]) -> float:
    return float(row["score"])


def by_draw(seed: int) -> KeyFunction:
    def key(row: Row, tied: list[Row]) -> float:
        drawn = tied[derive_seed("pair", seed, row["prompt_id"]) % len(tied)]
        return 0 if row is drawn else 1

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


def custom(eligible: list[Row], options: Options) -> tuple[Picked, Picked]:
    unit = options["length"]

    def keys(selection: Options, chosen_length: int) -> list[tuple[str, KeyFunction]]:
        def key_of(option: Options) -> KeyFunction:
            if option["kind"] == "random":
                return by_draw(option["seed"])
            functions: dict[str, KeyFunction] = {
                "highest": by_highest_score,
                "lowest": by_lowest_score,
                "shortest": lambda row, _: length_of(row["response"], unit),
                "longest": lambda row, _: -length_of(row["response"], unit),
                "nearest_length": lambda row, _: abs(length_of(row["response"], unit) - chosen_length),
            }
            return functions[option["kind"]]

        return [(option["kind"], key_of(option)) for option in selection["by"]]

    def admitted(pool: list[Row], selection: Options, chosen_score: float) -> list[Row]:
        for option in selection["among"]:
            if option["kind"] == "score_at_least":
                pool = [row for row in pool if row["score"] >= option["value"]]
            else:
                pool = [row for row in pool if row["score"] <= chosen_score - option["margin"]]
        return pool

    pool = admitted(eligible, options["chosen"], 0.0)
    if not pool:
        raise NoPairError("no_chosen")
    chosen = pick(pool, *keys(options["chosen"], 0))
    pool = admitted(worse_than(chosen.row, eligible), options["rejected"], chosen.row["score"])
    if not pool:
        raise NoPairError("no_rejected")
    return chosen, pick(pool, *keys(options["rejected"], length_of(chosen.row["response"], unit)))


RULES: dict[str, Callable[[list[Row], Options], tuple[Picked, Picked]]] = {
    "wpo_hybrid_v2": wpo_hybrid_v2,
    "wpo_hybrid_v1": wpo_hybrid_v1,
    "best_vs_worst": best_vs_worst,
    "snorkel_pairrm": best_vs_worst,
    "ultrafeedback_binarized": ultrafeedback_binarized,
    "custom": custom,
}


# ------------------------------------------------------------------------------------------------ the three tables


def expected(options: Options, rows: list[Row], prompt_ids: Iterable[str] | None = None) -> Expected:
    """The tables that the rule whose JSON form is `options` must give for `rows`."""
    pairs, drops, ineligible = [], [], []
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
            detail = (row.get("unscored") or "") if reason == "unscored" else ""
            ineligible.append(
                {"prompt_id": prompt_id, "stage": "pairs", "reason": reason, "detail": detail}
                | {"source": row["source"], "index": row["index"]}
            )
        try:
            if len(eligible) < 2:
                raise NoPairError("too_few_candidates")
            if len({row["score"] for row in eligible}) == 1:
                raise NoPairError("no_contrast")
            chosen, rejected = RULES[options["kind"]](eligible, options)
        except NoPairError as drop:
            counts = [f"{len(eligible)} of {len(candidates)} candidates eligible"]
            counts += [f"{refused[reason]} {reason}" for reason in REASONS if refused[reason]]
            drops.append({"prompt_id": prompt_id, "stage": "pairs", "reason": str(drop), "detail": ", ".join(counts)})
            continue
        pairs.append(
            {"prompt_id": prompt_id, "n_candidates": len(candidates), "n_eligible": len(eligible)}
            | traced("chosen", chosen, options["length"])
            | traced("rejected", rejected, options["length"])
            | {"score_margin": chosen.row["score"] - rejected.row["score"]}
        )
    return Expected(pairs, drops, ineligible)


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
