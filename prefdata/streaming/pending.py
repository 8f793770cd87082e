"""Prompts of several pieces, counted and put aside together: one step for many pieces instead of one for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from prefdata.dataset.measures import AnswerArrays, Auditor, PairArrays
from prefdata.lazy import np, pa
from prefdata.streaming.digest import CandidateDigest
from prefdata.streaming.pieces import Rows, repeats
from prefdata.streaming.places import Labels, Numbers
from prefdata.streaming.rows import PROMPT_CELLS
from prefdata.streaming.select import Picks
from prefdata.streaming.spill import NO_TEXT

__all__ = ["PENDING_PROMPTS", "PairSink", "PendingPairs"]

PENDING_PROMPTS = 6_000
"""Prompts that wait to be counted."""

_SIDES = ("chosen", "rejected")
_RESPONSE = {side: f"response_{side}" for side in _SIDES}
_PROMPT = PROMPT_CELLS[0][0]
_Ints = NDArray[np.int64]
_Flags = NDArray[np.bool_]


class PairSink(Protocol):
    """Where pairs are put aside."""

    narrow: pa.Schema
    """Their columns, with a number in place of each text."""

    def order(self, ids: pa.Array) -> tuple[_Ints | None, _Ints]:
        """See `prefdata.streaming.spill.SortedRows.order`."""

    def add_texts(self, texts: Mapping[str, pa.Array], ends: _Ints) -> dict[str, _Ints]:
        """Takes the texts of pairs that are in `order`, and gives the numbers that stand for them."""

    def add_narrow(self, table: pa.Table) -> None:
        """Takes all else of the pairs whose texts came since the last call: schema `narrow`, in the same order."""


class PendingPairs:
    """Takes the prompts of each piece that are decided: texts of pairs go to disk at once, all else waits in arrays."""

    def __init__(self, spilled: PairSink, digest: CandidateDigest, auditor: Auditor) -> None:
        self._spilled, self._digest, self._auditor = spilled, digest, auditor
        self._decided: dict[str, list[str]] = {}
        self._clear()

    def _clear(self) -> None:
        self._arrays: dict[str, list[NDArray[Any]]] = {}
        self._pools: dict[str, dict[str, int]] = {}
        self._ids: list[pa.Array] = []
        self._prompts = self._pairs = self._answers = self._repeats = 0

    def __len__(self) -> int:
        return self._prompts

    def add(self, rows: Rows, picks: Picks, prompts: pa.Array, hashes: NDArray[np.uint64]) -> None:
        """Takes the runs of a piece that have one pair for certain, or for certain none.

        Args:
            rows: the piece.
            picks: of all its runs.
            prompts: the prompt of every run.
            hashes: `prefdata.streaming.digest.text_words` of the id of every run.
        """
        answers = rows.answers
        known = picks.certain | picks.flat
        runs, some = np.flatnonzero(known), slice(None) if known.all() else np.flatnonzero(known[answers.run])
        sizes = answers.sizes[runs]
        self._note(
            size=sizes,
            hashes=hashes[runs],
            words=answers.words[some],
            score=answers.score[some],
            n_bytes=answers.n_bytes[some],
            characters=rows.characters[some],
            length=answers.length[some],
        )
        for name, labels in rows.labels.items():
            self._note(**{name: labels.pooled(self._pools.setdefault(name, {}))[some]})
        if rows.index is not None:
            valid = np.ones(len(answers.run), bool) if rows.index.valid is None else rows.index.valid
            self._note(index=rows.index.values[some], valid=valid[some])
        self._add_pairs(rows, picks, prompts, some)
        self._repeats += int(known[repeats(answers)].sum())
        self._prompts += len(runs)
        self._answers += int(sizes.sum())

    def _add_pairs(self, rows: Rows, picks: Picks, prompts: pa.Array, some: slice | _Ints) -> None:
        answers, every = rows.answers, bool(picks.certain.all())
        runs = np.flatnonzero(picks.certain)
        ids = answers.prompt_ids if every else answers.prompt_ids.take(pa.array(runs))
        order, ends = self._spilled.order(ids)
        sides = dict(zip(_SIDES, (picks.chosen, picks.rejected), strict=True))
        at = {side: picked.row[runs] for side, picked in sides.items()}
        ordered = {side: rows_ if order is None else rows_[order] for side, rows_ in at.items()}
        texts = {_RESPONSE[side]: answers.text.take(pa.array(rows_)) for side, rows_ in ordered.items()}
        texts[_PROMPT] = _in_order(prompts, None if every else runs, order)
        self._note(**{f"put_{name}": put for name, put in self._spilled.add_texts(texts, ends).items()})
        self._note(
            order=(np.arange(len(runs)) if order is None else order) + self._pairs,
            n_candidates=answers.sizes[runs],
        )
        for side, picked in sides.items():
            place = at[side] if isinstance(some, slice) else np.searchsorted(some, at[side])
            self._note(
                **{
                    f"at_{side}": place + self._answers,
                    f"n_tied_{side}": picked.n_tied[runs],
                    f"decided_{side}": picked.decided[runs],
                }
            )
            self._decided[side] = picked.words
        self._ids.append(ids)
        self._pairs += len(runs)

    def flush(self) -> None:
        """Counts what waits and puts it aside."""
        if not self._prompts:
            return
        arrays = {name: parts[0] if len(parts) == 1 else np.concatenate(parts) for name, parts in self._arrays.items()}
        ids = pa.concat_arrays(self._ids)
        labels = {name: Labels(arrays[name], list(pool)) for name, pool in self._pools.items()}
        index = None
        if "index" in arrays:
            index = Numbers(arrays["index"], None if arrays["valid"].all() else arrays["valid"])
        starts = np.cumsum(arrays["size"]) - arrays["size"]
        self._digest.add(arrays["hashes"], starts, labels, index, arrays["score"], arrays["n_bytes"], arrays["words"])
        self._audit(arrays, labels.get("source"), index)
        self._spilled.add_narrow(self._rows(arrays, labels, index, ids))
        self._clear()

    def _note(self, **arrays: NDArray[Any]) -> None:
        for name, array in arrays.items():
            self._arrays.setdefault(name, []).append(array)

    def _audit(self, arrays: Mapping[str, NDArray[Any]], source: Labels | None, index: Numbers | None) -> None:
        others: dict[str, Any] = {"length": (arrays["characters"], None)}
        if index is not None:
            others["index"] = (index.values, index.valid)
        at = {side: arrays[f"at_{side}"] for side in _SIDES}
        nothing = {side: np.full(self._pairs, -1) for side in _SIDES}
        self._auditor.add_arrays(
            AnswerArrays(
                prompts=np.repeat(np.arange(self._prompts), arrays["size"]),
                scores=arrays["score"],
                sources=np.full(self._answers, -1) if source is None else source.codes,
                names=[] if source is None else source.names,
                others=others,
                repeats=self._repeats,
            ),
            PairArrays(
                differences=arrays["length"][at["chosen"]] - arrays["length"][at["rejected"]],
                tied={side: arrays[f"n_tied_{side}"] for side in _SIDES},
                sources=nothing if source is None else {side: source.codes[rows] for side, rows in at.items()},
            ),
        )

    def _rows(
        self, arrays: Mapping[str, NDArray[Any]], labels: Mapping[str, Labels], index: Numbers | None, ids: pa.Array
    ) -> pa.Table:
        """The pairs by the schema of `prefdata.tables.schemas.pairs_schema`, with a number in place of each text."""
        order = arrays["order"]
        size = arrays["n_candidates"][order]
        columns: dict[str, Any] = {
            "prompt_id": ids.take(pa.array(order)),
            "pair_index": np.zeros(len(order), np.int64),
            "n_candidates": size,
            "n_eligible": size,
            **{name: np.full(len(order), NO_TEXT) for name, _ in PROMPT_CELLS},
            _PROMPT: arrays[f"put_{_PROMPT}"],
        }
        nothing = pa.nulls(len(order), pa.string())
        for side in _SIDES:
            at = arrays[f"at_{side}"][order]
            columns |= {
                f"n_tied_{side}": arrays[f"n_tied_{side}"][order],
                f"decided_{side}": Labels(arrays[f"decided_{side}"][order], self._decided[side]).texts(),
                f"index_{side}": pa.nulls(len(order), pa.int64()) if index is None else index[at].numbers(),
                f"score_{side}": arrays["score"][at],
                f"length_{side}": arrays["length"][at],
                _RESPONSE[side]: arrays[f"put_{_RESPONSE[side]}"],
            }
            for name in ("source", "model"):
                columns[f"{name}_{side}"] = labels[name][at].texts() if name in labels else nothing
        columns["score_margin"] = columns["score_chosen"] - columns["score_rejected"]
        schema = self._spilled.narrow
        return pa.table([columns[name] for name in schema.names], schema=schema)


def _in_order(texts: pa.Array, some: _Ints | None, order: _Ints | None) -> pa.Array:
    if some is None and order is None:
        return texts
    rows = order if some is None else some if order is None else some[order]
    return texts.take(pa.array(rows))
