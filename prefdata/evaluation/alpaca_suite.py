"""Runs the suite `alpaca_eval` from instructions to results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefdata.errors import InputError
from prefdata.evaluation.alpaca_eval import Annotation, annotate, check_df_gamed, win_rates
from prefdata.evaluation.answering import Answer, answer_all
from prefdata.evaluation.judges import Judges, judge_beside
from prefdata.evaluation.presets import settings_of
from prefdata.evaluation.rows_of_files import PUBLISHED_BASELINE, InstructionSet, read_instructions
from prefdata.evaluation.subject import Subject
from prefdata.flow.disk import make_folder, write_json
from prefdata.flow.versions import packages
from prefdata.spec import JSON

__all__ = ["AlpacaOptions", "LengthControl", "run_alpaca_eval"]


@dataclass(frozen=True)
class LengthControl:
    """How the length-controlled win rate is computed."""

    df_gamed: str | Path | None
    """The file that it needs."""
    allow_other: bool
    """Whether another file than the published one is taken."""
    left_out: bool


@dataclass(frozen=True)
class AlpacaOptions:
    """What the suite is given."""

    baseline: str | Path | None
    judges: Judges
    preset: str
    settings: Mapping[str, JSON]
    limit: int | None
    length_control: LengthControl


def run_alpaca_eval(subject: Subject, options: AlpacaOptions, log: Callable[[str], None]) -> dict[str, JSON]:
    """Answers the instructions, judges the answers, and returns the results; what is finished is not done again.

    Raises:
        UserError: something is missing or refused. What can be found out before the first answer, is.
    """
    decoding, seed = settings_of(options.preset, options.settings)
    instructions = _instructions(options)
    gamed = _check_judges(options)
    generator = subject.answering()
    work = subject.work / "alpaca_eval"
    make_folder(work)
    # The engine is an input of the answers, beside the weights.
    pins = generator.pins()
    answers = answer_all(instructions.rows, generator, pins, decoding, seed, work, log)
    write_json(work / "model_outputs.json", [_output(answer, subject.name) for answer in answers])
    log(f"outputs: {work / 'model_outputs.json'}")
    results: dict[str, JSON] = {
        **_lengths(answers),
        "settings": {"preset": options.preset, "decoding": decoding.dump(), "seed": seed, "engine": pins},
        "inputs": {
            "instructions": instructions.name,
            "instructions_sha256": instructions.sha256,
            "instructions_are_published": instructions.sha256 == PUBLISHED_BASELINE,
            "baseline": instructions.generator,
            **gamed,
        },
        "versions": packages(),
    }
    if options.judges.annotator is not None:
        results |= _alpaca_eval(answers, instructions, subject, options, work, results, log)
    for name, scorer in options.judges.beside:
        log(f"judge: {name}")
        results.setdefault("judges", {})[name] = judge_beside(scorer, answers, seed, work, log)
    return results


def _instructions(options: AlpacaOptions) -> InstructionSet:
    if options.baseline is None:
        raise InputError(
            "the suite 'alpaca_eval' needs the instructions, and the baseline's outputs to them",
            valid="a file with the columns instruction and output, or OWNER/NAME[@REVISION][:FILE] of the Hub",
            hint="--baseline tatsu-lab/alpaca_eval:alpaca_eval_gpt4_baseline.json, or that file after a download",
        )
    instructions = read_instructions(options.baseline)
    if options.judges.annotator is not None and not instructions.has_baseline:
        raise InputError(
            f"{str(options.baseline)!r} lacks the baseline's output of some instructions, which AlpacaEval needs",
            valid="a text in the column `output` of each row",
            hint="leave AlpacaEval's judge out: --judge reward_model=MODEL needs no baseline",
        )
    if options.limit is None:
        return instructions
    return InstructionSet(
        instructions.name, instructions.sha256, instructions.rows[: options.limit], instructions.generator
    )


def _check_judges(options: AlpacaOptions) -> dict[str, JSON]:
    """Checks every judge before anything is answered; returns what the record says of length control."""
    for _, scorer in options.judges.beside:
        scorer.pins()
        for problem in scorer.problems():
            raise problem
    if options.judges.annotator is None:
        return {}
    options.judges.annotator.check()
    if options.length_control.left_out:
        return {}
    return check_df_gamed(options.length_control.df_gamed, allow_other=options.length_control.allow_other)


def _alpaca_eval(
    answers: Sequence[Answer],
    instructions: InstructionSet,
    subject: Subject,
    options: AlpacaOptions,
    work: Path,
    results: Mapping[str, JSON],
    log: Callable[[str], None],
) -> dict[str, JSON]:
    annotator = options.judges.annotator
    assert annotator is not None
    annotations = annotate(answers, annotator, work, log)
    names = (instructions.generator, subject.name)
    write_json(work / "annotations.json", [_annotated(row, names, annotator.name) for row in annotations])
    control = options.length_control
    df_gamed = None if control.left_out or control.df_gamed is None else Path(control.df_gamed)
    if df_gamed is not None and instructions.sha256 != PUBLISHED_BASELINE:
        log(f"{instructions.name!r} is not the published set: length control takes difficulties by the rows' positions")
    numbers = win_rates(annotations, annotator, names=names, df_gamed=df_gamed)
    versions = {**results["versions"], **numbers.pop("versions")}
    missing = sum(row.preference is None for row in annotations)
    inputs = {**results["inputs"], **annotator.inputs()}
    return {**numbers, "n_missing": missing, "versions": versions, "inputs": inputs}


def _lengths(answers: Sequence[Answer]) -> dict[str, JSON]:
    reasons = Counter(answer.finish_reason for answer in answers)
    # As AlpacaEval rounds it.
    mean = int(sum(len(answer.text) for answer in answers) / len(answers))
    return {"avg_length": mean, "n_answers": len(answers), "n_cut_off": reasons["length"]}


def _output(answer: Answer, name: str) -> dict[str, JSON]:
    row = answer.instruction
    part = {} if row.dataset is None else {"dataset": row.dataset}
    return {**part, "instruction": row.text, "output": answer.text, "generator": name}


def _annotated(row: Annotation, names: tuple[str, str], annotator: str) -> dict[str, JSON]:
    texts = {"instruction": row.instruction, "output_1": row.output_1, "output_2": row.output_2}
    generators = dict(zip(("generator_1", "generator_2"), names, strict=True))
    return {**texts, **generators, "annotator": Path(annotator).name, "preference": row.preference}
