"""Every answer with its score, put aside while a table is paired, as the dataset folder holds them beside the pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from numpy.typing import NDArray

from prefdata.lazy import np, pa, pc, pl
from prefdata.streaming.pieces import Rows
from prefdata.streaming.places import sorted_by
from prefdata.streaming.rows import PROMPT_CELLS, as_messages
from prefdata.streaming.spill import TAKEN_BYTES, SortedRows
from prefdata.tables.answers import answer_rows
from prefdata.tables.schemas import ANSWERS

__all__ = ["AnswersAside"]

_KEPT = pa.schema([field for field in ANSWERS if field.name not in ("prompt", "n_tokens")])
_ASKED = pa.schema([("prompt_id", pa.string()), *PROMPT_CELLS])


class AnswersAside:
    """Answers and their prompts on disk; a prompt's answers are in the order in which they are published."""

    def __init__(self, folder: Path, edges: Sequence[str]) -> None:
        self._answers = SortedRows(folder / "answers", edges, _KEPT, ("response",))
        self._prompts = SortedRows(folder / "prompts", edges, _ASKED, [name for name, _ in PROMPT_CELLS])

    def add(self, rows: Rows, runs: NDArray[np.int64], ids: pa.Array, cells: Sequence[pa.Array]) -> None:
        """Adds the answers of some runs, of which source and index tell all rows apart.

        Args:
            rows: the piece.
            runs: which.
            ids: of the runs.
            cells: their prompts as `PROMPT_CELLS`.
        """
        answers = rows.answers
        rank = np.full(len(answers.starts), -1)
        rank[runs] = np.arange(len(runs))
        some = np.flatnonzero(rank[answers.run] >= 0)
        some = some[sorted_by([answers.place[some], rank[answers.run[some]]])]
        nothing = pa.nulls(len(some), pa.string())
        columns = {name: labels[some].texts() for name, labels in rows.labels.items()}
        columns |= {
            "prompt_id": ids.take(pa.array(rank[answers.run[some]])),
            "index": pa.nulls(len(some), pa.int64()) if rows.index is None else rows.index[some].numbers(),
            "response": answers.text.take(pa.array(some)),
            "score": pa.array(answers.score[some]),
        }
        self._answers.add(pa.table([columns.get(name, nothing) for name in _KEPT.names], schema=_KEPT))
        self._prompts.add(pa.table([ids, *cells], schema=_ASKED))

    def add_frame(self, candidates: pl.DataFrame, prompts: pa.Table) -> None:
        """Adds answers by prompt and in their order, and their prompts, with `PROMPT_CELLS`."""
        self._answers.add(candidates.select(_KEPT.names).to_arrow().cast(_KEPT).combine_chunks())
        prompts = prompts.cast(_ASKED)
        # A prompt may have no answers; both stores must have the same buckets.
        answered = pc.is_in(prompts["prompt_id"], pa.array(candidates["prompt_id"].unique().to_list(), pa.string()))
        self._prompts.add(prompts.filter(answered).combine_chunks())

    def tables(self) -> Iterator[pa.Table]:
        """Schema `prefdata.tables.schemas.ANSWERS`, in tables of bounded size."""
        yield ANSWERS.empty_table()
        for (answers, order), (asked, _) in zip(self._answers.buckets(), self._prompts.buckets(), strict=True):
            known = asked.narrow["prompt_id"].chunk(0)
            step = answers.step(TAKEN_BYTES)
            for start in range(0, len(order), step):
                part = answers.take(order[start : start + step])
                places = pc.index_in(part["prompt_id"].unique(), value_set=known)
                prompts = asked.take(places.to_numpy().astype(np.int64))
                texts, turns = (prompts[name].combine_chunks() for name, _ in PROMPT_CELLS)
                shown = pa.table({"prompt_id": prompts["prompt_id"], "messages": as_messages(texts, turns)})
                yield answer_rows(pl.DataFrame(pl.from_arrow(part)), shown)
