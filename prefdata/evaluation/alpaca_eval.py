"""The suite `alpaca_eval`: answers to instructions, judged against a baseline by AlpacaEval's own annotator.

AlpacaEval (github.com/tatsu-lab/alpaca_eval) runs in a process of its own. Annotations come from a file, or from the
annotator behind an endpoint; each is kept as soon as it is there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefdata.errors import InputError, MissingExtraError, ModelError
from prefdata.evaluation.answering import Answer
from prefdata.evaluation.rows_of_files import read_list
from prefdata.evaluation.subject import chat_endpoint
from prefdata.flow.journal import Journal
from prefdata.models.worker import stream
from prefdata.spec import JSON, fingerprint, sha256_of_file
from prefdata.tables import files
from prefdata.tables.table import check_columns

__all__ = ["DF_GAMED", "Annotation", "Annotator", "annotate", "check_df_gamed", "win_rates"]

DF_GAMED = "97aeec3f1c7de6dee6fd31fe66f1702623f4614c3efe1c6fc5f4927cd5fd674d"
"""SHA-256 of the published df_gamed.csv."""
_PLACE = "the dataset tatsu-lab/alpaca_eval of the Hub, at revision 2edc6fad8be6b14ea7230aabfd08188da6b8b814"
_COLUMNS = (*("preference", "index", "std_delta_len", "instruction_difficulty", "not_gamed_baseline", "model"),)
_WORKER = "prefdata.evaluation._alpaca_worker"
_ROWS_AT_ONCE = 16
_MISSING = (None, -1)
"""What AlpacaEval writes where its annotator gave no preference."""


@dataclass(frozen=True)
class Annotation:
    """Which of two outputs is preferred."""

    index: int
    instruction: str
    output_1: str
    """Of the baseline."""
    output_2: str
    """Of the model."""
    preference: float | None = None
    """1: the baseline's output; 2: the model's; 1.5: neither. None where the annotator gave none."""

    @property
    def key(self) -> str:
        """Names the row by its texts."""
        return fingerprint([self.instruction, self.output_1, self.output_2])


@dataclass(frozen=True)
class Annotator:
    """Where annotations come from."""

    name: str
    """A configuration of AlpacaEval, or the folder of one."""
    annotations: Path | None = None
    """A file of annotations, as AlpacaEval writes it."""
    endpoint: str | None = None
    """Address of the endpoint that is asked for what the file lacks."""
    key_env: str = "OPENAI_API_KEY"
    """The variable that holds its key."""

    def check(self) -> None:
        """Finds out what would stop it, before anything is answered.

        Raises:
            UserError: a package, file or key is missing.
        """
        for package in ("alpaca_eval", "sklearn"):
            for problem in MissingExtraError.all_of("the suite 'alpaca_eval'", "evaluation", package):
                raise problem
        if self.annotations is not None:
            files.sha256(self.annotations)
        if self.endpoint is not None:
            for problem in chat_endpoint(self.name, self.endpoint, self.key_env).problems():
                raise problem

    def environment(self) -> dict[str, str]:
        """Returns the variables that only the annotator's own process gets, its key among them."""
        offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        if self.endpoint is None:
            return offline
        key = os.environ.get(self.key_env, "").strip()
        # A file of clients next to the package would take the place of this endpoint.
        own = {"OPENAI_BASE_URL": self.endpoint, "OPENAI_API_KEY": key or "none"}
        own["OPENAI_CLIENT_CONFIG_PATH"] = f"{os.devnull}/none"
        return {**offline, **own}

    def inputs(self) -> dict[str, JSON]:
        """Describes it for the record."""
        hashed = {} if self.annotations is None else {"annotations_sha256": files.sha256(self.annotations)}
        asked = {} if self.endpoint is None else {"endpoint": self.endpoint}
        return {"annotator": Path(self.name).name, **self.files(), **hashed, **asked}

    def files(self) -> dict[str, JSON]:
        """Hashes the files of its folder, by their paths in it; nothing for a configuration of AlpacaEval."""
        folder = Path(self.name)
        if not folder.is_dir():
            return {}
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return {"annotator_files": {path.relative_to(folder).as_posix(): sha256_of_file(path) for path in paths}}


def check_df_gamed(file: str | Path | None, *, allow_other: bool) -> dict[str, JSON]:
    """Checks the file that length control needs.

    Args:
        file: df_gamed.csv.
        allow_other: whether another file than the published one is taken.

    Returns:
        Its hash, and whether it is the published one.

    Raises:
        InputError: it is missing, has other columns, or is not the published one.
    """
    if file is None:
        raise InputError(
            "the length-controlled win rate needs the file df_gamed.csv, which was not given",
            valid=f"df_gamed.csv of {_PLACE}; SHA-256 {DF_GAMED}",
            hint="download it and name it with --df-gamed FILE; or leave length control out with --no-length-control",
        )
    digest = files.sha256(file)
    check_columns(repr(str(file)), _COLUMNS, files.columns(file))
    if digest != DF_GAMED and not allow_other:
        raise InputError(
            f"{str(file)!r} is not the published df_gamed.csv: its SHA-256 is {digest}",
            valid=f"df_gamed.csv of {_PLACE}; SHA-256 {DF_GAMED}",
            hint="take that file, or take this one with --allow-other-df-gamed, which the results state",
        )
    return {"df_gamed_sha256": digest, "df_gamed_is_published": digest == DF_GAMED}


def annotate(
    answers: Sequence[Answer], annotator: Annotator, work: Path, log: Callable[[str], None]
) -> list[Annotation]:
    """Annotates each answer against the baseline's, in order.

    Args:
        answers: to instructions with a baseline's output.
        annotator: where annotations come from.
        work: the folder of the journal of annotations that were paid for.
        log: takes a line for the person who watches.

    Raises:
        InputError: the file lacks annotations, and there is no endpoint to ask.
        ModelError: the endpoint can't be reached or refuses the requests.
    """
    rows = [
        Annotation(row.instruction.index, row.instruction.text, row.instruction.baseline or "", row.text)
        for row in answers
    ]
    known = _cached(annotator, rows)
    depends = [Path(annotator.name).name, annotator.endpoint, *annotator.files().values()]
    name = fingerprint(depends)[:16]
    journal = Journal(work / f"annotations-{name}.jsonl")
    if annotator.endpoint is not None:
        known |= {record["key"]: record["preference"] for record in journal.read()}
    waiting = {row.key: row for row in rows if row.key not in known}
    if waiting and annotator.endpoint is None:
        raise InputError(
            f"{str(annotator.annotations)!r} lacks the annotations of {len(waiting):,} of {len(rows):,} rows; the "
            f"first is row {min(row.index for row in waiting.values())}",
            valid="a preference for each instruction with the baseline's output and the model's own, text by text",
            hint="give an endpoint that annotates the rest: --judge alpaca_eval=URL. The answers are kept",
        )
    if waiting:
        log(f"{len(rows) - len(waiting):,} of {len(rows):,} annotations are there; the others are asked for")
        known |= _asked(list(waiting.values()), annotator, journal)
    found = [Annotation(row.index, row.instruction, row.output_1, row.output_2, known.get(row.key)) for row in rows]
    if missing := sum(row.preference is None for row in found):
        log(f"the annotator gave no preference for {missing:,} of {len(found):,} rows: run again to ask for these")
        if missing == len(found):
            raise ModelError(
                "the annotator gave no preference at all: none of its replies could be read",
                hint="does the endpoint give log-probabilities, and are there lines of its errors above?",
            )
    return found


def _cached(annotator: Annotator, rows: Sequence[Annotation]) -> dict[str, float | None]:
    known: dict[str, float | None] = {row.key: 1.5 for row in rows if row.output_1 == row.output_2}
    if annotator.annotations is None:
        return known
    wanted = {row.key for row in rows}
    for row in read_list(annotator.annotations):
        check_columns(repr(str(annotator.annotations)), ("instruction", "output_1", "output_2", "preference"), row)
        given, preference = row.get("annotator"), row["preference"]
        if preference in _MISSING or given not in (None, Path(annotator.name).name):
            continue
        key = fingerprint([row["instruction"], row["output_1"], row["output_2"]])
        if key in wanted:
            known[key] = _preference(preference, str(annotator.annotations))
    return known


def _preference(value: JSON, where: str) -> float:
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else -1.0
    # Once 0 was written for a draw.
    number = 1.5 if number == 0 else number
    if not 1 <= number <= 2:
        raise InputError(f"{where!r} holds the preference {value!r}", valid="a number from 1 (baseline) to 2 (model)")
    return number


def _asked(rows: Sequence[Annotation], annotator: Annotator, journal: Journal) -> dict[str, float]:
    """Asks the endpoint, some rows at a time; each reply is kept at once."""
    starts = range(0, len(rows), _ROWS_AT_ONCE)
    items = (
        {
            "annotate": [
                {"instruction": row.instruction, "output_1": row.output_1, "output_2": row.output_2}
                for row in rows[start : start + _ROWS_AT_ONCE]
            ]
        }
        for start in starts
    )
    preferences: dict[str, float] = {}
    try:
        for start, result in zip(starts, _worker(items, annotator, _config(annotator)), strict=True):
            for row, preference in zip(rows[start : start + _ROWS_AT_ONCE], result["preferences"], strict=True):
                if preference is not None:
                    preferences[row.key] = preference
                    journal.append({"key": row.key, "index": row.index, "preference": preference})
            journal.sync()
    finally:
        journal.close()
    return preferences


def win_rates(
    annotations: Sequence[Annotation], annotator: Annotator, *, names: tuple[str, str], df_gamed: Path | None
) -> dict[str, JSON]:
    """Computes AlpacaEval's own numbers.

    Args:
        annotations: in the order of the evaluation set.
        annotator: which gave them.
        names: of baseline and model.
        df_gamed: the file that length control needs; None leaves length control out.

    Returns:
        `win_rate`, `standard_error`, `n_wins`, ..., with length control also `length_controlled_winrate` and
        `lc_standard_error`; and `versions` of the packages.
    """
    (result,) = _worker([_measured(annotations, names, df_gamed)], annotator, _config(annotator))
    return dict(result["metrics"])


def _measured(annotations: Sequence[Annotation], names: tuple[str, str], df_gamed: Path | None) -> dict[str, JSON]:
    return {
        "measure": [[row.index, row.preference, len(row.output_1), len(row.output_2)] for row in annotations],
        "df_gamed": None if df_gamed is None else str(df_gamed.resolve()),
        "names": list(names),
    }


def _config(annotator: Annotator) -> dict[str, JSON]:
    folder = Path(annotator.name)
    return {"annotator": str(folder.resolve()) if folder.is_dir() else annotator.name, "endpoint": annotator.endpoint}


def _worker(
    items: Iterator[dict[str, JSON]] | Sequence[dict[str, JSON]], annotator: Annotator, config: Mapping[str, JSON]
) -> Iterator[dict[str, JSON]]:
    return stream(_WORKER, config, items, in_flight=1, env=annotator.environment(), name="AlpacaEval")
