"""An evaluated model: its answers beside those of the baseline, or of another evaluated model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prefdata.errors import InputError
from prefdata.evaluation.compare import compare
from prefdata.evaluation.record import FILE, read_record
from prefdata.evaluation.rows_of_files import read_list
from prefdata.page.flows import flow
from prefdata.page.rows import Answer, PageRow, pair_values
from prefdata.page.sources import Overview
from prefdata.publish.card.evaluation import number_text

__all__ = ["EvaluationSource", "is_evaluation"]

_TIE = 1.5


def is_evaluation(path: Path) -> bool:
    """Checks whether a path is the folder of an evaluated model, or its record."""
    return path.name == FILE if path.is_file() else (path / FILE).is_file()


class EvaluationSource:
    """Reads the answers of the suite `alpaca_eval`; the numbers of every suite are on the overview.

    Args:
        folder: of the evaluated model, or its `evaluation.json`.
        other: another one, whose answers are on the other side in place of the baseline's.

    Raises:
        InputError: there is no evaluation, or one without answers.
    """

    kind = "evaluation"

    def __init__(self, folder: Path, other: Path | None = None) -> None:
        self._folder, self._other = folder, other
        self.title, self._rows = _read(folder)
        if other is None:
            name = next(
                (row["baseline_name"] for row in self._rows.values() if row["baseline"] is not None), "baseline"
            )
            self._beside: Mapping[str, Mapping[str, Any]] = {}
        else:
            name, self._beside = _read(other)
        name = name if name != self.title else f"{name} (other)"
        self.sides = (self.title, name)
        self.titles: Mapping[str, str] = {
            **{
                f"length_{side}": f"length, {title}"
                for side, title in zip(("chosen", "rejected"), self.sides, strict=True)
            },
            "length_difference": f"length, {self.title} less {name}",
            "preference": f"preference, {self.title}",
            "preference_other": f"preference, {name}",
        }
        self._counts: dict[str, int] = {}

    def text_bytes(self) -> int:
        """Says about how many bytes of text there are."""
        return sum(len(str(value)) for row in self._rows.values() for value in row.values())

    def rows(self) -> Iterator[PageRow]:
        """Yields every instruction with both answers."""
        self._counts = {}
        for number, (key, row) in enumerate(self._rows.items()):
            beside = self._beside.get(key, {})
            other = beside.get("output") if self._other is not None else row["baseline"]
            answers = [Answer(self.sides[0], None, None, row["output"], length=len(row["output"]))]
            if other is not None:
                answers.append(Answer(self.sides[1], None, None, other, length=len(other)))
            made = PageRow(f"{number:05d}", [("user", key)], answers, 0, 1 if len(answers) == 2 else None)
            first, second = row["preference"], beside.get("preference")
            made.outcome = self._outcome(first, second)
            made.values = {
                "preference": first,
                "preference_other": second,
                "source_chosen": None,
                "source_rejected": None,
            }
            self._counts[made.outcome] = self._counts.get(made.outcome, 0) + 1
            pair_values(made)
            made.values = {name: value for name, value in made.values.items() if value is not None}
            yield made

    def _outcome(self, first: float | None, second: float | None) -> str:
        if self._other is not None:
            if first is None or second is None:
                return "not judged"
            return "equal" if first == second else f"{self.sides[0 if first > second else 1]} better"
        if first is None:
            return "not judged"
        return "tie" if first == _TIE else f"{self.sides[0 if first > _TIE else 1]} preferred"

    def overview(self) -> Overview:
        """Describes the models by their numbers."""
        folders = [self._folder, *([self._other] if self._other is not None else [])]
        numbers = compare(*folders)
        facts = [("Model", self.title), ("Beside it", self.sides[1]), ("Instructions", f"{len(self._rows):,}")]
        overview = Overview(facts)
        rows = [
            [name, *("-" if cell is None else number_text(cell) for cell in cells)]
            for name, cells in numbers.rows.items()
        ]
        overview.tables = [{"title": "Numbers, ± standard error", "head": ["measure", *numbers.models], "rows": rows}]
        links = [("instructions", name, count, ["outcome", name]) for name, count in sorted(self._counts.items())]
        overview.flows = [flow("Whose answer is preferred", "instructions", links)]
        return overview


def _read(folder: Path) -> tuple[str, dict[str, dict[str, Any]]]:
    """Reads a model's name, and its answers by instruction."""
    record = read_record(folder)
    work = (folder if folder.is_dir() else folder.parent) / "evaluation" / "alpaca_eval"
    files = [work / "annotations.json", work / "model_outputs.json"]
    file = next((path for path in files if path.is_file()), None)
    if file is None:
        raise InputError(
            f"the evaluation in {str(folder)!r} has no answers to show",
            valid="an evaluation by the suite alpaca_eval; others have numbers only",
            hint="prefdata compare prints the numbers of every suite",
        )
    rows: dict[str, dict[str, Any]] = {}
    for row in read_list(file):
        instruction, output = row.get("instruction"), row.get("output_2", row.get("output"))
        preference = row.get("preference")
        if not isinstance(instruction, str) or not isinstance(output, str):
            raise InputError(f"{str(file)!r} is not as prefdata evaluate writes it: a row lacks its texts")
        rows.setdefault(
            instruction,
            {
                "output": output,
                "baseline": row.get("output_1"),
                "baseline_name": str(row.get("generator_1") or "baseline"),
                "preference": preference if isinstance(preference, int | float) and preference > 0 else None,
            },
        )
    return str(record["model"].get("name") or folder.name), rows
